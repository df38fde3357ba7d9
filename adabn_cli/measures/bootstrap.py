"""How far a figure would move with other pictures: the bootstrap (Efron 1979). Knows no figure.

Shapes: N images, B draws of N images with replacement.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from adabn_cli.measures.counts import Interval

DRAWS = 1000
# So many numbers are held at a time: 32 MiB.
_AT_ONCE = 1 << 22


def draws(n: int) -> Iterator[NDArray[np.float64]]:
    """How often each of the images is in each of 1000 draws, [B, N] in parts; the same always."""
    generator = np.random.default_rng(0)
    rows = max(1, _AT_ONCE // max(n, 1))
    for start in range(0, DRAWS, rows):
        size = min(rows, DRAWS - start)
        yield generator.multinomial(n, np.full(n, 1 / n), size).astype(np.float64)


def percentile_interval(figures: NDArray[np.float64]) -> Interval | None:
    """The middle 95% of a figure's draws; None where more than 1% of them do not tell it."""
    if not len(figures) or np.isnan(figures).mean() > 0.01:
        return None
    low, high = np.nanpercentile(figures, [2.5, 97.5])
    return float(low), float(high)
