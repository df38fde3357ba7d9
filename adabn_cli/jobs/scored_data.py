"""Pictures with what is needed to score a model on them: batches, labels where there are any."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adabn_cli.data.deep_values import ValueRange
from adabn_cli.data.listing import Location
from adabn_cli.data.open import Draws, open_target
from adabn_cli.data.store import Keeping
from adabn_cli.data.tables.columns import BY_HEADER, Columns
from adabn_cli.data.target import Target, TargetRequest
from adabn_cli.data.truth.classes import Order
from adabn_cli.data.truth.labels import LabelRequest, Labels, read_labels
from adabn_cli.dependence import FREE
from adabn_cli.errors import UsageError
from adabn_cli.jobs.checks.label_check import (
    Doubt,
    in_order,
    label_doubt,
    mask_doubt,
    sampled_masks,
)
from adabn_cli.jobs.checks.probing import first_outputs
from adabn_cli.jobs.results.intake_notes import intake_notes
from adabn_cli.jobs.results.truth import Truth, TruthRequest, read_truth, task_of
from adabn_cli.machine import keeping_freed
from adabn_cli.measures.heads import Head
from adabn_cli.model import Boxes, Model, Outputs, Progress
from adabn_cli.preprocessing import Preprocessing
from adabn_cli.ranks import ALONE, WHOLE, Ranks, Shard


@dataclass(frozen=True, kw_only=True)
class PicturesRequest:
    """How pictures are read and where their labels come from; see the options of those names.

    What is free here is compared as it is found: which pictures and which labels there are.
    """

    batch_size: int = 32
    workers: int | None = field(default=None, metadata=FREE)
    max_images: int | None = field(default=None, metadata=FREE)
    max_bad: int | float = field(default=0.05, metadata=FREE)
    seed: int = field(default=0, metadata=FREE)
    labels: str = field(default="auto", metadata=FREE)
    class_map: Path | None = field(default=None, metadata=FREE)
    keeping: Keeping | None = field(default=None, metadata=FREE)
    kind: str | None = None
    stride: int = 1
    value_range: ValueRange | None = None
    columns: Columns = BY_HEADER
    max_pixels: int | None = None
    ranks: Ranks = field(default=ALONE, metadata=FREE)
    shard: Shard = field(default=WHOLE, metadata=FREE)
    task: str = "auto"
    masks: Path | None = field(default=None, metadata=FREE)
    label_offset: int | None = None
    class_order: Order | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files and folders that are named: of labels, classes and masks."""
        labels = None if self.labels in ("auto", "none") else Path(self.labels)
        return tuple(file for file in (labels, self.class_map, self.masks) if file is not None)


@dataclass(frozen=True, kw_only=True)
class ScoredPictures:
    """Decoded pictures and their labels, for `model`; a `truth` where it gives no classes.

    `n_outputs` are its classes, where they are known. `unscored` says why nothing is scored,
    where the outputs are of no kind that can be.
    """

    model: Model
    target: Target
    labels: Labels
    truth: Truth | None = None
    n_outputs: int = 0
    offset: int | None = None
    unscored: str | None = None

    @property
    def files(self) -> Collection[Path]:
        """The files on this machine that the pictures lie in, and what is known of them."""
        return {*self.target.listing.files, *(self.truth.files if self.truth else ())}

    @property
    def images(self) -> int:
        """How many pictures there are."""
        return len(self.target.pictures)

    @property
    def labels_N(self) -> NDArray[np.int64] | None:
        """The class of each picture, -1 where unknown; None where no picture has one."""
        return self.labels.indices_N if self.labels.origin is not None else None

    @property
    def head(self) -> Head | None:
        """Where the model's outputs go if they are no class scores."""
        return self.truth.head.fresh() if self.truth else None

    @property
    def labelled_by(self) -> str | None:
        """Where labels, masks or numbers come from; None without any."""
        return self.truth.source if self.truth else self.labels.origin

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be told of the labels and of the pictures."""
        return (*self.label_notes, *self.picture_notes)

    @property
    def label_notes(self) -> tuple[str, ...]:
        """What is to be told of the labels, and of the file that lists the pictures."""
        listed = (f"{note[0].upper()}{note[1:]}." for note in self.target.listing.notes)
        return (*listed, *(self.truth.notes if self.truth else self.labels.notes))

    @property
    def picture_notes(self) -> tuple[str, ...]:
        """What is to be told of files that were left out, and of folders that were pooled."""
        outputs = self.n_outputs or None
        labelled = self.labels.origin is not None
        return intake_notes(self.target, self.model.classes, outputs, labelled=labelled)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Class names by index, where they are known."""
        if self.truth is not None:
            return self.truth.names
        return self.labels.classes or (tuple(self.model.classes) if self.model.classes else None)

    @property
    def labeled_images(self) -> int:
        """How many of the pictures have a label, a mask or numbers."""
        return self.truth.images if self.truth else int((self.labels.indices_N >= 0).sum())

    def doubt(self) -> Doubt | None:
        """What the model, as it is now, says against where the labels count from.

        None where that was said with --label-offset.
        """
        if self.offset is not None:
            return None
        if self.truth is not None:
            if self.truth.masks is None:
                return None
            masked = sampled_masks(self.truth.masks, partial(self.target.some, batch_size=4))
            return mask_doubt(self.model, masked, self.n_outputs)
        if self.labels.known_by != "number":
            return None
        labels_N = self.labels.indices_N
        return label_doubt(self.model, labels_N, self.n_outputs, self.target.some)

    def believed(self) -> tuple[ScoredPictures, tuple[str, ...]]:
        """These without labels that the model, as it is now, contradicts, and a sentence on it.

        For a model that was adapted: the source model may not have shown it. Masks have been
        counted by then, so that it can only be told.
        """
        doubt = self.doubt()
        if doubt is None:
            return self, ()
        told = "Figures are of masks as they are" if self.truth else "They are not scored"
        sentence = f"{doubt.sentence}. {told}. {doubt.hint()}"
        if self.truth is not None:
            return self, (sentence,)
        return replace(self, labels=self.labels.unlabelled()), (sentence,)


