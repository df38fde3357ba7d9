"""The main job for Python code: a live module and any iterable of batches. Writes nothing."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adabn_cli.adaptation.engines import engine as engine_named
from adabn_cli.adaptation.engines.passes import Passes
from adabn_cli.adaptation.installer import Installer
from adabn_cli.adaptation.methods import Adaptation, Method
from adabn_cli.adaptation.profiles import Profile, require_profile_of
from adabn_cli.errors import UsageError
from adabn_cli.jobs.adapt.adabn import adabn
from adabn_cli.jobs.checks.adaptable import require_adaptable
from adabn_cli.jobs.checks.believing import PICTURES_TWICE, believe_adapted, believe_scored
from adabn_cli.jobs.checks.label_check import Doubt
from adabn_cli.jobs.checks.probing import first_outputs
from adabn_cli.jobs.live.batches import (
    GivenLabels,
    class_labels,
    held_batches,
    some_pictures,
)
from adabn_cli.jobs.live.labels import OFFSET, LiveCheck, counted, counted_masks
from adabn_cli.jobs.preprocessing import suspect_tensors
from adabn_cli.jobs.profile import profile_of
from adabn_cli.jobs.profile_given import profile_part
from adabn_cli.jobs.results.record import (
    Subject,
    live_model_part,
    method_part,
    record_of,
    run_part,
)
from adabn_cli.jobs.results.truth import Truth, live_truth, task_of
from adabn_cli.jobs.scored_data import count_classes, unscored
from adabn_cli.jobs.stages import Stages
from adabn_cli.measures.heads import Task
from adabn_cli.model import Outputs
from adabn_cli.models.live.module import EagerModel
from adabn_cli.record import Record, TargetPart

# As many as a command looks at: see `adapt`.
_SUSPECT_IMAGES = 16


def adapt(  # noqa: PLR0913 - options by keyword, as on the command line
    model: nn.Module,
    images: Iterable[Any],
    *,
    engine: str = "exact",
    layers: Sequence[str] = (),
    prior: float | Literal["auto"] | None = None,
    alpha: float | None = None,
    momentum: float | None = None,
    method: Method | None = None,
    profile: Profile | None = None,
    output: str | None = None,
    classes: Sequence[str] | None = None,
    task: str = "auto",
    label_offset: int | None = None,
    verify: bool = False,
    on_harm: Literal["keep", "warn"] = "warn",
    adapt_initial: bool = False,
) -> Record:
    """Re-estimates the model's statistics on these images, in place, and returns the record.

    `images` are batches [n, C, H, W] as the model takes them: tensors, (images, labels) pairs as a
    DataLoader gives them, or dicts. Integers are not cast. They are read once and held, so a
    shuffling loader will do. Labels [n] (class indices, negative where unknown) or [n, K] (one-hot)
    are only for the record, which says it of labels that were not used. By `task`, or by the
    outputs, they are masks [n, H, W] (255 where unknown) or numbers [n, D] (NaN where unknown).
    `label_offset` is the first class's number: 1 where labels count from 1. Without it they count
    from 0, and labels that the model contradicts clearly raise TargetError, or are not scored where
    only the adapted model shows it.
    `profile` is what the function of that name gave for the source images, or `read_profile`.

    The model keeps its mode, hooks and requires_grad; when anything raises, its statistics too.
    `on_harm` "keep" leaves the model as it was where the record's verdict is harm. `adapt_initial`
    fills statistics from the target where no site ever learned any, as a fresh or reset model has.

    Options are those of `adabn adapt`. Raises UsageError, ModelError, TargetError.
    """
    started, stages = datetime.now(UTC).isoformat(timespec="seconds"), Stages()
    by = engine_named(engine, momentum)
    wrapped = EagerModel(model, classes=classes, output=output)
    require_adaptable(wrapped, with_profile=profile is not None)
    adaptation = Adaptation(
        layers=tuple(layers),
        prior=prior,
        alpha=alpha,
        method=method,
        momentum=momentum,
        adapt_initial=adapt_initial,
    )
    belief = believe_adapted(
        wrapped, adaptation, wrapped.architecture, with_profile=profile is not None
    )
    if profile is not None:
        require_profile_of(profile, wrapped)
    with stages.stage("read"):
        held, given = held_batches(images)
    outputs = _tried(wrapped, held)
    found = task_of(outputs, task)
    truths = _truths(given, held, found, task) if found else None
    mapped = _mapped(outputs) if found == "segmentation" else None
    masks = counted_masks(truths, label_offset, mapped) if truths and mapped else None
    truth = live_truth(found, outputs, masks or truths) if found else None
    labels = class_labels(given, held, _scored(outputs)) if found is None else GivenLabels()
    labels_N = counted(labels.indices_N, None if masks else label_offset)
    _check_classes(count_classes(outputs), labels_N, classes)
    check = LiveCheck(model=wrapped, held=held, classes=mapped or _scored(outputs) or 0)
    if label_offset is None:
        check = replace(check, labels_N=labels_N, masks=masks)
    if doubt := check.doubt():
        raise doubt.error("the labels that came with the batches", OFFSET)
    images_held = sum(map(len, held))
    belief = belief.run_twice(wrapped, held[0][:PICTURES_TWICE])
    installer = Installer.of(wrapped, adaptation, images_held, profile)
    part = None if profile is None else profile_part(profile, None, "given")
    suspicion = suspect_tensors(wrapped, some_pictures(held, _SUSPECT_IMAGES), installer)
    why = unscored(outputs) if found is None else None
    subject = Subject(
        model=live_model_part(wrapped, belief),
        target=TargetPart(
            path=None,
            kind="batches",
            images=images_held,
            labels=_labelled_by(labels_N, truth),
            labeled_images=_labeled_images(labels_N, truth),
        ),
        method=method_part(
            installer.adaptation,
            engine,
            chunk_size=max(map(len, held)),
            seed=0,
            dtype=wrapped.dtype,
            profile=part,
        ),
        labels_N=labels_N,
        classes=classes,
        warnings=(
            *belief.warnings,
            *(doubt for doubt in (why, labels.unused, suspicion) if doubt),
        ),
        truth=truth,
    )
    with installer.undone_on_failure():
        head = truth.head.fresh() if truth else None
        outcome = adabn(installer, Passes.over(held), by, stages, head=head, verify=verify)
        if doubt := check.doubt():
            subject = _unscored(subject, doubt)
        record = record_of(subject, outcome, run_part(started, stages, wrapped.device, None))
        if on_harm == "keep" and record.verdict.outcome == "harm":
            installer.undo()
            record = record.with_kept_source()
        wrapped.fold()
        return record


def profile(
    model: nn.Module,
    images: Iterable[Any],
    *,
    output: str | None = None,
    label_offset: int | None = None,
) -> Profile:
    """What every site of the model shows on source images, to adapt against later.

    `images` as for `adapt`; labels are for estimates of accuracy, the profile knows classes apart
    by the model's own predictions. The model is left as it was. `profile.as_bytes()` is its file.
    Warns of a model whose numbers cannot be believed. Raises UsageError, ModelError, TargetError.
    """
    wrapped = EagerModel(model, output=output)
    belief = believe_scored(wrapped, wrapped.architecture)
    held, given = held_batches(images)
    outputs = _tried(wrapped, held)
    classes = _scored(outputs) if task_of(outputs, "auto") is None else None
    labels = class_labels(given, held, classes)
    told = belief.run_twice(wrapped, held[0][:PICTURES_TWICE]).warnings
    for doubt_told in (*told, *([labels.unused] if labels.unused else [])):
        warnings.warn(doubt_told, stacklevel=2)  # A profile has no place for it.
    labels_N = counted(labels.indices_N, label_offset)
    _check_classes(classes, labels_N, None)
    checked = None if label_offset is not None else labels_N
    if doubt := LiveCheck(model=wrapped, held=held, classes=classes or 0, labels_N=checked).doubt():
        raise doubt.error("the labels that came with the batches", OFFSET)
    found, _ = profile_of(wrapped, held, labels_N, Stages())
    return found


def _unscored(subject: Subject, doubt: Doubt) -> Subject:
    """The subject without labels that the adapted model contradicts, and a warning.

    Masks have been counted by then: of them it is told.
    """
    told = "Figures are of masks as they are" if subject.truth else "They are not scored"
    sentence = f"{doubt.sentence}. {told}. {doubt.hint(OFFSET)}"
    subject = replace(subject, warnings=(*subject.warnings, sentence))
    if subject.truth:
        return subject
    target = subject.target.model_copy(update={"labels": None, "labeled_images": 0})
    return replace(subject, target=target, labels_N=None)


def _tried(model: EagerModel, held: Sequence[Tensor]) -> Outputs:
    """What the model makes of the first image, or of the first that are integers."""
    first = next((batch for batch in held if not batch.is_floating_point()), held[0])
    return first_outputs(model, first[:2], "tensors")


def _scored(outputs: Outputs) -> int | None:
    """How many classes the outputs score; None if they are of another kind."""
    return None if unscored(outputs) else count_classes(outputs)


def _mapped(outputs: Outputs) -> int | None:
    """How many classes maps tell apart; None if the outputs are none."""
    if not isinstance(outputs, Tensor) or outputs.dim() != 4:
        return None
    return max(outputs.shape[1], 2)


def _check_classes(
    outputs: int | None, labels_N: NDArray[np.int64] | None, classes: Sequence[str] | None
) -> None:
    """Raises UsageError where labels or class names do not fit the model's outputs."""
    if outputs is None:
        return
    if classes is not None and len(classes) != outputs:
        raise UsageError(
            f"{len(classes)} class names for {outputs} outputs.",
            hint="Give one name for each output, in their order.",
        )
    if labels_N is not None and labels_N.max() >= outputs:
        raise UsageError(
            f"A label is {labels_N.max()}, counted from 0, and the model has {outputs} outputs.",
            hint="Labels are class indices from 0; -1 where unknown. If they count from 1, give "
            "label_offset=1.",
        )


