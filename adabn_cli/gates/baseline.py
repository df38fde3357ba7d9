"""An earlier run that a run is held against: read from a folder, a file or git. No torch."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from adabn_cli.errors import CannotTellError
from adabn_cli.gates.measures import reading
from adabn_cli.record import (
    BaselineChangePart,
    BaselinePart,
    PreprocessingPart,
    Record,
)
from adabn_cli.record.run_folder import files_of_run, parsed_record, read_record
from adabn_cli.text import count, valid_text

#: What is shown of a baseline, where either run has it.
_MAIN = (
    *("accuracy_before", "accuracy_after", "accuracy_drop", "held_out_accuracy_after"),
    *("class_drop", "estimated_gain", "ece_after", "confidence_mean_after"),
    *("kl_before_mean", "kl_after_mean", "skipped_images", "images"),
)


@dataclass(frozen=True)
class Baseline:
    """A baseline that a run was held against.

    `record` is there where the two can be compared, and otherwise `reason` says why they cannot.
    """

    record: Record | None
    part: BaselinePart | None
    reason: str | None


NOT_ASKED = Baseline(None, None, "no baseline: give --baseline RUN")


def hold_against(record: Record, run: str, *, allow_different: bool = False) -> Baseline:
    """The baseline `run` and what changed since, where the two can be compared.

    Raises InputError where `run` is there and no record of a run.
    """
    try:
        baseline = read_baseline(run)
    except CannotTellError as error:
        return Baseline(None, None, f"no baseline: {error.what}")
    apart = differences(record, baseline)
    comparable = allow_different or not apart
    part = BaselinePart(
        path=valid_text(run),
        started=baseline.run.started,
        changes=tuple(_changes(record, baseline)) if comparable else (),
        differences=apart,
        varied=varied(record, baseline),
    )
    told = "; ".join(apart)
    if comparable:
        return Baseline(baseline, part, f"compared all the same: {told}" if apart else None)
    return Baseline(None, part, f"not comparable: {told}. --allow-different compares all the same")


def read_baseline(run: str) -> Record:
    """The record in a run folder, a `run.json`, or `REVISION:PATH` of one in git.

    Raises CannotTellError where there is none, and InputError where it cannot be read as a run.
    """
    path = Path(run)
    if path.exists():
        if path.is_dir() and not (path / "run.json").exists():
            raise CannotTellError(f"{valid_text(run)} holds no run.json")
        return read_record(path)
    revision, colon, file = run.partition(":")
    if not colon:
        raise CannotTellError(f"{valid_text(run)} is not there")
    file = file if file.endswith(".json") else f"{file.rstrip('/')}/run.json".lstrip("/")
    return parsed_record(_shown_by_git(f"{revision}:{file}"), valid_text(run))


def files_of_baseline(run: str) -> tuple[Path, ...]:
    """The files of a baseline on this machine; none of one in git, or that is not there."""
    path = Path(run)
    try:
        return files_of_run(path, read_baseline(run)) if path.exists() else ()
    except CannotTellError:
        return ()


def _shown_by_git(name: str) -> str:
    """The text of a file at a revision. A path is from the repository's root, or begins with ./"""
    command = ["git", "show", "--no-textconv", "--end-of-options", name]
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, env=os.environ | {"LC_ALL": "C"}
        )
    except OSError as error:
        raise CannotTellError(f"git cannot be run to show {valid_text(name)}") from error
    if done.returncode:
        told = done.stderr.decode("utf-8", "replace").strip().split("\n")[0]
        raise CannotTellError(f"git has no {valid_text(name)} ({told.removeprefix('fatal: ')})")
    return done.stdout.decode("utf-8", "replace")


def differences(record: Record, other: Record) -> tuple[str, ...]:
    """Why the figures of two runs cannot be held against each other; empty where they can."""
    return tuple(_differences(record, other))


def _differences(record: Record, other: Record) -> Iterator[str]:
    target, others = record.target, other.target
    if target.fingerprint is None or others.fingerprint is None:
        yield "whether the pictures are the same is not known"
    elif target.fingerprint != others.fingerprint:
        yield f"other pictures ({target.images:,}, and {others.images:,} in the other run)"
    elif None not in (target.labels, others.labels) and (
        target.labeled_images != others.labeled_images
    ):
        yield f"other labels ({target.labeled_images:,} images, and {others.labeled_images:,})"
    if _classes(record) != _classes(other):
        yield "other classes"
    if _inputs(record.model.preprocessing) != _inputs(other.model.preprocessing):
        yield "other preprocessing"
    if record.held_out and other.held_out and record.held_out.images != other.held_out.images:
        yield "other held-out pictures"


def _classes(record: Record) -> object:
    return record.model.classes or len(record.after.predicted_histogram)


def _inputs(part: PreprocessingPart | None) -> object:
    return part.model_dump(exclude={"source"}) if part else None


def varied(record: Record, other: Record) -> tuple[str, ...]:
    """What else differs, which is what one compares: weights, version, and every setting."""
    now, then = _compared(record), _compared(other)
    return tuple(
        f"{name} {_told(now.get(name))}, and {_told(then.get(name))} in the other run"
        if name not in _UNTOLD
        else f"other {name}"
        for name in {**now, **then}
        if now.get(name) != then.get(name)
    )


#: Of a method what came of it and is no setting; profiles are compared by what they hold.
_OUTCOMES = {"forwards", "class_mix", "aim", "profile"}
#: Fingerprints say nothing to a person.
_UNTOLD = ("weights",)


def _compared(record: Record) -> dict[str, object]:
    """What two runs may have done differently, by its name: all settings that a record holds."""
    method, profile = record.method, record.method.profile
    inputs, target = record.model.preprocessing, record.target
    settings = method.model_dump(exclude=_OUTCOMES) | (
        inputs.model_dump(exclude={"source"}) if inputs else {}
    )
    return {
        "weights": record.model.weights,
        **{_NAMES.get(name, name.replace("_", " ")): value for name, value in settings.items()},
        "source profile": (
            f"of {count(profile.images, 'picture')} ({profile.labeled:,} labelled)"
            if profile
            else None
        ),
        "labels": target.labels,
        "subsample": target.subsample and f"{target.images:,} of {target.subsample['of']:,}",
        "version of adabn": record.run.versions.get("adabn"),
    }


_NAMES = {"name": "method", "chunk_size": "batch size", "size": "input size"}


def _told(value: object) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, tuple):
        return ",".join(map(_told, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _changes(record: Record, baseline: Record) -> Iterator[BaselineChangePart]:
    for measure in _MAIN:
        now, before = reading(measure, record).value, reading(measure, baseline).value
        if now is not None or before is not None:
            yield BaselineChangePart(measure=measure, baseline=before, now=now)
