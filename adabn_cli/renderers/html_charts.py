"""Charts of a record as inline SVG, light and dark by the page's colours. Knows no page.

Holds numbers and words of its own alone: names come from disk, and the tables beside the charts
show them. The same record gives the same bytes with the same matplotlib.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from adabn_cli.errors import UsageError
from adabn_cli.record import Record
from adabn_cli.renderers.figures import number
from adabn_cli.renderers.wording import comparisons

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Drawn in these, and replaced by the page's colours: a style sheet cannot reach into matplotlib's.
_INK, _FAINT, _BEFORE, _AFTER = "#010101", "#020202", "#030303", "#040404"
_COLOURS = {
    _INK: "var(--ink, #1f2328)",
    _FAINT: "var(--line, #d0d7de)",
    _BEFORE: "var(--before, #b35900)",
    _AFTER: "var(--after, #0969da)",
}
_INCHES = 4.6  # 331 px, a phone's width: text is as large there as it is drawn.
_STYLE = {
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "text.color": _INK,
    "text.parse_math": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
}
# A style element would style the whole page, and groups are numbered alike in every chart.
_SUPERFLUOUS = [
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"<defs>\s*<style.*?</style>\s*</defs>",
        r"<metadata>.*?</metadata>",
        r"<g [^>]*/>",
        r"font-family: [^;\"]*;? ?",
    )
]


@dataclass(frozen=True)
class Chart:
    """An SVG element, and what it shows in one sentence."""

    svg: Markup
    told: str


def require_matplotlib() -> None:
    """Raises UsageError where the charts cannot be drawn, with what to install."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "matplotlib is not installed, and the page's charts are drawn with it.",
            where="--html",
            hint='Run pip install "adabn[report]", or write --md, which needs none.',
        ) from error


def accuracy_chart(record: Record) -> Chart | None:
    """Accuracy before and after with 95% intervals; None without labels."""
    rows = [
        (f"{one.name}, {phase}", scores, colour)
        for one in comparisons(record)
        for phase, scores, colour in (
            ("before", one.before, _BEFORE),
            ("after", one.after, _AFTER),
        )
    ]
    if not rows:
        return None
    with _figure("accuracy", height=0.62 + 0.3 * len(rows)) as (figure, axes):
        for row, (_, scores, colour) in enumerate(rows):
            low, high = scores.accuracy_interval or (scores.accuracy or 0,) * 2
            axes.plot([100 * low, 100 * high], [row, row], color=colour, linewidth=2)
            filled = "none" if colour == _BEFORE else colour
            point = 100 * (scores.accuracy or 0)
            axes.plot(point, row, "o", color=colour, markerfacecolor=filled, markersize=7)
        axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        axes.set(xlim=(-2, 102), ylim=(len(rows) - 0.4, -0.6), xlabel="accuracy, %")
        axes.grid(visible=False, axis="y")
        svg = _svg(figure, "Accuracy before and after, with 95% intervals")
    return Chart(svg, "Accuracy with its 95% interval; hollow before, filled after.")


def divergence_chart(record: Record) -> Chart | None:
    """Mean KL of each site in depth order, before and after; None where no site was measured."""
    before = [site.kl_before.mean if site.kl_before else None for site in record.sites]
    after = [site.kl_after.mean if site.kl_after else None for site in record.sites]
    known = [value for value in (*before, *after) if value is not None]
    if not known:
        return None
    places = range(1, len(record.sites) + 1)
    few = len(places) <= 60
    from matplotlib.ticker import MaxNLocator

    with _figure("divergence", height=2.7) as (figure, axes):
        for name, values, line, colour, face in (
            ("before", before, "--", _BEFORE, "none"),
            ("after", after, "-", _AFTER, _AFTER),
        ):
            axes.plot(
                places,
                _gaps(values),
                line,
                marker="o" if few else "",
                linewidth=1.5 if few else 1.0,
                color=colour,
                markerfacecolor=face,
                markersize=5,
                label=name,
            )
        _scale_divergences(axes, known)
        axes.set(xlabel="site, in depth order", ylabel="mean KL, nats")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside upper right", ncols=2)
        svg = _svg(figure, "Mean KL of each site in depth order, before and after")
    largest = max(value for value in before if value is not None) if any(before) else None
    return Chart(
        svg,
        "Mean KL over the neurons of each site, numbered in depth order; dashed before, solid "
        f"after. The largest before is {number(largest)} nats.",
    )


def _gaps(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def _scale_divergences(axes: Axes, known: Sequence[float]) -> None:
    """Logarithmic where the sites differ by more than a linear axis could show."""
    if min(known) > 0 and max(known) > 20 * min(known):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda value, _: "")
    else:
        axes.set_ylim(bottom=0)


@contextmanager
def _figure(salt: str, *, height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure drawn in our own style, whatever this machine's matplotlibrc says."""
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", {**_STYLE, "svg.hashsalt": salt}]):
        figure = Figure(figsize=(_INCHES, height), layout="constrained")
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        yield figure, axes


def _svg(figure: Figure, title: str) -> Markup:
    """The figure as an element of a page: no prolog, no ids of its own, no fixed size."""
    drawn = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(drawn, format="svg", metadata=nothing)
    text = drawn.getvalue()
    text = text[text.index("<svg") :]
    for superfluous in _SUPERFLUOUS:
        text = superfluous.sub("", text)
    text = re.sub(r"<g [^>]*>", "<g>", text)
    text = re.sub(r"(\d+\.\d\d)\d+", r"\1", text)
    for drawn_in, shown_in in _COLOURS.items():
        text = text.replace(drawn_in, shown_in)
    text = re.sub(r"\s*\n\s*", " ", text).strip()
    view = re.search(r'viewBox="[^"]*"', text)
    opening = f'<svg class="chart" role="img" aria-label="{title}" width="560"'
    opened = f"{opening} {view.group() if view else ''}>"
    return Markup(re.sub(r"<svg[^>]*>", opened, text, count=1))
