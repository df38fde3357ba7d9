"""What is said of outputs that are no class scores: figures, classes, and what they rest on.

Knows no markup: names come out as they are, and whoever renders them escapes them.
"""

from __future__ import annotations

from dataclasses import dataclass

from adabn_cli.record import FigurePart, Record, TaskPart
from adabn_cli.reports.words.figures import count, number, percent, points, points_interval

#: What the first figure of each class is called.
OF_A_CLASS = {
    "segmentation": "IoU",
    "multi-label": "average precision",
    "regression": "mean absolute error",
    "detection": "",
}


@dataclass(frozen=True)
class FigureRow:
    """One figure as text; `interval` is empty where the difference has none."""

    name: str
    before: str
    after: str
    change: str
    interval: str


def figure_rows(record: Record) -> list[FigureRow]:
    """The figures of the task, the one that the verdict rests on first."""
    return [_row(part) for part in record.task.figures] if record.task else []


def _row(part: FigurePart) -> FigureRow:
    known = part.before is not None and part.after is not None
    difference = (part.after or 0.0) - (part.before or 0.0) if known else None
    if part.unit == "share":
        interval = points_interval(part.interval) if part.interval else ""
        sides = (percent(part.before), percent(part.after), points(difference))
        return FigureRow(part.name, *sides, interval)
    interval = "{:+.3g} to {:+.3g}".format(*part.interval) if part.interval else ""
    change = "–" if difference is None else f"{difference:+.3g}"
    return FigureRow(part.name, number(part.before), number(part.after), change, interval)


def written(task: TaskPart, value: float | None) -> str:
    """The first figure of a class: a share, or an error as it is."""
    return number(value) if task.task == "regression" else percent(value)


def rests_on(record: Record) -> str:
    """What the figures were held against; empty without a task or its truth."""
    task = record.task
    if task is None or task.truth is None:
        return ""
    return (
        f"Held against {task.truth}, of {count(task.n, 'picture')}, which were adapted to "
        "(transductive). Intervals are of the difference: 95%, a paired bootstrap over pictures."
    )
