"""Batches that Python code gives: images and labels out of whatever a loader yields.

Knows no model; labels are read as classes here, as masks and numbers in `truth`. Shapes: n images a
batch, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adabn_cli.errors import TargetError, UsageError

_IMAGE_KEYS = ("image", "images", "pixel_values", "input", "inputs", "x")
_LABEL_KEYS = ("label", "labels", "target", "targets", "y")


def held_batches(batches: Iterable[Any]) -> tuple[list[Tensor], list[Any]]:
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


def some_pictures(images: Sequence[Tensor], most: int) -> Tensor:
    """At most that many images, spread over all batches; of the first one if sizes differ."""
    if len({batch.shape[1:] for batch in images}) > 1:
        return images[0][:most]
    every = torch.cat([batch[: -(-most // len(images))] for batch in images])
    return every[torch.linspace(0, len(every) - 1, min(most, len(every))).round().long()]


def _split(batch: Any, number: int) -> tuple[Tensor, Any]:
    """The images of a batch, and its labels as they are."""
    images: Any = batch
    labels: Any = None
    if isinstance(batch, Mapping):
        images = next((batch[key] for key in _IMAGE_KEYS if key in batch), None)
        labels = next((batch[key] for key in _LABEL_KEYS if key in batch), None)
    elif isinstance(batch, tuple | list) and batch:
        images, labels = batch[0], batch[1] if len(batch) > 1 else None
    if isinstance(images, tuple | list) and images and isinstance(images[0], Tensor):
        raise UsageError(
            f"Batch {number} holds {len(images)} inputs, and the model gets images alone.",
            where=f"type of the first item: {type(images).__name__}",
            hint="Give ((x, y) for (x, *_), y in loader); if the model needs the others too, wrap "
            "it in a module whose forward(x) gives them itself.",
        )
    if not isinstance(images, Tensor) or images.dim() < 2:
        raise UsageError(
            f"Batch {number} holds no tensor of images.",
            where=f"type: {type(batch).__name__}",
            hint="Give tensors [n, C, H, W], (images, labels) pairs, or dicts with 'image'.",
        )
    return images, labels


@dataclass(frozen=True, eq=False)
class GivenLabels:
    """A class index for each image, [N]; None without any, and then `unused` says why."""

    indices_N: NDArray[np.int64] | None = None
    unused: str | None = None


def class_labels(
    labels: Sequence[Any], images: Sequence[Tensor], classes: int | None
) -> GivenLabels:
    """The labels as class indices: as they are [n] or [n, 1], or one-hot rows [n, K].

    Boxes, masks and captions are no classes, and are not used. Raises UsageError where they look
    like classes and are none: numbers, or rows [n, K] of K `classes` that are not one-hot.
    """
    if not labels:
        return GivenLabels()
    if classes is None:
        return GivenLabels(unused=_unused(labels[0], "the model's outputs are not class scores"))
    found = [_as_tensor(label) for label in labels]
    known = [part for part in found if part is not None]
    sizes = [len(batch) for batch in images]
    if len(known) == len(sizes) and all(
        part.shape == (n, classes) for part, n in zip(known, sizes, strict=True)
    ):
        return GivenLabels(_of_rows(torch.cat(known)))
    flat = [part.squeeze(1) if part.dim() == 2 else part for part in known]
    if len(flat) < len(sizes) or any(
        part.shape != (n,) for part, n in zip(flat, sizes, strict=True)
    ):
        return GivenLabels(unused=_unused(labels[0], "these are not class indices"))
    for number, part in enumerate(flat):
        if part.is_floating_point() or part.is_complex():
            raise UsageError(
                f"The labels of batch {number} are {part.dtype}, not class indices.",
                hint="Give integers, or leave them out; numbers take task='regression'.",
            )
    return GivenLabels(torch.cat(flat).cpu().numpy().astype(np.int64))


def _of_rows(rows_NK: Tensor) -> NDArray[np.int64]:
    """The place of the single 1 in each row. Raises UsageError where there is another row."""
    one_hot_N = (rows_NK == 1).sum(1).eq(1) & (rows_NK == 0).sum(1).eq(rows_NK.shape[1] - 1)
    if not one_hot_N.all():
        raise UsageError(
            f"The labels of shape [n, {rows_NK.shape[1]}] are not one-hot: "
            f"{int((~one_hot_N).sum())} of {len(rows_NK)} rows are not a 1 among zeros.",
            hint="Give class indices [n], as by labels.argmax(1); of several labels an image, "
            "task='multi-label'.",
        )
    indices_N: NDArray[np.int64] = rows_NK.int().argmax(1).cpu().numpy().astype(np.int64)
    return indices_N


def _as_tensor(label: Any) -> Tensor | None:
    try:
        return torch.as_tensor(label)
    except (TypeError, ValueError, RuntimeError):
        return None


def _unused(label: Any, why: str) -> str:
    found = _as_tensor(label)
    what = f"type {type(label).__name__}" if found is None else f"shape {list(found.shape)}"
    return f"The labels, of {what} in the first batch, were not used: {why}."
