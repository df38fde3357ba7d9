"""The pictures that adapting broke, the worst first: for a person to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from adabn_cli.measures.scores import Scores
from adabn_cli.record import BrokenPicturePart
from adabn_cli.text import valid_text

MOST = 20


def broken_parts(
    before: Scores,
    after: Scores,
    labels_N: NDArray[np.int64] | None,
    pictures: Sequence[str] | None,
    names: Sequence[str] | None,
) -> tuple[BrokenPicturePart, ...]:
    """At most 20 pictures that were right before and are wrong after, the surest errors first.

    `pictures` are their paths, in the order of the scores; equal confidences keep that order. A
    picture that the adapted model makes nothing of (NaN) is no error of its confidence.
    """
    if pictures is None or labels_N is None or not (before.scorable and after.scorable):
        return ()
    predicted_N, confidence_N = after.predicted_N, after.confidence_N
    right_N = (before.predicted_N == labels_N) & (labels_N >= 0)
    broken_n = np.flatnonzero(right_N & (predicted_N >= 0) & (predicted_N != labels_N))
    worst = broken_n[np.argsort(-confidence_N[broken_n], kind="stable")][:MOST]
    confidence_before_N = before.confidence_N
    return tuple(
        BrokenPicturePart(
            path=valid_text(pictures[index]),
            label=names[labels_N[index]] if names else str(labels_N[index]),
            predicted=names[predicted_N[index]] if names else str(predicted_N[index]),
            confidence_before=confidence_before_N[index],
            confidence_after=confidence_N[index],
        )
        for index in worst
    )
