"""Every neuron's target beside its source: which lie farthest out, and where most lie.

Knows no markup and no axes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import nlargest
from math import cosh, exp

from adabn_cli.record import Record
from adabn_cli.reports.words.figures import count, number

#: A variance ratio of e^60 is as far out as any; exp of more would overflow at 709.
_FARTHEST = 60.0


@dataclass(frozen=True, slots=True)
class Neuron:
    """One channel of a site. `mean` in standard deviations of the source, logs are natural."""

    site: str
    channel: int
    mean: float
    log_variance_ratio: float

    @property
    def kl_nats(self) -> float:
        """Symmetric KL of two Gaussians that differ so, the sum of both directions."""
        ratio = max(-_FARTHEST, min(_FARTHEST, self.log_variance_ratio))
        return cosh(ratio) - 1 + self.mean**2 * (1 + exp(-ratio)) / 2


def neurons(record: Record) -> list[Neuron]:
    """Every live neuron whose shift the record holds, in order of the sites."""
    return list(_known(record))


def _known(record: Record) -> Iterator[Neuron]:
    for site in record.sites:
        if site.shift is not None:
            pairs = zip(site.shift.mean, site.shift.log_variance_ratio, strict=False)
            for channel, (mean, log_ratio) in enumerate(pairs):
                if mean is not None and log_ratio is not None:
                    yield Neuron(site.name, channel, mean, log_ratio)


def farthest(found: list[Neuron], most: int) -> list[Neuron]:
    """Those of largest KL, the largest first."""
    return nlargest(most, found, key=lambda neuron: neuron.kl_nats)


def spread_told(found: list[Neuron]) -> str:
    """Where half and where nineteen in twenty neurons lie."""
    means = sorted(abs(neuron.mean) for neuron in found)
    logs = sorted(abs(neuron.log_variance_ratio) for neuron in found)
    half, most = len(found) // 2, min(len(found) - 1, int(0.95 * len(found)))
    return (
        f"Of {count(len(found), 'neuron')} half have a mean shifted by less than "
        f"{number(means[half], 2)} standard deviations and 95% by less than "
        f"{number(means[most], 2)}; the log variance ratio is within {number(logs[half], 2)} in "
        f"half and within {number(logs[most], 2)} in 95%."
    )
