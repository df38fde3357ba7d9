"""What follows from counts alone: intervals of shares and differences, and how diverse classes are.

Knows no array, so gates and `adabn report` do without numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, hypot, log, sqrt

Interval = tuple[float, float]


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """The interval of a share (Wilson 1927); all of [0, 1] where n is 0."""
    if n == 0:
        return 0.0, 1.0
    z = _two_sided_z(confidence)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # Algebra gives exactly 0 and 1 at the ends; rounding would leave 1e-17.
    return (
        0.0 if successes == 0 else centre - half,
        1.0 if successes == n else centre + half,
    )


def paired_interval(fixed: int, broken: int, n: int, confidence: float = 0.95) -> Interval:
    """The interval of a paired difference of shares: adjusted Wald (Bonett, Price 2012).

    One image is added to each discordant cell, so it keeps a width where nothing changed.
    """
    up, down = (fixed + 1) / (n + 2), (broken + 1) / (n + 2)
    centre = up - down
    half = _two_sided_z(confidence) * sqrt((up + down - centre**2) / (n + 2))
    return max(-1.0, centre - half), min(1.0, centre + half)


def rescaled_interval(value: float, of_95: Interval, confidence: float) -> Interval:
    """A 95% interval at another confidence, each side as if it were normal."""
    ratio = _two_sided_z(confidence) / _two_sided_z(0.95)
    low, high = of_95
    return value - ratio * (value - low), value + ratio * (high - value)


def difference_interval(a: float, of_a: Interval, b: float, of_b: Interval) -> Interval:
    """The interval of a - b from that of each, as of two samples that know nothing of each other.

    Of Wilson intervals it is Newcombe's (1998, method 10); for any others Zou and Donner's (2008).
    On the same images it is too wide, as their pairs are not made use of.
    """
    return (
        a - b - hypot(a - of_a[0], of_b[1] - b),
        a - b + hypot(of_a[1] - a, b - of_b[0]),
    )


def effective_classes(histogram: Sequence[int]) -> float:
    """exp(entropy): how many equally frequent classes are worth the same; 0 for none."""
    total = sum(histogram)
    shares = [n / total for n in histogram if n]
    return exp(-sum(share * log(share) for share in shares)) if shares else 0.0


def _two_sided_z(confidence: float) -> float:
    from statistics import NormalDist  # 8 ms that a report without --confidence does not spend.

    return NormalDist().inv_cdf((1 + confidence) / 2)
