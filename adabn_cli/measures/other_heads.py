"""Models that give no single class: average precision of many labels, errors of numbers.

N images, K labels of each. Knows no logits: scores rank images, whatever their scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray


def average_precisions(
    scores_NK: NDArray[np.floating], labels_NK: NDArray[np.integer]
) -> NDArray[np.float64]:
    """The average precision of every label, [K]; NaN for one that no image has.

    The precision at each score, weighted by the recall gained there; images of equal score come
    together. Labels are 1 or 0, negative where unknown. A score of NaN ranks last.
    """
    if scores_NK.shape != labels_NK.shape:
        raise ValueError(f"scores {scores_NK.shape} for labels {labels_NK.shape}")
    columns = zip(scores_NK.T, labels_NK.T, strict=True)
    return np.array([_average_precision(*column) for column in columns])


def _average_precision(scores_N: NDArray[np.floating], labels_N: NDArray[np.integer]) -> float:
    known_N = labels_N >= 0
    right_n, scores_n = labels_N[known_N] > 0, scores_N[known_N]
    if not right_n.any():
        return float("nan")
    scores_n = np.nan_to_num(
        scores_n.astype(np.float64), nan=-np.inf, posinf=np.inf, neginf=-np.inf
    )
    order_n = np.argsort(-scores_n, kind="stable")
    found_n = np.cumsum(right_n[order_n])
    # The last image of each run of equal scores.
    ends = np.append(np.flatnonzero(np.diff(scores_n[order_n])), len(order_n) - 1)
    precisions, recalls = found_n[ends] / (ends + 1), found_n[ends] / found_n[-1]
    return float((np.diff(recalls, prepend=0) * precisions).sum())


@dataclass(frozen=True)
class Errors:
    """Errors of predicted numbers, as sums that can be added."""

    n: int
    absolute_sum: float
    square_sum: float

    @classmethod
    def of(cls, predicted: NDArray[np.floating], truth: NDArray[np.floating]) -> Errors:
        """The errors of values of equal shape; a truth of NaN is unknown and left out.

        A prediction of NaN makes the errors NaN: it is not left out.
        """
        if predicted.shape != truth.shape:
            raise ValueError(f"predictions {predicted.shape} for values {truth.shape}")
        known = ~np.isnan(truth)
        error_n = predicted[known].astype(np.float64) - truth[known].astype(np.float64)
        return cls(len(error_n), float(np.abs(error_n).sum()), float((error_n**2).sum()))

    def merge(self, other: Errors) -> Errors:
        """Both parts together."""
        return Errors(
            self.n + other.n,
            self.absolute_sum + other.absolute_sum,
            self.square_sum + other.square_sum,
        )

    @property
    def mean_absolute(self) -> float | None:
        """The mean absolute error; None without a known value."""
        return self.absolute_sum / self.n if self.n else None

    @property
    def root_mean_square(self) -> float | None:
        """The root of the mean squared error; None without a known value."""
        return sqrt(self.square_sum / self.n) if self.n else None
