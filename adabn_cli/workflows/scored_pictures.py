"""Pictures with what is needed to score a model on them: batches, labels where there are any."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adabn_cli.batch import Progress
from adabn_cli.errors import ModelError
from adabn_cli.model import Model, Preprocessing
from adabn_cli.targets.folder import Target, TargetRequest, open_target
from adabn_cli.targets.labels import LabelRequest, Labels, read_labels
from adabn_cli.targets.pixel_store import Keeping


@dataclass(frozen=True)
class PicturesRequest:
    """How pictures are read and where their labels come from; see the options of those names."""

    batch_size: int = 32
    workers: int | None = None
    max_images: int | None = None
    max_bad: int | float = 0.05
    seed: int = 0
    labels: str = "auto"
    class_map: Path | None = None
    keeping: Keeping | None = None


@dataclass(frozen=True)
class ScoredPictures:
    """Decoded pictures and their labels, for `model`."""

    model: Model
    target: Target
    labels: Labels

    @property
    def images(self) -> int:
        """How many pictures there are."""
        return len(self.target.pictures)

    @property
    def labels_N(self) -> NDArray[np.int64] | None:
        """The class of each picture, -1 where unknown; None where no picture has one."""
        return self.labels.indices_N if self.labels.source is not None else None

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Class names by index, where they are known."""
        return self.labels.classes or (tuple(self.model.classes) if self.model.classes else None)

    @property
    def labeled_images(self) -> int:
        """How many of the pictures have a label."""
        return int((self.labels.indices_N >= 0).sum())


def open_pictures(
    folder: Path,
    model: Model,
    preprocessing: Preprocessing,
    request: PicturesRequest,
    progress: Progress,
) -> ScoredPictures:
    """The pictures of a folder for this model, decoded once; labels by the model's classes.

    Raises TargetError where pictures or labels cannot be used, ModelError where the model does not
    take such pictures.
    """
    target = open_target(
        TargetRequest(
            folder,
            preprocessing,
            batch_size=request.batch_size,
            workers=request.workers,
            max_images=request.max_images,
            max_bad=request.max_bad,
            seed=request.seed,
            keeping=request.keeping,
        ),
        progress,
    )
    labels = read_labels(
        target.pictures,
        LabelRequest(
            folder,
            request.labels,
            model.classes,
            count_outputs(model, target.spread(1)),
            request.class_map,
        ),
    )
    return ScoredPictures(model, target, labels)


def count_outputs(model: Model, first: Tensor) -> int | None:
    """K of the model's logits [N, K], from one picture; None where its output is of another kind.

    Finds out before the long work whether the model takes these pictures at all: raises ModelError
    with the reason where not.
    """
    try:
        logits = model.forward(first)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ModelError(
            f"The model cannot run on a picture of shape {tuple(first.shape[1:])}.",
            where=f"{type(error).__name__}: {error}".strip().splitlines()[-1],
            hint="Check --img-size, the number of channels in --mean, and --arch.",
        ) from error
    if logits is None or logits.dim() != 2:
        return None
    return max(logits.shape[1], 2)  # One logit decides between two classes.
