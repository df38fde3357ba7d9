"""Whether predictions agree far better with another reading of the labels. Knows no model.

Shapes: M pairs of a label and a prediction; both int64, none negative.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr  # Not scipy.stats, whose import takes a second.

Classes = NDArray[np.int64]

# Ten pairs that agree with the other reading alone. Ordinary models are weak, shifted or say few
# classes: so agreement has to be this many standard deviations above that with shuffled labels,
# too.
_P_VALUE = 1e-3
_ABOVE_CHANCE = 4.0


def far_better(predicted_M: Classes, labels_M: Classes, others_M: Classes) -> bool:
    """Whether predictions agree with the other labels rather than with these, and not by chance.

    The first is the one-sided exact test of pairs, the second a permutation test.
    """
    right_M, other_M = predicted_M == labels_M, predicted_M == others_M
    only_other, only_right = int((other_M & ~right_M).sum()), int((right_M & ~other_M).sum())
    if not only_other or bdtr(only_right, only_right + only_other, 0.5) >= _P_VALUE:
        return False
    return above_chance(predicted_M, others_M) >= _ABOVE_CHANCE


def above_chance(predicted_M: Classes, labels_M: Classes) -> float:
    """How many standard deviations more agree than with shuffled labels; 0 where these are alike.

    A model that says one class of everything agrees with shuffled labels as well.
    """
    m = len(labels_M)
    if m < 2:
        return 0.0
    classes = int(max(predicted_M.max(), labels_M.max())) + 1
    said_K, labelled_K = (
        np.bincount(part, minlength=classes).astype(np.float64) for part in (predicted_M, labels_M)
    )
    # Of the statistic sum_i M[i, s(i)] over permutations s, M[i, j] = (predicted_i == label_j).
    pairs_K = said_K * labelled_K
    total = pairs_K.sum()
    squares = total - (pairs_K * (said_K + labelled_K)).sum() / m + (total / m) ** 2
    deviation = (max(squares, 0.0) / (m - 1)) ** 0.5
    agree = int((predicted_M == labels_M).sum())
    return float((agree - total / m) / deviation) if deviation > 1e-6 else 0.0
