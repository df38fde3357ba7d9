"""Accuracy on a target without labels, as confidences on labelled source images let expect.

Estimates, no measurements: both take confidence to mean on the target what it means on the source,
and target accuracy cannot be known without such an assumption. Confidences are largest
probabilities; NaN, where a model gave none, counts as 0, and as wrong.

How far they may be off: a digit net that is right on 99% of its source, and as sure of another
domain where it is right on 39%, is given 99.8% (ATC) and 88% (DoC) there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def average_thresholded_confidence(
    source_N: NDArray[np.float64], right_N: NDArray[np.bool_], target_M: NDArray[np.float64]
) -> float | None:
    """The share of target confidences at or over a threshold; None without source or target.

    The threshold is where the share of source confidences under it is the source's error, up to
    ties (ATC: Garg et al. 2022).
    """
    if len(source_N) == 0 or len(target_M) == 0:
        return None
    wrong = int((~right_N).sum())
    if wrong == len(source_N):
        return 0.0
    threshold = np.sort(np.nan_to_num(source_N))[wrong]
    return float((np.nan_to_num(target_M) >= threshold).mean())


def difference_of_confidences(
    source_N: NDArray[np.float64], right_N: NDArray[np.bool_], target_M: NDArray[np.float64]
) -> float | None:
    """Source accuracy plus the change in mean confidence, in [0, 1]; None as above.

    DoC: Guillory et al. 2021.
    """
    if len(source_N) == 0 or len(target_M) == 0:
        return None
    change = np.nan_to_num(target_M).mean() - np.nan_to_num(source_N).mean()
    return float(np.clip(right_N.mean() + change, 0, 1))
