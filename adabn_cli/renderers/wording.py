"""What is said of a record in words, the same on a page, in a comment and in a pipeline.

Knows no markup: names come out as they are, and whoever renders them escapes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from adabn_cli.record import (
    ChangePart,
    GatePart,
    PreprocessingPart,
    Record,
    ResidualPart,
    ScoresPart,
    SitePart,
)
from adabn_cli.renderers.figures import count, number, p_value, percent, points_interval

TRANSDUCTIVE = (
    "Scored on the pictures that were adapted to (transductive). "
    "The statistics saw these pictures; the labels were used for scoring alone."
)
METHODS = {
    "adabn": "AdaBN",
    "matched": "matched to the profile",
    "auto": "auto (matched to the profile's classes in their likeliest mix)",
}
FIRST_SITE = (
    "KL is symmetric, in nats, between source and target at a neuron's input. After adapting it "
    "is the shift that earlier layers still pass on: the first site's stays as it was, because "
    "nothing before it has changed."
)


@dataclass(frozen=True)
class Comparison:
    """The same pictures scored before and after.

    `name` says in a word which pictures, `where` in a phrase.
    """

    name: str
    where: str
    before: ScoresPart
    after: ScoresPart
    change: ChangePart


def comparisons(record: Record) -> list[Comparison]:
    """All that was scored against labels: the target, then the held-out pictures."""
    found = [Comparison("target", "on the target", record.before, record.after, record.change)]
    held_out = record.held_out
    if held_out is not None:
        sides = (held_out.before, held_out.after)
        found.append(Comparison("held out", "on held-out pictures", *sides, held_out.change))
    return [one for one in found if one.before.accuracy is not None]


def paired(change: ChangePart) -> str:
    """What the pictures that changed sides say about a difference in accuracy."""
    return (
        f"{count(change.fixed or 0, 'picture')} fixed, {change.broken or 0:,} broken "
        f"of {change.n:,} (McNemar {p_value(change.mcnemar_p)}); "
        f"paired 95% interval {points_interval(change.interval)}"
    )


def about(record: Record) -> list[tuple[str, str]]:
    """What was adapted to what, as names and sentences."""
    model, target = record.model, record.target
    adapted = sum(site.adapted for site in record.sites)
    return [
        ("Model", model.path or "live module"),
        ("Architecture", f"{model.architecture} ({model.architecture_source})"),
        ("Sites adapted", f"{adapted:,} of {len(record.sites):,}"),
        ("Target", target.path or target.kind),
        ("Pictures", f"{target.images:,}{_subsample(record)}, {labels(record)}"),
        ("Method", method(record)),
        ("Source profile", profile(record)),
    ]


def profile(record: Record) -> str:
    """The source profile that the target was held against; empty without one."""
    used = record.method.profile
    if used is None:
        return ""
    labelled = f", {used.labeled:,} labelled" if used.labeled else ""
    path = f"{used.path}, " if used.path else ""
    return f"{path}{count(used.images, 'source picture')}{labelled} ({used.found})"


def _subsample(record: Record) -> str:
    drawn = record.target.subsample
    return f" drawn of {drawn['of']:,} (seed {drawn['seed']})" if drawn else ""


def labels(record: Record) -> str:
    """How many pictures have a label, and where from."""
    target = record.target
    if target.labels is None:
        return "no labels"
    some = "" if target.labeled_images == target.images else f"{target.labeled_images:,} "
    return f"{some}labelled by {target.labels}"


def method(record: Record) -> str:
    """How the statistics were estimated and mixed."""
    used = record.method
    mixed = ""
    if used.prior is not None:
        mixed = f", source as prior {used.prior}"
    elif used.alpha is not None:
        mixed = f", alpha {used.alpha:g}"
    only = f", layers {','.join(used.layers)}" if used.layers else ""
    name = METHODS[used.name]
    return f"{name}, {used.engine} engine{mixed}{only}, batches of {used.chunk_size}"


def model_facts(record: Record) -> list[tuple[str, str]]:
    """The model's file, format and fingerprints; rows without a text are left out."""
    model = record.model
    rows = [
        ("File", model.path or "live module"),
        ("Format", model.format + (", loaded as a trusted pickle" * model.trusted_pickle)),
        ("Architecture", f"{model.architecture} ({model.architecture_source})"),
        ("Classes", _classes(record)),
        ("Input", _input(model.preprocessing)),
        ("sha256 of the file", model.sha256 or ""),
        ("Fingerprint of the weights", model.weights),
    ]
    rows += [
        ("Nothing to adapt in", f"{layer.name} ({layer.kind}): {layer.reason}")
        for layer in model.fixed_layers
    ]
    return [(name, text) for name, text in rows if text]