def _labelled_by(labels_N: NDArray[np.int64] | None, truth: Truth | None) -> str | None:
    if truth is not None:
        return truth.source
    return None if labels_N is None else "given with the batches"


def _labeled_images(labels_N: NDArray[np.int64] | None, truth: Truth | None) -> int:
    if truth is not None:
        return truth.images
    return 0 if labels_N is None else int((labels_N >= 0).sum())


def _truths(
    labels: Sequence[Any], held: Sequence[Tensor], task: Task, asked: str
) -> list[Tensor] | None:
    """The labels as tensors; None where they are none, or no masks where none were asked for."""
    try:
        found = [torch.as_tensor(label) for label in labels]
    except (TypeError, ValueError, RuntimeError) as error:
        if asked == "auto":
            return None
        raise UsageError(
            f"The labels are not tensors: {type(labels[0]).__name__}.",
            hint="Give masks [n, H, W] or numbers [n, D], or leave the labels out.",
        ) from error
    if task == "segmentation":  # Some loaders give masks a channel.
        found = [part[:, 0] if part.dim() == 4 and part.shape[1] == 1 else part for part in found]
        if asked == "auto" and any(part.dim() != 3 for part in found):
            return None
    for number, (part, images) in enumerate(zip(found, held, strict=False)):
        if part.dim() == 0 or len(part) != len(images):
            raise UsageError(
                f"Batch {number} has labels of shape {tuple(part.shape)} for {len(images)} images.",
                hint="Give one mask or row of numbers for each image.",
            )
    return found or None
