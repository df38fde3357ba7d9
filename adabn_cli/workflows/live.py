"""The main job for Python code: a live module and any iterable of batches. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adabn_cli.adaptation import Adaptation, Installer, Method
from adabn_cli.checkpoints.eager import EagerModel
from adabn_cli.engines import check_engine
from adabn_cli.errors import TargetError, UsageError
from adabn_cli.measures.heads import Task
from adabn_cli.model import entries_of
from adabn_cli.profiles import Profile, require_profile_of
from adabn_cli.record import Record, TargetPart
from adabn_cli.workflows.known_profile import profile_part
from adabn_cli.workflows.label_check import Doubt, label_doubt
from adabn_cli.workflows.outcome import Stages, adapt_and_measure, require_adaptable
from adabn_cli.workflows.profile import profile_of
from adabn_cli.workflows.recording import (
    Subject,
    live_model_part,
    method_part,
    record_of,
    run_part,
)
from adabn_cli.workflows.scored_pictures import count_classes, first_outputs
from adabn_cli.workflows.truth import Truth, live_truth, task_of

_IMAGE_KEYS = ("image", "images", "pixel_values", "input", "inputs", "x")
_OFFSET = "label_offset="
_LABEL_KEYS = ("label", "labels", "target", "targets", "y")


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
) -> Record:
    """Re-estimates the model's statistics on these images, in place, and returns the record.

    `images` are batches [n, C, H, W] as the model takes them: tensors, (images, labels) pairs as a
    DataLoader gives them, or dicts. They are read once and held, so a shuffling loader will do.
    Labels [n] (class indices, negative where unknown) are only for the record. By `task`, or by the
    outputs, they are masks [n, H, W] (255 where unknown) or numbers [n, D] (NaN where unknown).
    `label_offset` is the first class's number: 1 where labels count from 1. Without it they count
    from 0, and labels that the model contradicts clearly raise TargetError, or are not scored where
    only the adapted model shows it.
    `profile` is what the function of that name gave for the source images, or `read_profile`.

    The model keeps its mode, hooks and requires_grad; when anything raises, its statistics too.
    `on_harm` "keep" leaves the model as it was where the record's verdict is harm.

    Options are those of `adabn adapt`. Raises UsageError, ModelError, TargetError.
    """
    started, stages = datetime.now(UTC).isoformat(timespec="seconds"), Stages()
    check_engine(engine, momentum)
    wrapped = EagerModel(model, classes=classes, output=output)
    require_adaptable(wrapped, with_profile=profile is not None)
    if profile is not None:
        require_profile_of(profile, wrapped)
    with stages.stage("read"):
        held, given = _held(images)
    outputs = first_outputs(wrapped, held[0][:1])
    found = task_of(outputs, task)
    truth = live_truth(found, outputs, _truths(given, found, task)) if found else None
    labels_N = _counted(_class_indices(given, held) if found is None else None, label_offset)
    _check_classes(count_classes(outputs), labels_N, classes)
    check = _Check(wrapped, held, None if label_offset is not None else labels_N)
    if doubt := check.doubt():
        raise doubt.error("the labels that came with the batches", _OFFSET)
    images_held = sum(map(len, held))
    adaptation = Adaptation(tuple(layers), prior, alpha, method, momentum)
    installer = Installer(wrapped, adaptation, images_held, profile)
    part = None if profile is None else profile_part(profile, None, "given")
    subject = Subject(
        live_model_part(wrapped),
        TargetPart(
            path=None,
            kind="batches",
            images=images_held,
            labels=_labelled_by(labels_N, truth),
            labeled_images=_labeled_images(labels_N, truth),
        ),
        method_part(
            installer.adaptation,
            engine,
            max(map(len, held)),
            seed=0,
            dtype=wrapped.dtype,
            profile=part,
        ),
        labels_N,
        classes,
        truth=truth,
    )
    with installer.undone_on_failure():
        head = truth.head.fresh() if truth else None
        outcome = adapt_and_measure(
            installer, held, engine, verify=verify, stages=stages, head=head
        )
        if doubt := check.doubt():
            subject = _unscored(subject, doubt)
        record = record_of(subject, outcome, run_part(started, stages, wrapped.device, None))
        if on_harm == "keep" and record.verdict.outcome == "harm":
            wrapped.load_state(entries_of(wrapped, installer.original))
            verdict = record.verdict.model_copy(update={"kept_source": True})
            record = record.model_copy(update={"verdict": verdict})
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
    Raises UsageError, ModelError, TargetError.
    """
    wrapped = EagerModel(model, output=output)
    held, given = _held(images)
    outputs = first_outputs(wrapped, held[0][:1])
    labels_N = _class_indices(given, held) if task_of(outputs, "auto") is None else None
    labels_N = _counted(labels_N, label_offset)
    _check_classes(count_classes(outputs), labels_N, None)
    if doubt := _Check(wrapped, held, None if label_offset is not None else labels_N).doubt():
        raise doubt.error("the labels that came with the batches", _OFFSET)
    found, _ = profile_of(wrapped, held, labels_N, Stages())
    return found


