"""One scoring of a model, on a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from adabn_cli.record import EvaluationRecord
from adabn_cli.reports.terminal.tables import facts, figures, marked, plain
from adabn_cli.reports.words.figures import count, number, percent, percent_interval
from adabn_cli.reports.words.subject import intake_facts, skipped_told
from adabn_cli.reports.words.task import OF_A_CLASS, written


def render(record: EvaluationRecord) -> RenderableType:
    """Accuracy with its interval, confidence, and every class."""
    scores = record.scores
    rows = [
        ("model", f"{record.model.path} ({record.model.architecture})"),
        ("pack", record.pack or ""),
        ("data", f"{record.data.path} ({count(record.data.images, 'picture')})"),
        *((name.lower(), text) for name, text in intake_facts(record.data)),
        ("labels", f"{record.data.labels}, {count(record.data.labeled_images, 'picture')}"),
        *_figures(record),
        ("confidence", f"{number(scores.confidence_mean)} on average"),
        ("entropy", f"{number(scores.entropy_mean)} nats on average"),
    ]
    table = _classes(record)
    told = [*record.warnings, *filter(None, [skipped_told(record.data)])]
    warnings = [marked("warning", text) for text in told]
    return Group(facts(rows), Text(), table, *warnings)


def _figures(record: EvaluationRecord) -> list[tuple[str, str]]:
    """Accuracy, or what takes its place where the outputs are no class scores."""
    if record.task is not None:
        return [
            (part.name, percent(part.after) if part.unit == "share" else number(part.after))
            for part in record.task.figures
        ]
    accuracy, interval = record.scores.accuracy, record.scores.accuracy_interval
    return [("accuracy", f"{percent(accuracy)} (95% interval {percent_interval(interval)})")]


def _classes(record: EvaluationRecord) -> Table:
    if record.task is not None:
        table = figures("class", "pictures", OF_A_CLASS[record.task.task])
        for one in record.task.classes:
            table.add_row(plain(one.name), f"{one.n:,}", written(record.task, one.after))
        return table
    table = figures("class", "pictures", "accuracy", "95% interval")
    for part in record.classes:
        table.add_row(
            plain(part.name), f"{part.n:,}", percent(part.accuracy), percent_interval(part.interval)
        )
    return table