def target_request(
    place: Location, preprocessing: Preprocessing, request: PicturesRequest
) -> TargetRequest:
    """What is asked of the pictures themselves, without their labels."""
    return TargetRequest(
        place,
        preprocessing,
        batch_size=request.batch_size,
        workers=request.workers,
        max_images=request.max_images,
        max_bad=request.max_bad,
        seed=request.seed,
        keeping=request.keeping,
        kind=request.kind,
        stride=request.stride,
        value_range=request.value_range,
        columns=request.columns,
        max_pixels=request.max_pixels,
        ranks=request.ranks,
        shard=request.shard,
    )


def open_pictures(
    place: Location,
    model: Model,
    preprocessing: Preprocessing,
    request: PicturesRequest,
    progress: Progress,
    draws: Draws | None = None,
) -> ScoredPictures:
    """The pictures of a source for this model, decoded once; labels by the model's classes.

    With `draws`, which are of that source, those that an earlier one had are not decoded again.
    Raises TargetError where pictures or labels cannot be used, ModelError where the model does not
    take such pictures.
    """
    # Decoders take and free megabytes a picture: a fifth of the time went into clearing pages.
    with keeping_freed():
        if draws is not None:
            target = draws.target(request.max_images, progress)
        else:
            target = open_target(target_request(place, preprocessing, request), progress)
    outputs = first_outputs(model, target.few(2))
    task = task_of(outputs, request.task)
    if task is None and request.masks is not None:
        raise UsageError(
            "--masks are for maps, and the model's outputs are none.", hint="Leave out --masks."
        )
    if task is None and (why := unscored(outputs)):
        _require_no_labels(request, why)
        none_N = np.full(len(target.pictures), -1, dtype=np.int64)
        return ScoredPictures(
            model=model, target=target, labels=Labels(none_N, None, (why,), None), unscored=why
        )
    labels = read_labels(
        target.pictures,
        LabelRequest(
            place,
            "none" if task else request.labels,
            model.classes,
            count_classes(outputs),
            request.class_map,
            target.listing,
            request.label_offset,
            request.class_order,
            columns=request.columns,
        ),
    )
    labels = in_order(model, labels, str(place), target.some)
    truth = None
    if task is not None:
        asked = TruthRequest(
            task=task, labels=request.labels, masks=request.masks, label_offset=request.label_offset
        )
        truth = read_truth(asked, target, model, outputs)
    opened = ScoredPictures(
        model=model,
        target=target,
        labels=labels,
        truth=truth,
        n_outputs=_classes_of(outputs) if task in (None, "segmentation") else 0,
        offset=request.label_offset,
    )
    if doubt := opened.doubt():
        raise doubt.error(f"{place}: {opened.labelled_by}")
    return opened


def require_used(request: PicturesRequest, *opened: ScoredPictures) -> None:
    """Raises UsageError for an option that says how labels are read, where none are read so."""
    known = {pictures.labels.known_by for pictures in opened}
    masked = any(
        pictures.truth and pictures.truth.source and pictures.truth.head.task == "segmentation"
        for pictures in opened
    )
    found = "; ".join(f"labels: {one.labelled_by or 'none'}" for one in opened)
    if request.label_offset is not None and "number" not in known and not masked:
        raise UsageError(
            "--label-offset is for labels that are numbers, and no picture has such a one.",
            where=found,
            hint="Leave out --label-offset.",
        )
    if request.class_order is not None and "order" not in known:
        raise UsageError(
            "--class-order is for folders that are classes by their order alone, one for each "
            "output; these are not.",
            where=found,
            hint="Leave out --class-order.",
        )


def unscored(outputs: Outputs) -> str | None:
    """Why the outputs of one picture cannot be scored as those of a class; None if they can."""
    if isinstance(outputs, Tensor) and outputs.dim() == 2 and outputs.is_floating_point():
        return None
    if isinstance(outputs, Tensor):
        kind = "numbers" if outputs.is_floating_point() else "integers"
        found = f"The model gives {kind} of shape {list(outputs.shape[1:])} for each picture"
    elif isinstance(outputs, Boxes):
        found = "The model gives boxes"
    else:
        found = "The model's outputs have no entry of one shape for each picture"
    return f"{found}: these are not class scores, so nothing is scored."


def _require_no_labels(request: PicturesRequest, why: str) -> None:
    """Raises UsageError where labels were given that nothing can be held against."""
    for option, given in (
        ("--labels", request.labels not in ("auto", "none")),
        ("--class-map", request.class_map is not None),
    ):
        if given:
            raise UsageError(
                why, hint=f"Leave out {option}, pick another --output, or say what it is: --task."
            )


def count_classes(outputs: Outputs) -> int | None:
    """K of logits [N, K]; None if the outputs are of another kind."""
    if not isinstance(outputs, Tensor) or outputs.dim() != 2:
        return None
    return _classes_of(outputs)


def _classes_of(outputs: Outputs) -> int:
    """K of logits [N, K] or maps [N, K, H, W]; one logit decides between two classes."""
    return max(outputs.shape[1], 2) if isinstance(outputs, Tensor) and outputs.dim() > 1 else 2
