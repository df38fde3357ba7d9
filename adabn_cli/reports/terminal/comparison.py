"""Several runs side by side, on a terminal of 80 columns and as Markdown. Knows no file."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from adabn_cli.record import GatePart, Record
from adabn_cli.reports.markdown_text import name, prose, table
from adabn_cli.reports.terminal.gates import status
from adabn_cli.reports.terminal.tables import figures, marked, note, plain
from adabn_cli.reports.words.figures import count, number, percent, points
from adabn_cli.reports.words.task import figure_rows
from adabn_cli.reports.words.wording import gate_status

_SIDE_BY_SIDE = 4  # Runs in one table: a figure takes up to 14 columns, the names the rest of 80.
_NONE = "–"


def render(records: Sequence[Record], differences: Sequence[str]) -> RenderableType:
    """Which run is which, then a row a measure and a gate; four runs a table."""
    parts: list[RenderableType] = []
    for index, record in enumerate(records, start=1):
        parts += [plain(f"run {index}: {_called(record)}"), note(_about(record), "dim")]
    for start in range(0, len(records), _SIDE_BY_SIDE):
        shown = records[start : start + _SIDE_BY_SIDE]
        drawn = figures("", *(f"run {start + index}" for index in range(1, len(shown) + 1)))
        for title, cells in _rows(shown):
            drawn.add_row(title, *cells)
        for gate in _expressions(records):
            found = [_gate(record, gate) for record in shown]
            drawn.add_row(plain(gate[0]), *(status(one) if one else _NONE for one in found))
        parts += [Text(), drawn]
    parts += [marked("not the same", difference) for difference in differences]
    return Group(*parts)


def render_markdown(records: Sequence[Record], differences: Sequence[str]) -> str:
    """The same as one table, below a marker by which a later comment finds this one."""
    rows = [(title, *cells) for title, cells in _rows(records)]
    for gate in _expressions(records):
        found = [_gate(record, gate) for record in records]
        rows.append((name(gate[0]), *(gate_status(one) if one else _NONE for one in found)))
    legend = [
        f"- run {index}: {name(_called(record), 160)} · {prose(_about(record))}"
        for index, record in enumerate(records, start=1)
    ]
    columns = ("", *(f"run {index}" for index in range(1, len(records) + 1)))
    told = [f"> - {prose(difference)}" for difference in differences]
    parts = [
        "<!-- adabn report: side by side -->",
        f"## {count(len(records), 'run')} side by side",
        "\n".join(legend),
        table(columns, rows),
        "\n".join(["> [!WARNING]", *told]) if told else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _called(record: Record) -> str:
    return record.run.folder or record.model.path or "live module"


def _about(record: Record) -> str:
    model, target = record.model.path or "live module", record.target.path or record.target.kind
    return f"{model} on {target}, {count(record.target.images, 'picture')}, {record.run.started}"


def _accuracies(record: Record) -> list[str]:
    held_out = record.held_out
    change = record.change
    told = _NONE if change.fixed is None else f"{change.fixed:,} / {change.broken:,}"
    return [
        percent(record.before.accuracy),
        percent(record.after.accuracy),
        points(change.accuracy),
        told,
        percent(held_out.after.accuracy if held_out else None),
        points(held_out.change.accuracy if held_out else None),
    ]


def _others(record: Record) -> list[str]:
    estimate, kl = record.verdict.estimate, record.kl
    calibration = record.after.calibration
    return [
        *_task(record),
        points(estimate.gain if estimate else None),
        number(record.before.confidence_mean),
        number(record.after.confidence_mean),
        percent(calibration.error if calibration else None),
        percent(record.change.agreement),
        number(kl.before.mean if kl.before else None),
        number(kl.after.mean if kl.after else None),
        f"{len(record.target.skipped):,}" if record.target.skipped else _NONE,
        number(record.run.seconds),
    ]


def _task(record: Record) -> list[str]:
    """The figure that the verdict rests on where the outputs are no class scores."""
    rows = figure_rows(record)
    return [rows[0].name, rows[0].before, rows[0].after] if rows else [_NONE] * 3


_TITLES = (
    *("verdict", "method", "engine"),
    *("accuracy before", "accuracy after", "change", "fixed / broken"),
    *("held out, after", "held out, change"),
    *("figure of the task", "figure before", "figure after"),
    *("estimated gain", "confidence before", "confidence after", "ECE after"),
    *("predictions that stay", "mean KL before", "mean KL after", "skipped", "seconds"),
)


def _rows(records: Sequence[Record]) -> list[tuple[str, list[str]]]:
    """A title and a cell a run; rows that no run has a figure for are left out."""
    columns = [
        [
            *(record.verdict.outcome, record.method.name, record.method.engine),
            *(*_accuracies(record), *_others(record)),
        ]
        for record in records
    ]
    rows = zip(_TITLES, zip(*columns, strict=True), strict=True)
    return [(title, [*cells]) for title, cells in rows if set(cells) != {_NONE}]


def _expressions(records: Sequence[Record]) -> list[tuple[str, str]]:
    """The gates of all runs, by expression and level, in their order."""
    return list(
        dict.fromkeys((gate.expression, gate.level) for record in records for gate in record.gates)
    )


def _gate(record: Record, asked: tuple[str, str]) -> GatePart | None:
    return next((gate for gate in record.gates if (gate.expression, gate.level) == asked), None)
