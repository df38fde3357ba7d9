"""What a run is about, as names and sentences: model, target, method, machine. Knows no markup.

Names come out as they are, and whoever renders them escapes them.
"""

from __future__ import annotations

from adabn_cli.record import MethodPart, PreprocessingPart, Record, TargetPart
from adabn_cli.reports.words.figures import count, number, percent
from adabn_cli.text import counted

_METHODS = {"adabn": "AdaBN", "matched": "matched to the profile", "auto": "auto"}
_AIMS = {
    "adabn": "AdaBN",
    "profile": "matched to the profile",
    "class mix": "matched to the profile's classes in another mix",
}
_CLASSES_TOLD = 5


def about(record: Record) -> list[tuple[str, str]]:
    """What was adapted to what, as names and sentences."""
    model, target = record.model, record.target
    adapted = sum(site.adapted for site in record.sites)
    return [
        ("Model", model.path or "live module"),
        ("Architecture", f"{model.architecture} ({model.architecture_source})"),
        ("Sites adapted", f"{adapted:,} of {len(record.sites):,}"),
        ("Target", target.path or target.kind),
        ("Pictures", f"{target.images:,}{subsample(record)}, {labels(record)}"),
        *intake_facts(target),
        ("Method", method(record)),
        ("Source profile", profile(record)),
    ]


def intake_facts(target: TargetPart) -> list[tuple[str, str]]:
    """What became of the files: those left out, by suffix, and what was done to pictures."""
    files = f"{count(target.other_files, 'file')}" if target.other_files else ""
    by_suffix = f": {counted(target.left_out)}" if target.left_out else ""
    pages = "page or frame" if target.frames_left_out == 1 else "pages or frames"
    frames = f"{target.frames_left_out:,} {pages}" if target.frames_left_out else ""
    left_out = "; ".join(text for text in (files + by_suffix, frames) if text)
    converted = ", ".join(f"{n:,} {kind}" for kind, n in target.conversions.items())
    return [("Left out", left_out), ("Converted", converted)]


def skipped_told(target: TargetPart) -> str:
    """How many pictures could not be read; empty where all could."""
    skipped = target.skipped
    return f"{count(len(skipped), 'picture')} could not be read." if skipped else ""


def profile(record: Record) -> str:
    """The source profile that the target was held against; empty without one."""
    used = record.method.profile
    if used is None:
        return ""
    labelled = f", {used.labeled:,} labelled" if used.labeled else ""
    path = f"{used.path}, " if used.path else ""
    return f"{path}{count(used.images, 'source picture')}{labelled} ({used.found})"


def subsample(record: Record) -> str:
    """Of how many pictures the target's were drawn; empty where all were taken."""
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
    if used.momentum is not None:
        mixed += f", momentum {used.momentum:g}"
    only = f", layers {','.join(used.layers)}" if used.layers else ""
    return f"{_chosen(used)}, {used.engine} engine{mixed}{only}, batches of {used.chunk_size}"


def _chosen(used: MethodPart) -> str:
    """The method's name, and what `auto` came to."""
    if used.aim is None:
        return _METHODS[used.name]
    return f"auto: {_AIMS[used.aim]}" if used.name == "auto" else _AIMS[used.aim]


def class_names(record: Record, n: int) -> list[str]:
    """A name for each of the model's n outputs: its class, or else its index."""
    known = record.model.classes or ()
    return list(known) if len(known) == n else [str(index) for index in range(n)]


def _class_mix(record: Record) -> str:
    """The classes of largest share in the mix that the sites were held against."""
    mix = record.method.class_mix
    if not mix:
        return ""
    largest = sorted(
        zip(class_names(record, len(mix)), mix, strict=True), key=lambda pair: -pair[1]
    )
    told = ", ".join(f"{name} {percent(share)}" for name, share in largest[:_CLASSES_TOLD])
    more = len(mix) - _CLASSES_TOLD
    return f"{told} and {more:,} more" if more > 0 else told


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
        f"std {std}, crop {p.crop_pct:.3g}, {p.interpolation}"
        f"{', fast decode' if p.fast_decode else ''} ({p.source})"
    )


def target_facts(record: Record) -> list[tuple[str, str]]:
    """The pictures: how many, which were left out or converted, and their fingerprint."""
    target = record.target
    rows = [
        ("Target", target.path or target.kind),
        ("Pictures", f"{target.images:,}{subsample(record)}"),
        ("Labels", labels(record)),
        *intake_facts(target),
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
        ("Mix of classes", _class_mix(record)),
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
