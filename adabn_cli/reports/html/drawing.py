"""How a chart is drawn as inline SVG, light and dark by the page's colours. Knows no record.

The same drawing gives the same bytes with the same matplotlib.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from adabn_cli.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Drawn in these, and replaced by the page's colours: a style sheet cannot reach into matplotlib's.
INK, FAINT, BEFORE, AFTER = "#010101", "#020202", "#030303", "#040404"
_COLOURS = {
    INK: "var(--ink, CanvasText)",  # Without the style sheet: light on a browser's own dark page.
    FAINT: "var(--line, #8c959f)",
    BEFORE: "var(--before, #b35900)",
    AFTER: "var(--after, #0969da)",
}
_INCHES = 4.6  # 331 px, a phone's width: text is as large there as it is drawn.
_STYLE = {
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
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


@contextmanager
def drawing(salt: str, *, height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure drawn in our own style, whatever this machine's matplotlibrc says."""
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", {**_STYLE, "svg.hashsalt": salt}]):
        figure = Figure(figsize=(_INCHES, height), layout="constrained")
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        yield figure, axes


def logarithmic_ticks(axis: Axis, low: float, high: float) -> None:
    """Marks 1, 2, 5 of every decade, of wide ranges 1 alone; matplotlib's own may be one mark."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 500 * low else (1,)))
    axis.set_major_formatter(lambda value, _: f"{value:,.6g}")
    axis.set_minor_locator(NullLocator())


def signed_ticks(axis: Axis, low: float, high: float) -> None:
    """Marks 0, ±1, ±3, ±10 … of an asinh axis within a range; matplotlib's own crowd around 0."""
    marks = [sign * 10**power * digit for sign in (-1, 1) for power in range(9) for digit in (1, 3)]
    axis.set_ticks([mark for mark in sorted([0, *marks]) if low <= mark <= high], minor=False)
    axis.set_ticks([], minor=True)
    axis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "−"))


def svg(figure: Figure, title: str) -> Markup:
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
    opening = f'<svg class="chart" role="img" aria-label="{title}" width="560" '
    opening += 'style="max-width: min(100%, 36rem); height: auto"'
    opened = f"{opening} {view.group() if view else ''}>"
    return Markup(re.sub(r"<svg[^>]*>", opened, text, count=1))
