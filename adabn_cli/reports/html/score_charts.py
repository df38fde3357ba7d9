"""Charts of what was predicted: accuracy, confidence, calibration. Knows no page.

Holds numbers and words of its own alone, no name of a class or a file.
"""

from __future__ import annotations

from adabn_cli.record import CalibrationPart, Record
from adabn_cli.reports.html.drawing import AFTER, BEFORE, INK, Chart, drawing, svg
from adabn_cli.reports.words.figures import number
from adabn_cli.reports.words.wording import comparisons


def accuracy_chart(record: Record) -> Chart | None:
    """Accuracy before and after with 95% intervals; None without labels."""
    rows = [
        (f"{one.name}, {phase}", scores, colour)
        for one in comparisons(record)
        for phase, scores, colour in (
            ("before", one.before, BEFORE),
            ("after", one.after, AFTER),
        )
    ]
    if not rows:
        return None
    with drawing("accuracy", height=0.62 + 0.3 * len(rows)) as (figure, axes):
        for row, (_, scores, colour) in enumerate(rows):
            low, high = scores.accuracy_interval or (scores.accuracy or 0,) * 2
            axes.plot([100 * low, 100 * high], [row, row], color=colour, linewidth=2)
            filled = "none" if colour == BEFORE else colour
            point = 100 * (scores.accuracy or 0)
            axes.plot(point, row, "o", color=colour, markerfacecolor=filled, markersize=7)
        axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        axes.set(xlim=(-2, 102), ylim=(len(rows) - 0.4, -0.6), xlabel="accuracy, %")
        axes.grid(visible=False, axis="y")
        drawn = svg(figure, "Accuracy before and after, with 95% intervals")
    return Chart(drawn, "Accuracy with its 95% interval; hollow before, filled after.")


def confidence_chart(record: Record) -> Chart | None:
    """How many pictures have which confidence, before and after; None where it is not known."""
    before, after = record.before.confidence_histogram, record.after.confidence_histogram
    if not before or len(before) != len(after):
        return None
    edges = [100 * place / len(before) for place in range(len(before) + 1)]
    with drawing("confidence", height=2.5) as (figure, axes):
        axes.stairs(after, edges, fill=True, color=AFTER, alpha=0.45, label="after")
        axes.stairs(before, edges, color=BEFORE, linewidth=1.6, label="before")
        axes.set(xlabel="confidence, %", ylabel="pictures", xlim=(0, 100))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        figure.legend(loc="outside upper right", ncols=2, reverse=True)
        drawn = svg(figure, "Pictures by confidence, before and after")
    return Chart(
        drawn, "Pictures by the confidence of their prediction; outline before, filled after."
    )


def calibration_chart(record: Record) -> Chart | None:
    """Confidence against the share that is right, bin by bin; None without labels."""
    before, after = record.before.calibration, record.after.calibration
    if before is None or after is None:
        return None
    with drawing("calibration", height=3.1) as (figure, axes):
        axes.plot([0, 100], [0, 100], color=INK, linewidth=1, linestyle=":")
        for name, part, line, colour, face in (
            ("before", before, "--", BEFORE, "none"),
            ("after", after, "-", AFTER, AFTER),
        ):
            axes.plot(
                *_points(part),
                line,
                marker="o",
                linewidth=1.4,
                color=colour,
                markerfacecolor=face,
                markersize=5,
                label=name,
            )
        axes.set(xlim=(-2, 102), ylim=(-2, 102), xlabel="mean confidence, %", ylabel="right, %")
        figure.legend(loc="outside upper right", ncols=2)
        drawn = svg(figure, "Reliability diagram: confidence against accuracy, before and after")
    return Chart(
        drawn,
        "Reliability: on the dotted line the model is right as often as it is sure. Dashed "
        f"before, expected calibration error {number(before.error)}; solid after, "
        f"{number(after.error)}.",
    )


def _points(part: CalibrationPart) -> tuple[list[float], list[float]]:
    """Mean confidence and share right of every bin that holds pictures, in percent."""
    bins = [
        (100 * confidence / n, 100 * correct / n)
        for n, correct, confidence in zip(
            part.counts, part.correct, part.confidence_sums, strict=True
        )
        if n
    ]
    return [x for x, _ in bins], [y for _, y in bins]
