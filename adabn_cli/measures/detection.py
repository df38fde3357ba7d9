"""Detectors: how many things they see and how sure they are. Knows no annotated box.

N images (n of one batch), K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adabn_cli.errors import ModelError
from adabn_cli.measures.heads import Surveyed, Task, ratio
from adabn_cli.model import Boxes, Outputs

#: Boxes of less score are not counted: detectors give out hundreds that they do not mean.
SURE = 0.5


@dataclass(frozen=True, eq=False)
class _Found:
    """One batch: boxes by image and the mean of their scores, NaN without any; boxes by class."""

    boxes_n: NDArray[np.float64]
    score_n: NDArray[np.float64]
    by_class_K: NDArray[np.int64]


class Detections:
    """A head for boxes. Says what is seen; annotated boxes are held against nothing."""

    task: Task = "detection"

    def __init__(self) -> None:
        self._found: dict[int, _Found] = {}

    def __call__(self, index: int, outputs: Outputs) -> None:
        """Counts the boxes of a batch."""
        if not isinstance(outputs, Boxes):
            raise ModelError(
                "The model gives no boxes with labels and scores.",
                hint="Leave out --task.",
            )
        scores_D = outputs.scores_D.detach().double().cpu().numpy()
        sure_D = scores_D >= SURE
        image_D, n = outputs.image_D.cpu().numpy()[sure_D], outputs.images
        boxes_n = np.bincount(image_D, minlength=n).astype(np.float64)
        sums_n = np.bincount(image_D, scores_D[sure_D], n).astype(np.float64)
        score_n = ratio(sums_n, boxes_n)
        class_D = outputs.class_D.cpu().numpy()[sure_D]
        self._found[index] = _Found(boxes_n, score_n, np.bincount(class_D))

    def fresh(self) -> Detections:
        """One that has seen nothing."""
        return Detections()

    def survey(self) -> Surveyed:
        """Confidence is the mean score of an image's boxes; there is no entropy."""
        parts = [self._found[index] for index in sorted(self._found)]
        by_class_K = np.zeros(max(len(part.by_class_K) for part in parts), np.int64)
        for part in parts:
            by_class_K[: len(part.by_class_K)] += part.by_class_K
        score_N = np.concatenate([part.score_n for part in parts])
        return Surveyed(
            confidence_N=score_N,
            entropy_N=np.full(len(score_N), np.nan),
            predicted_K=by_class_K,
            not_finite=0,
        )

    def figures(self, weights_BN: NDArray[np.float64]) -> Mapping[str, NDArray[np.float64]]:
        """None: there is no truth."""
        return {}

    def by_class(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """None, for the same reason."""
        return np.zeros(0, np.int64), np.zeros(0)

    def by_image(self) -> Mapping[str, NDArray[np.float64]]:
        """Boxes of every image, and the mean of their scores."""
        parts = [self._found[index] for index in sorted(self._found)]
        return {
            "boxes": np.concatenate([part.boxes_n for part in parts]),
            "score": np.concatenate([part.score_n for part in parts]),
        }
