"""One scoring of a model, on a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from adabn_cli.record import EvaluationRecord
from adabn_cli.renderers.figures import count, number, percent, percent_interval
from adabn_cli.renderers.tables import facts, figures, marked, plain


def render(record: EvaluationRecord) -> RenderableType:
    """Accuracy with its interval, confidence, and every class."""
    scores = record.scores
    rows = [
        ("model", f"{record.model.path} ({record.model.architecture})"),
        ("pack", record.pack or ""),
        ("data", f"{record.data.path} ({count(record.data.images, 'picture')})"),
        ("labels", f"{record.data.labels}, {count(record.data.labeled_images, 'picture')}"),
        (
            "accuracy",
            f"{percent(scores.accuracy)} "
            f"(95% interval {percent_interval(scores.accuracy_interval)})",
        ),
        ("confidence", f"{number(scores.confidence_mean)} on average"),
        ("entropy", f"{number(scores.entropy_mean)} nats on average"),
    ]
    table = figures("class", "pictures", "accuracy", "95% interval")
    for part in record.classes:
        table.add_row(
            plain(part.name), f"{part.n:,}", percent(part.accuracy), percent_interval(part.interval)
        )
    warnings = [marked("warning", text) for text in record.warnings]
    return Group(facts(rows), Text(), table, *warnings)
