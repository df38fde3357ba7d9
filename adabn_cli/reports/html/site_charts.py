"""Charts of what the sites saw: divergence, sampling error, shift of every neuron. Knows no page.

Holds numbers and words of its own alone: names come from disk, and the tables beside the charts
show them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import asinh, sinh
from typing import TYPE_CHECKING

from adabn_cli.record import Record
from adabn_cli.reports.html.drawing import (
    AFTER,
    BEFORE,
    FAINT,
    INK,
    Chart,
    drawing,
    logarithmic_ticks,
    signed_ticks,
    svg,
)
from adabn_cli.reports.words.figures import number
from adabn_cli.reports.words.shifts import Neuron, farthest, neurons, spread_told

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: How many neurons are named beside the chart, and have a number in it.
NAMED = 8
_POINTS = 800  # More points than this hide each other, and weigh 70 bytes each.
_COLUMNS, _LINES = 56, 40
_LEVELS = ((1, 0.2), (3, 0.35), (10, 0.5), (30, 0.65), (100, 0.8))  # Neurons in a cell: opacity.


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

    with drawing("divergence", height=2.7) as (figure, axes):
        for name, values, line, colour, face in (
            ("before", before, "--", BEFORE, "none"),
            ("after", after, "-", AFTER, AFTER),
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
        drawn = svg(figure, "Mean KL of each site in depth order, before and after")
    largest = [value for value in before if value is not None]
    told = f" The largest before is {number(max(largest))} nats." if largest else ""
    return Chart(
        drawn,
        "Mean KL over the neurons of each site, numbered in depth order; dashed before, solid "
        f"after.{told}",
    )


def _gaps(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def _scale_divergences(axes: Axes, known: Sequence[float]) -> None:
    """Logarithmic where the sites differ by more than a linear axis could show."""
    if min(known) > 0 and max(known) > 20 * min(known):
        axes.set_yscale("log")
        logarithmic_ticks(axes.yaxis, min(known), max(known))
    else:
        axes.set_ylim(bottom=0)


def sample_size_chart(record: Record) -> Chart | None:
    """The worst site's standard error against the number of pictures, and where it is enough."""
    part = record.sample_size
    if part is None or not part.errors or min(part.errors) <= 0 or part.enough < 1:
        return None
    with drawing("sample-size", height=2.5) as (figure, axes):
        axes.plot(part.images, part.errors, "-", color=AFTER, linewidth=1.5)
        for images, error in zip(part.images, part.errors, strict=True):
            face = AFTER if images <= record.target.images else "none"
            axes.plot(images, error, "o", color=AFTER, markerfacecolor=face, markersize=4.5)
        axes.axhline(part.tolerance, color=INK, linewidth=1, linestyle=":")
        axes.set_xscale("log")
        axes.set_yscale("log")
        low, high = min(*part.images, part.enough), max(*part.images, part.enough)
        least, most = min(*part.errors, part.tolerance), max(*part.errors, part.tolerance)
        axes.set(xlim=(low / 1.3, high * 1.3), ylim=(least / 1.6, most * 1.6))
        logarithmic_ticks(axes.xaxis, low, high)
        logarithmic_ticks(axes.yaxis, least, most)
        axes.axvline(part.enough, color=INK, linewidth=1, linestyle=":")
        on_the_left = part.enough * part.enough > low * high
        axes.annotate(
            f"enough: {part.enough:,}",
            (part.enough, 0.94),
            xycoords=("data", "axes fraction"),
            xytext=(-4 if on_the_left else 4, 0),
            textcoords="offset points",
            ha="right" if on_the_left else "left",
            va="top",
        )
        axes.set(xlabel="pictures", ylabel="standard error of a mean")
        drawn = svg(figure, "Standard error of the worst site against the number of pictures")
    return Chart(
        drawn,
        "The largest standard error of a mean at the worst site, in standard deviations of its "
        f"neuron; dotted at {number(part.tolerance)}, and where that is reached. Hollow: more "
        "pictures than there are.",
    )


