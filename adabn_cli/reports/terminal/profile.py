"""A source profile that was just written, on a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from adabn_cli.record import ProfileRecord
from adabn_cli.reports.terminal.tables import facts, marked
from adabn_cli.reports.words.figures import count, percent, percent_interval
from adabn_cli.reports.words.subject import intake_facts, skipped_told


def render(record: ProfileRecord) -> RenderableType:
    """What the profile holds, and what the model scores on the pictures behind it."""
    source, scores = record.source, record.scores
    classes = f", {count(record.classes, 'class', 'classes')} apart" if record.classes else ""
    rows = [
        ("profile", f"{record.path}, {record.bytes:,} bytes"),
        ("model", f"{record.model.path} ({record.model.architecture})"),
        ("source", f"{source.path}, {count(source.images, 'picture')}"),
        *((name.lower(), text) for name, text in intake_facts(source)),
        ("labels", source.labels or "none"),
        ("holds", f"{count(record.sites, 'site')}, {count(record.neurons, 'neuron')}{classes}"),
    ]
    if scores.accuracy is not None:
        interval = percent_interval(scores.accuracy_interval)
        rows.append(("accuracy", f"{percent(scores.accuracy)} (95% interval {interval})"))
    told = [*record.warnings, *filter(None, [skipped_told(source)])]
    warnings = [marked("warning", text) for text in told]
    return Group(facts(rows), *([Text()] if warnings else []), *warnings)
