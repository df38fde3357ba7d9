"""How many classes a histogram of predictions is worth. Knows no array: gates do without numpy."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log


def effective_classes(histogram: Sequence[int]) -> float:
    """exp(entropy): how many equally frequent classes are worth the same; 0 for none."""
    total = sum(histogram)
    shares = [n / total for n in histogram if n]
    return exp(-sum(share * log(share) for share in shares)) if shares else 0.0
