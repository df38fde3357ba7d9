"""Labels held against what the model says: where they count from, and in which order folders are.

A guess that is wrong by one scores 2% where 60% is right, and nothing else shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adabn_cli.data.truth.labels import Labels
from adabn_cli.data.truth.masks import ReadMasks
from adabn_cli.errors import TargetError
from adabn_cli.measures.label_agreement import Classes, far_better
from adabn_cli.measures.scores import Scores
from adabn_cli.measures.segmentation import classes_of_areas
from adabn_cli.model import Model
from adabn_cli.text import first_few

#: Gives images by their numbers, in batches.
Images = Callable[[Tensor], Iterable[Tensor]]

# Pictures that are looked at, spread over all labelled ones: a model that is right on one of ten
# settles it. Maps are dear, and each gives several areas.
_PICTURES, MAPS = 128, 16


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """Labels that the model agrees with far better when they count from `offset`.

    `as_is` and `moved` are the shares that agree, of so many `seen` ("128 pictures").
    """

    offset: int
    seen: str
    as_is: float
    moved: float

    @property
    def sentence(self) -> str:
        """What was found, without what to do about it."""
        first = f"{self.offset}" if self.offset > 0 else "0 after an output that is not a class"
        return (
            f"The labels seem to count from {first}: of {self.seen} the model agrees with "
            f"{self.as_is:.1%} as they are, and with {self.moved:.1%} read so"
        )

    def hint(self, option: str = "--label-offset ") -> str:
        """What to do about it; `option` is how the offset is given."""
        return f"Give {option}{self.offset}, or {option}0 to score them as they are."

    def error(self, where: str, option: str = "--label-offset ") -> TargetError:
        """Why they are not scored."""
        return TargetError(f"{self.sentence}.", where=where, hint=self.hint(option))


def label_doubt(model: Model, labels_N: Classes, classes: int, images: Images) -> Doubt | None:
    """What speaks for labels that count from 1, or for outputs that begin with a background.

    Only where the first class, or the last one, is missing can they be meant so.
    """
    labelled = np.flatnonzero(labels_N >= 0)
    if not len(labelled):
        return None
    first, last = labels_N[labelled].min(), labels_N.max()
    offsets = [*([1] if first > 0 else []), *([-1] if last < classes - 1 else [])]
    if not offsets:
        return None
    rows = _spread(labelled, _PICTURES)
    found = predictions(model, images(torch.from_numpy(rows)))
    if found is None or len(found) != len(rows):
        return None
    return _doubt(found, labels_N[rows], offsets, "pictures")


def mask_doubt(model: Model, masked: Iterable[tuple[Tensor, Tensor]], classes: int) -> Doubt | None:
    """The same for images and their masks, by the class that most of an area is taken for.

    Masks that count from 1 have 0 for what is of no class.
    """
    labels, predicted = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for images, masks_nHW in masked:
        outputs = model.forward(images)
        if not isinstance(outputs, Tensor) or len(outputs) != len(images):
            return None
        areas = classes_of_areas(outputs, masks_nHW)
        labels.append(areas[0])
        predicted.append(areas[1])
    labels_M, predicted_M = np.concatenate(labels), np.concatenate(predicted)
    class_M = labels_M > 0
    found = _doubt(predicted_M[class_M], labels_M[class_M], [1], "areas of one class")
    if found is None and len(labels_M) and labels_M.max() < classes - 1:
        found = _doubt(predicted_M, labels_M, [-1], "areas of one class")
    return found


def sampled_masks(masks: ReadMasks, images: Images) -> Iterator[tuple[Tensor, Tensor]]:
    """Some pictures, spread over those with a mask, in batches with their masks [n, H, W]."""
    rows = torch.from_numpy(_spread(np.flatnonzero(masks.found_N), MAPS))
    done = 0
    for batch in images(rows):
        yield batch, masks.pixels_NHWC[rows[done:][: len(batch)]][..., 0]
        done += len(batch)


def _doubt(
    predicted_M: Classes, labels_M: Classes, offsets: Iterable[int], what: str
) -> Doubt | None:
    said_M = predicted_M >= 0
    predicted_M, labels_M = predicted_M[said_M], labels_M[said_M]
    for offset in offsets:
        moved_M = labels_M - offset
        if len(labels_M) and far_better(predicted_M, labels_M, moved_M):
            as_is, moved = (float((predicted_M == part).mean()) for part in (labels_M, moved_M))
            return Doubt(offset=offset, seen=f"{len(labels_M)} {what}", as_is=as_is, moved=moved)
    return None


def in_order(model: Model, labels: Labels, where: str, images: Images) -> Labels:
    """The labels in the order of folders, text or natural, that the model clearly agrees with.

    Raises TargetError where it does not tell.
    """
    natural = labels.natural
    if natural is None:
        return labels
    text_N, natural_N = labels.indices_N, natural.indices_N
    rows = _spread(np.flatnonzero(text_N != natural_N), _PICTURES)
    found = predictions(model, images(torch.from_numpy(rows))) if len(rows) else None
    if found is None or len(found) != len(rows):
        return replace(labels, natural=None)  # Both say the same of these pictures.
    said = found >= 0
    found, text_M, natural_M = found[said], text_N[rows][said], natural_N[rows][said]
    shares = [float((found == part).mean()) if len(found) else 0.0 for part in (text_M, natural_M)]
    told = (
        f"of {len(found)} pictures the model agrees with {shares[0]:.1%} with the classes in "
        f"alphabetical order ({first_few(labels.classes or (), 4)}), and with {shares[1]:.1%} in "
        f"natural order ({first_few(natural.classes or (), 4)})"
    )
    for better, one_M, other_M in ((natural, text_M, natural_M), (labels, natural_M, text_M)):
        if len(found) and far_better(found, one_M, other_M):
            note = f"The order of the classes was told by the run: {told}."
            return replace(better, natural=None, notes=(*better.notes, note))
    raise TargetError(
        f"The order of the classes is ambiguous: {told}.",
        where=where,
        hint="Give --class-order natural (timm), --class-order text (ImageFolder) or --class-map "
        "FILE; --labels none if they are not classes.",
    )


def predictions(model: Model, batches: Iterable[Tensor]) -> Classes | None:
    """The class that the model gives every image, -1 where none; None where outputs are others."""
    scores = Scores()
    for index, images in enumerate(batches):
        scores(index, model.forward(images))
    return scores.predicted_N if scores.scorable else None


def _spread(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    places = np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(np.int64)
    return rows[places]