def _classes(record: Record) -> str:
    classes = record.model.classes
    if not classes:
        return "unknown"
    return f"{len(classes):,} (from {record.model.classes_source or 'the model'})"


def _input(p: PreprocessingPart | None) -> str:
    if p is None:
        return ""
    mean, std = (",".join(f"{value:.4g}" for value in values) for values in (p.mean, p.std))
    return (
        f"{p.size[0]}x{p.size[1]} px, {'gray' if len(p.mean) == 1 else 'RGB'}, mean {mean}, "
        f"std {std}, crop {p.crop_pct:.3g}, {p.interpolation} ({p.source})"
    )


def target_facts(record: Record) -> list[tuple[str, str]]:
    """The pictures: how many, which were left out or converted, and their fingerprint."""
    target = record.target
    converted = ", ".join(f"{n:,} {kind}" for kind, n in target.conversions.items())
    rows = [
        ("Target", target.path or target.kind),
        ("Pictures", f"{target.images:,}{_subsample(record)}"),
        ("Labels", labels(record)),
        ("Converted", converted),
        ("Not pictures", count(target.other_files, "other file") if target.other_files else ""),
        ("Fingerprint of the pixels", target.fingerprint or ""),
    ]
    if record.held_out is not None:
        held_out = record.held_out
        rows.append(("Held out", f"{held_out.path} ({count(held_out.images, 'picture')})"))
    return [(name, text) for name, text in rows if text]


def run_facts(record: Record) -> list[tuple[str, str]]:
    """Settings, time, machine and versions."""
    used, run = record.method, record.run
    stages = ", ".join(f"{name} {number(s)} s" for name, s in run.seconds_by_stage.items())
    rows = [
        ("Method", method(record)),
        ("Source profile", profile(record)),
        ("Numbers", f"{used.dtype}, seed {used.seed}, {count(used.forwards, 'forward')} to adapt"),
        ("Started", run.started),
        ("Took", f"{number(run.seconds)} s ({stages})" if stages else f"{number(run.seconds)} s"),
        ("Machine", f"{run.host}, {run.device}"),
        ("Peak memory", f"{run.peak_memory_bytes / 2**20:,.0f} MiB"),
        ("Versions", ", ".join(f"{name} {text}" for name, text in run.versions.items())),
        ("Run", run.folder or ""),
    ]
    return [(name, text) for name, text in rows if text]


def left_out(sites: Iterable[SitePart]) -> list[tuple[str, list[str]]]:
    """Why sites were not adapted, and which: a pair a reason."""
    by_reason: dict[str, list[str]] = {}
    for site in sites:
        if site.reason:
            by_reason.setdefault(site.reason, []).append(site.name)
    return list(by_reason.items())


def residual(part: ResidualPart) -> str:
    """How far the installed statistics are from what the adapted model sees."""
    return (
        f"means off by {number(part.max_mean, 2)} standard deviations, "
        f"log variances by {number(part.max_log_variance, 2)}, worst at {part.site}"
    )


def gate_told(gate: GatePart) -> str:
    """A gate's value, limit and n in one sentence, and why it cannot be told where it cannot."""
    if gate.value is None:
        return f"cannot tell: {gate.reason or 'no value'} (limit {number(gate.limit)})"
    n = f", n = {gate.n:,}" if gate.n is not None else ""
    return f"{gate.status}: value {number(gate.value)}, limit {number(gate.limit)}{n}"


def gates_told(gates: Sequence[GatePart]) -> str:
    """How many gates failed, cannot be told and passed; "" without any."""
    statuses = [gate.status for gate in gates]
    parts = [
        f"{statuses.count(status)} {status}"
        for status in ("failed", "cannot tell", "passed")
        if status in statuses
    ]
    return ", ".join(parts)


def class_names(record: Record) -> list[str]:
    """A name for each entry of the predicted-class histograms."""
    n = max(len(record.before.predicted_histogram), len(record.after.predicted_histogram))
    known = record.model.classes or ()
    return list(known) if len(known) == n else [str(index) for index in range(n)]


def agreement_told(record: Record) -> str:
    """How many predictions stayed the same."""
    share = record.change.agreement
    return "" if share is None else f"{percent(share)} of the predictions stayed the same."
