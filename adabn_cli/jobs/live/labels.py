"""Labels that came with batches of Python code, held against the classes and what the model says.

Shapes: N images, n of a batch, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adabn_cli.errors import UsageError
from adabn_cli.jobs.checks.label_check import MAPS, Doubt, label_doubt, mask_doubt
from adabn_cli.model import IGNORED, Model

#: How the number of the first class is given here.
OFFSET = "label_offset="


@dataclass(frozen=True, kw_only=True, eq=False)
class LiveCheck:
    """Labels [N], or masks [n, H, W] of each batch, for a model of K `classes`.

    Neither is there where nothing is to be checked: where the offset was said.
    """

    model: Model
    held: Sequence[Tensor]
    classes: int
    labels_N: NDArray[np.int64] | None = None
    masks: Sequence[Tensor] | None = None

    def doubt(self) -> Doubt | None:
        """What the model, as it is now, says against where the labels count from."""
        if self.masks is not None:
            return mask_doubt(self.model, self._masked(self.masks), self.classes)
        if self.labels_N is None:
            return None
        return label_doubt(self.model, self.labels_N, self.classes, self._some)

    def _some(self, rows: Tensor) -> Iterator[Tensor]:
        for images, own in zip(self.held, self._own(rows), strict=True):
            if len(own):
                yield images[own.to(images.device)]

    def _masked(self, masks: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        count = sum(map(len, self.held))
        rows = torch.linspace(0, count - 1, min(MAPS, count)).round().long()
        for images, mask, own in zip(self.held, masks, self._own(rows), strict=True):
            if len(own):
                yield images[own.to(images.device)], mask[own.to(mask.device)].cpu()

    def _own(self, rows: Tensor) -> Iterator[Tensor]:
        """Of some images by their numbers those of every batch, by their places in it."""
        start = 0
        for images in self.held:
            yield rows[(rows >= start) & (rows < start + len(images))] - start
            start += len(images)


def counted(labels_N: NDArray[np.int64] | None, offset: int | None) -> NDArray[np.int64] | None:
    """Class indices from labels that count from `offset`; what is negative stays unknown.

    Raises UsageError for an offset without labels, and for a label below it.
    """
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


def counted_masks(masks: Sequence[Tensor], offset: int | None, classes: int) -> list[Tensor]:
    """Masks of class indices; what is below the first class, or negative, counts for nothing.

    Raises UsageError for what are no class indices, and for a class that there is none of.
    """
    for mask in masks:
        if mask.dim() != 3 or mask.is_floating_point():
            raise UsageError(
                f"Masks are class indices [n, H, W], not {mask.dtype} {tuple(mask.shape)}.",
                hint=f"{IGNORED} is for pixels that count for nothing.",
            )
    found = [mask.long() for mask in masks]
    found = [torch.where(mask == IGNORED, IGNORED, mask - (offset or 0)) for mask in found]
    found = [torch.where(mask < 0, IGNORED, mask) for mask in found]
    largest = max(int(mask.where(mask != IGNORED, -1).max()) for mask in found)
    if largest >= classes:
        raise UsageError(
            f"The masks hold class {largest + (offset or 0)}, and the model has {classes} classes.",
            hint=f"Class indices start at 0; {IGNORED} is unknown. If they count from 1, give "
            f"{OFFSET}1.",
        )
    return found