def shift_chart(record: Record) -> Chart | None:
    """Mean shift against log variance ratio, neuron by neuron; None where no shift is known."""
    found = neurons(record)
    if not found:
        return None
    with drawing("shift", height=3.6) as (figure, axes):
        axes.set_xscale("asinh", linear_width=1.0)
        axes.set_yscale("asinh", linear_width=1.0)
        axes.axhline(0, color=FAINT, linewidth=1.2)
        axes.axvline(0, color=FAINT, linewidth=1.2)
        if len(found) <= _POINTS:
            x, y = zip(*((one.mean, one.log_variance_ratio) for one in found), strict=True)
            axes.plot(x, y, "o", color=AFTER, markersize=3.5, alpha=0.5, markeredgewidth=0)
        else:
            _draw_density(axes, found)
        signed_ticks(axes.xaxis, *axes.get_xlim())
        signed_ticks(axes.yaxis, *axes.get_ylim())
        _number_outliers(axes, farthest(found, NAMED))
        axes.set(xlabel="shift of the mean, standard deviations", ylabel="log variance ratio")
        drawn = svg(figure, "Mean shift against log variance ratio of every neuron")
    return Chart(drawn, _shift_told(found))


def _shift_told(found: list[Neuron]) -> str:
    shown = (
        "a point a neuron" if len(found) <= _POINTS else "the stronger the colour, the more neurons"
    )
    return (
        f"Target against source before adapting, {shown}: the mean in standard deviations of the "
        f"source, and log(target / source) of the variance. {spread_told(found)} "
        "The numbered ones lie farthest out, by KL. Axes are linear up to 1, logarithmic beyond."
    )


def _draw_density(axes: Axes, found: list[Neuron]) -> None:
    """Cells as dark as they hold neurons, a path a level: 100,000 points would weigh 7 MB."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    x_all = [asinh(one.mean) for one in found]
    y_all = [asinh(one.log_variance_ratio) for one in found]
    left, below = min(x_all), min(y_all)
    width = (max(x_all) - left) / _COLUMNS or 1.0
    height = (max(y_all) - below) / _LINES or 1.0
    cells = Counter(
        (min(int((x - left) / width), _COLUMNS - 1), min(int((y - below) / height), _LINES - 1))
        for x, y in zip(x_all, y_all, strict=True)
    )
    levels: dict[float, list[Path]] = {}
    for (column, line), n in cells.items():
        opacity = next((shade for most, shade in _LEVELS if n <= most), 1.0)
        x, y = (left + column * width, left + (column + 1) * width), below + line * height
        corners = [(x[0], y), (x[1], y), (x[1], y + height), (x[0], y + height), (x[0], y)]
        path = Path([(sinh(u), sinh(v)) for u, v in corners], closed=True)
        levels.setdefault(opacity, []).append(path)
    for opacity, paths in sorted(levels.items()):
        drawn = Path.make_compound_path(*paths)
        axes.add_patch(PathPatch(drawn, facecolor=AFTER, alpha=opacity, linewidth=0))
    axes.autoscale_view()


def _number_outliers(axes: Axes, outliers: Sequence[Neuron]) -> None:
    """Rings with numbers; those that lie on top of each other share a label."""
    x, y = zip(*((one.mean, one.log_variance_ratio) for one in outliers), strict=True)
    axes.plot(x, y, "o", color=BEFORE, markerfacecolor="none", markersize=5.5)
    labels: list[tuple[Neuron, list[str]]] = []
    for place, one in enumerate(outliers, start=1):
        for other, numbers in labels:
            if _near(axes, one, other):
                numbers.append(str(place))
                break
        else:
            labels.append((one, [str(place)]))
    for one, numbers in labels:
        axes.annotate(
            ",".join(numbers),
            (one.mean, one.log_variance_ratio),
            xytext=(5, 3),
            textcoords="offset points",
            fontsize=8,
        )


def _near(axes: Axes, one: Neuron, other: Neuron) -> bool:
    """Whether two labels of a few digits would overlap."""
    places = [(x.mean, x.log_variance_ratio) for x in (one, other)]
    (x, y), (u, v) = axes.transData.transform(places)
    return bool(abs(x - u) < 44 and abs(y - v) < 16)
