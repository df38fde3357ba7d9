"""Whether there were images enough to know every site's means, and how many would be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt

from adabn_cli.record import RoundPart, SampleSizePart, SitePart

#: In standard deviations of a channel. A mean that is off by 0.1 costs 0.01 nats of symmetric KL,
#: under the least that the paper is left with after adapting (0.0134, Li et al. 2016, Table 4).
TOLERANCE = 0.1

_FRACTIONS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4)


@dataclass(frozen=True)
class Search:
    """The tolerance that was asked for, and the rounds of fewer images that were not enough."""

    tolerance: float
    rounds: tuple[RoundPart, ...] = ()


def sample_size_part(
    sites: Sequence[SitePart], images: int, search: Search | None = None
) -> SampleSizePart | None:
    """The standard error at the worst adapted site, by number of images; None where unknown.

    `standard_error_max` follows from the spread between images, and falls with the root of their
    number. What was measured on fewer images is that of a search.
    """
    known = {site.name: site.standard_error_max for site in sites if site.adapted}
    errors = {name: error for name, error in known.items() if error is not None}
    if not errors:
        return None
    worst = max(errors, key=errors.__getitem__)
    error = errors[worst]
    tolerance = search.tolerance if search else TOLERANCE
    # A standard error takes two images at least.
    counts = sorted({max(2, round(images * fraction)) for fraction in _FRACTIONS})
    return SampleSizePart(
        site=worst,
        tolerance=tolerance,
        images=tuple(counts),
        errors=tuple(error * sqrt(images / count) for count in counts),
        enough=max(2, ceil(images * (error / tolerance) ** 2)),
        rounds=(*search.rounds, RoundPart(images=images, error=error)) if search else (),
    )