@dataclass(frozen=True)
class _Check:
    """Labels that are held against what the model says, as it then is; None where they are not."""

    model: EagerModel
    held: Sequence[Tensor]
    labels_N: NDArray[np.int64] | None

    def doubt(self) -> Doubt | None:
        """What the model says against where the labels count from."""
        if self.labels_N is None:
            return None
        classes = count_classes(first_outputs(self.model, self.held[0][:1]))
        return label_doubt(self.model, self.labels_N, classes or 0, self._some)

    def _some(self, rows: Tensor) -> Iterator[Tensor]:
        start = 0
        for images in self.held:
            own = rows[(rows >= start) & (rows < start + len(images))] - start
            if len(own):
                yield images[own.to(images.device)]
            start += len(images)


def _unscored(subject: Subject, doubt: Doubt) -> Subject:
    """The subject without labels that the adapted model contradicts, and a warning."""
    target = subject.target.model_copy(update={"labels": None, "labeled_images": 0})
    sentence = f"{doubt.sentence}. They are not scored. {doubt.hint(_OFFSET)}"
    warnings = (*subject.warnings, sentence)
    return replace(subject, target=target, labels_N=None, warnings=warnings)


def _counted(labels_N: NDArray[np.int64] | None, offset: int | None) -> NDArray[np.int64] | None:
    """Class indices from labels that count from `offset`; what is negative stays unknown."""
    if offset is not None and labels_N is None:
        raise UsageError(
            "label_offset is for class indices, and the batches bring none.",
            hint="Leave out label_offset, or give labels [n] with every batch.",
        )
    if not offset or labels_N is None:
        return labels_N
    known_N = labels_N >= 0
    if known_N.any() and labels_N[known_N].min() < offset:
        raise UsageError(
            f"A label is {labels_N[known_N].min()}, below label_offset={offset}.",
            hint="Give the number of the first class; -1 where a label is unknown.",
        )
    return np.where(known_N, labels_N - offset, -1)


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
            hint="Labels are class indices from 0; -1 where unknown. Where they count from 1, give "
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


def _held(batches: Iterable[Any]) -> tuple[list[Tensor], list[Any]]:
    """All batches, and what each brought as labels where every one brought some."""
    images: list[Tensor] = []
    labels: list[Any] = []
    for number, batch in enumerate(batches):
        found, label = _split(batch, number)
        if len(found):
            images.append(found.detach().clone())  # Some loaders fill one buffer again.
            if label is not None:
                labels.append(label.detach().clone() if isinstance(label, Tensor) else label)
    if not images:
        raise TargetError("There are no images to adapt to.", hint="Give at least one batch.")
    if labels and len(labels) < len(images):
        raise UsageError(
            f"{len(labels)} of {len(images)} batches have labels.",
            hint="Give labels with every batch (-1 where unknown), or with none.",
        )
    return images, labels


def _split(batch: Any, number: int) -> tuple[Tensor, Any]:
    """The images of a batch, and its labels as they are."""
    images: Any = batch
    labels: Any = None
    if isinstance(batch, Mapping):
        images = next((batch[key] for key in _IMAGE_KEYS if key in batch), None)
        labels = next((batch[key] for key in _LABEL_KEYS if key in batch), None)
    elif isinstance(batch, tuple | list) and batch:
        images, labels = batch[0], batch[1] if len(batch) > 1 else None
    if not isinstance(images, Tensor) or images.dim() < 2:
        raise UsageError(
            f"Batch {number} holds no tensor of images.",
            where=f"type: {type(batch).__name__}",
            hint="Give tensors [n, C, H, W], (images, labels) pairs, or dicts with 'image'.",
        )
    return images, labels


def _truths(labels: Sequence[Any], task: Task, asked: str) -> list[Tensor] | None:
    """The labels as tensors; None where they are none, or no masks where none were asked for."""
    try:
        found = [torch.as_tensor(label) for label in labels]
    except (TypeError, ValueError, RuntimeError) as error:
        if asked == "auto":
            return None
        raise UsageError(
            f"The labels are no tensors: {type(labels[0]).__name__}.",
            hint="Give masks [n, H, W] or numbers [n, D], or leave the labels out.",
        ) from error
    if asked == "auto" and task == "segmentation" and any(part.dim() != 3 for part in found):
        return None
    return found or None


def _class_indices(labels: Sequence[Any], images: Sequence[Tensor]) -> NDArray[np.int64] | None:
    """One class index an image; None for boxes, masks and captions, which accuracy is not of."""
    found = [
        _indices_of(label, len(batch), number)
        for number, (label, batch) in enumerate(zip(labels, images, strict=False))
    ]
    known = [part for part in found if part is not None]
    if not known or len(known) < len(images):
        return None
    return torch.cat(known).cpu().numpy().astype(np.int64)


def _indices_of(labels: Any, n: int, number: int) -> Tensor | None:
    try:
        found = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError):
        return None
    if found.shape == (n, 1):
        found = found.squeeze(1)
    if found.shape != (n,):
        return None
    if found.is_floating_point() or found.is_complex():
        raise UsageError(
            f"The labels of batch {number} are {found.dtype}, not class indices.",
            hint="Give integers, or leave them out; numbers take task='regression'.",
        )
    return found
