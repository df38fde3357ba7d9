"""What changed since a baseline, on a terminal. Fits 60 columns and more."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from adabn_cli.record import BaselineChangePart, BaselinePart
from adabn_cli.reports.terminal.tables import figures, marked, note, plain
from adabn_cli.reports.words.figures import number, percent, points

#: Measures that are told as percent, and their changes in points.
_SHARES = frozenset(
    (
        *("accuracy_before", "accuracy_after", "accuracy_drop", "held_out_accuracy_after"),
        *("class_drop", "estimated_gain", "ece_after", "confidence_mean_after"),
    )
)


def render(baseline: BaselinePart) -> RenderableType:
    """A row a measure, then and now; and what stands between the two."""
    parts: list[RenderableType] = [Text()]
    if baseline.changes:
        table = figures("since the baseline", "baseline", "now", "change")
        for change in baseline.changes:
            table.add_row(plain(change.measure), *told(change))
        parts.append(table)
    parts.append(note(f"baseline: {baseline.path}, of {baseline.started}", "dim"))
    if baseline.varied:
        parts.append(note(", ".join(baseline.varied)))
    parts += [marked("not the same", difference) for difference in baseline.differences]
    return Group(*parts)


def told(change: BaselineChangePart) -> tuple[str, str, str]:
    """Baseline, now and the difference, in the measure's own unit."""
    then, now = change.baseline, change.now
    difference = None if then is None or now is None else now - then
    if change.measure in _SHARES:
        return percent(then), percent(now), points(difference)
    return number(then), number(now), _signed(difference)


def _signed(difference: float | None) -> str:
    # Two runs of the same work differ by 1e-11 where their batches merged in another order.
    return "–" if difference is None else f"{round(difference, 6):+.3g}"
