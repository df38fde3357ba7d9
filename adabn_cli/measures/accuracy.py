"""Accuracy, and what changed between two predictions of the same images. Knows no confidence.

Arrays are int64 [N], one entry an image: a label of -1 means unknown, a prediction of -1 none.
Intervals of a difference come from the paired data only; two Wilson intervals are not compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr  # Not scipy.stats, whose import takes a second.

from adabn_cli.measures.counts import paired_interval, wilson_interval

Classes = NDArray[np.int64]

#: A class with fewer labelled images gets no p-value.
MIN_CLASS_IMAGES = 30


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """The share of n labelled images that is right, with its 95% Wilson interval."""

    value: float
    interval: tuple[float, float]
    correct: int
    n: int


@dataclass(frozen=True, kw_only=True)
class Change:
    """Accuracy after minus before on the same n images, with its paired 95% interval.

    `fixed` went from wrong to right, `broken` from right to wrong.
    """

    accuracy: float
    interval: tuple[float, float]
    fixed: int
    broken: int
    mcnemar_p: float
    n: int


@dataclass(frozen=True, kw_only=True)
class ClassChange:
    """The images of one class; accuracies None where there are none.

    `mcnemar_p` is Holm-corrected over the classes with n >= 30, and None for the others.
    """

    label: int
    n: int
    before: float | None
    after: float | None
    fixed: int
    broken: int
    mcnemar_p: float | None


def accuracy(predicted_N: Classes, labels_N: Classes) -> Accuracy | None:
    """The accuracy over the images with a label; None where no image has one."""
    labels_N, predicted_N = _labelled(labels_N, predicted_N)
    n = len(labels_N)
    if n == 0:
        return None
    correct = int((predicted_N == labels_N).sum())
    return Accuracy(value=correct / n, interval=wilson_interval(correct, n), correct=correct, n=n)


def top_accuracy(top_Nk: NDArray[np.integer], labels_N: Classes) -> float | None:
    """The share of labelled images whose class is among the k named, [N, k]; None without any."""
    if len(top_Nk) != len(labels_N):
        raise ValueError(f"{len(top_Nk)} rows of classes for {len(labels_N)} labels")
    known_N = labels_N >= 0
    if not known_N.any():
        return None
    return float((top_Nk[known_N] == labels_N[known_N, None]).any(1).mean())


def compare(before_N: Classes, after_N: Classes, labels_N: Classes) -> Change | None:
    """What changed over the images with a label; None where no image has one."""
    labels_N, before_N, after_N = _labelled(labels_N, before_N, after_N)
    n = len(labels_N)
    if n == 0:
        return None
    right_before_N, right_after_N = before_N == labels_N, after_N == labels_N
    fixed = int((~right_before_N & right_after_N).sum())
    broken = int((right_before_N & ~right_after_N).sum())
    interval = paired_interval(fixed, broken, n)
    return Change(
        accuracy=(fixed - broken) / n,
        interval=interval,
        fixed=fixed,
        broken=broken,
        mcnemar_p=mcnemar_p(fixed, broken),
        n=n,
    )


def mcnemar_p(fixed: int, broken: int) -> float:
    """Exact two-sided p-value of McNemar's test; 1 where nothing changed sides."""
    if fixed + broken == 0:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(fixed, broken), fixed + broken, 0.5)))


def agreement(before_N: Classes, after_N: Classes) -> float | None:
    """The share of images with the same prediction; None without images.

    An image without a prediction agrees with nothing: a model that gives NaN is not unchanged.
    """
    _check_lengths(before_N, after_N)
    if len(before_N) == 0:
        return None
    return float(((before_N == after_N) & (before_N >= 0)).mean())


def per_class(
    before_N: Classes, after_N: Classes, labels_N: Classes, n_classes: int
) -> list[ClassChange]:
    """One entry a class, in order. Raises ValueError for a label of n_classes or more."""
    labels_N, before_N, after_N = _labelled(labels_N, before_N, after_N)
    if len(labels_N) and labels_N.max() >= n_classes:
        raise ValueError(f"label {labels_N.max()} with {n_classes} classes")
    right_before_N, right_after_N = before_N == labels_N, after_N == labels_N

    def count(chosen_N: NDArray[np.bool_]) -> list[int]:
        counts: list[int] = np.bincount(labels_N[chosen_N], minlength=n_classes).tolist()
        return counts

    n_K = count(labels_N >= 0)
    before_K, after_K = count(right_before_N), count(right_after_N)
    fixed_K, broken_K = (
        count(~right_before_N & right_after_N),
        count(right_before_N & ~right_after_N),
    )
    tested = [k for k in range(n_classes) if n_K[k] >= MIN_CLASS_IMAGES]
    p_values = dict(
        zip(tested, holm([mcnemar_p(fixed_K[k], broken_K[k]) for k in tested]), strict=True)
    )
    return [
        ClassChange(
            label=k,
            n=n_K[k],
            before=before_K[k] / n_K[k] if n_K[k] else None,
            after=after_K[k] / n_K[k] if n_K[k] else None,
            fixed=fixed_K[k],
            broken=broken_K[k],
            mcnemar_p=p_values.get(k),
        )
        for k in range(n_classes)
    ]


def holm(p_values: list[float]) -> list[float]:
    """The p-values, in their order, corrected for their number (Holm 1979)."""
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def _labelled(labels_N: Classes, *predictions: Classes) -> list[Classes]:
    """Labels and predictions of the images with a label."""
    _check_lengths(labels_N, *predictions)
    known_N = labels_N >= 0
    return [labels_N[known_N], *(predicted_N[known_N] for predicted_N in predictions)]


def _check_lengths(*arrays: Classes) -> None:
    lengths = [len(array) for array in arrays]
    if len(set(lengths)) > 1:
        # numpy would spread an array of length one over all images.
        raise ValueError(f"arrays of one entry an image differ in length: {lengths}")
