"""What predictions say without labels, and how well confidence matches accuracy where there are.

Knows no logits. N images, K classes, B bins; a prediction of -1 is none, its confidence NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

CALIBRATION_BINS = 15
HISTOGRAM_BINS = 20


@dataclass(frozen=True, kw_only=True)
class Confidence:
    """Means over the images with a prediction (None where there are none), and their classes.

    `n` counts all images, `not_finite` those of them without a prediction; entropy is in nats.
    """

    confidence_mean: float | None
    entropy_mean: float | None
    predicted_histogram: tuple[int, ...]
    n: int
    not_finite: int


@dataclass(frozen=True)
class Calibration:
    """Images by confidence, in bins of equal width over [0, 1], each closed on the right."""

    counts: tuple[int, ...]
    correct: tuple[int, ...]
    confidence_sums: tuple[float, ...]

    @property
    def expected_error(self) -> float | None:
        """Expected calibration error (Naeini et al. 2015; Guo et al. 2017); None without images.

        The mean over images of |confidence - accuracy| of their bin.
        """
        n = sum(self.counts)
        if n == 0:
            return None
        gaps = (abs(s - c) for s, c in zip(self.confidence_sums, self.correct, strict=True))
        return sum(gaps) / n


def summarise(
    predicted_N: NDArray[np.int64],
    confidence_N: NDArray[np.float64],
    entropy_N: NDArray[np.float64],
    n_classes: int,
) -> Confidence:
    """The summary of N images' predictions."""
    seen_N = predicted_N >= 0
    n, seen = len(predicted_N), int(seen_N.sum())
    return Confidence(
        confidence_mean=float(confidence_N[seen_N].mean()) if seen else None,
        entropy_mean=float(entropy_N[seen_N].mean()) if seen else None,
        predicted_histogram=tuple(np.bincount(predicted_N[seen_N], minlength=n_classes).tolist()),
        n=n,
        not_finite=n - seen,
    )


def calibrate(
    predicted_N: NDArray[np.int64],
    confidence_N: NDArray[np.float64],
    labels_N: NDArray[np.int64],
) -> Calibration:
    """The bins of the images that have both a label and a prediction."""
    known_N = (labels_N >= 0) & (predicted_N >= 0)
    confidence_n = confidence_N[known_N]
    right_n = predicted_N[known_N] == labels_N[known_N]
    bins_n = _bins(confidence_n, CALIBRATION_BINS)
    return Calibration(
        tuple(np.bincount(bins_n, minlength=CALIBRATION_BINS).tolist()),
        tuple(np.bincount(bins_n[right_n], minlength=CALIBRATION_BINS).tolist()),
        tuple(np.bincount(bins_n, confidence_n, minlength=CALIBRATION_BINS).tolist()),
    )


def confidence_histogram(confidence_N: NDArray[np.float64]) -> tuple[int, ...]:
    """Images by confidence in 20 bins of equal width over [0, 1]; NaN is in none."""
    bins_n = _bins(confidence_N[~np.isnan(confidence_N)], HISTOGRAM_BINS)
    return tuple(np.bincount(bins_n, minlength=HISTOGRAM_BINS).tolist())


def _bins(confidence_n: NDArray[np.float64], bins: int) -> NDArray[np.intp]:
    """The bin of each confidence, closed on the right."""
    edges = np.linspace(0, 1, bins + 1)
    # Sums of rounded probabilities may pass 1, and 0 belongs to the first bin.
    return np.clip(np.searchsorted(edges, confidence_n) - 1, 0, bins - 1)


def mutual_information(
    probability_sum_K: NDArray[np.float64], entropy_N: NDArray[np.float64]
) -> float | None:
    """That of image and predicted class in nats, 0 to log K; None where nothing was predicted.

    The entropy of the mean probabilities less the mean entropy: high where single images are
    decided and all of them together are diverse (Bridle, Heading, MacKay 1991). Probabilities are
    summed, and entropies taken (NaN left out), over the images with a prediction.
    """
    seen_n = entropy_N[~np.isnan(entropy_N)]
    if len(seen_n) == 0:
        return None
    mean_K = probability_sum_K / len(seen_n)
    # Equal predictions everywhere leave 1e-16 of either sign.
    return max(0.0, float(entr(mean_K).sum() - seen_n.mean()))
