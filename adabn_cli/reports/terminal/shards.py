"""One shard that was collected, and all of them merged, on a terminal."""

from __future__ import annotations

import shlex

from rich.console import Group, RenderableType
from rich.text import Text

from adabn_cli.record import CollectRecord, MergeRecord, ScoresPart
from adabn_cli.reports.terminal.tables import facts, marked
from adabn_cli.reports.words.figures import count, number, percent, percent_interval
from adabn_cli.reports.words.subject import intake_facts


def render_collected(record: CollectRecord) -> RenderableType:
    """What one shard holds."""
    rows = [
        ("shard", f"{record.shard} of {record.shards}"),
        ("file", f"{record.path}, {record.bytes:,} bytes"),
        ("pictures", _pictures(record.images, len(record.skipped))),
        *((name.lower(), text) for name, text in _intake(record)),
        *_scores(record.scores),
    ]
    lost = [f"{picture.path}: {picture.reason}" for picture in record.skipped]
    return Group(facts(rows), *(marked("warning", text) for text in (*record.warnings, *lost)))


def _intake(record: CollectRecord) -> list[tuple[str, str]]:
    """Nothing in the records of before there was a target in them."""
    return intake_facts(record.target) if record.target is not None else []


def render_merged(record: MergeRecord, model: str) -> RenderableType:
    """The pack, the source model on all pictures, and what comes next."""
    kl = record.kl_before
    rows = [
        ("pack", f"{record.path}, {count(record.sites, 'site')}"),
        ("model", f"{record.model.path} ({record.model.architecture})"),
        ("shards", f"{record.shards:,}"),
        ("pictures", _pictures(record.images, record.skipped)),
        *_scores(record.before),
        ("KL before", f"{number(kl.mean)} nats a neuron, the mean" if kl else ""),
        ("worst mean", _known_within(record.standard_error_max)),
        (
            "statistics",
            "one-pass: they depend on batch size and order. Exact ones take a round of all "
            "machines at every site: torchrun -m adabn_cli adapt",
        ),
    ]
    put_in = shlex.join(["adabn", "apply", model, record.path])
    score = shlex.join(["adabn", "evaluate", model, "--data", "DATA", "--pack", record.path])
    warnings = [marked("warning", text) for text in record.warnings]
    return Group(facts(rows), Text(), Text(f"Put it in: {put_in}\nScore it: {score}"), *warnings)


def _pictures(images: int, skipped: int) -> str:
    return f"{images:,}, {skipped:,} unreadable" if skipped else f"{images:,}"


def _known_within(error: float | None) -> str:
    return "" if error is None else f"known within {number(error)} standard deviations"


def _scores(scores: ScoresPart) -> list[tuple[str, str]]:
    """Of the source model, as far as they are known."""
    rows = []
    if scores.accuracy is not None:
        interval = percent_interval(scores.accuracy_interval)
        rows.append(("accuracy before", f"{percent(scores.accuracy)} (95% interval {interval})"))
    if scores.confidence_mean is not None:
        rows.append(("confidence before", f"{number(scores.confidence_mean)} on average"))
    return rows
