"""Outputs that are no class scores: maps, several labels, numbers, boxes. What all have in common.

Shapes: N images, B weightings of them, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from adabn_cli.measures.bootstrap import draws, percentile_interval
from adabn_cli.measures.counts import Interval
from adabn_cli.model import Outputs

Task = Literal["segmentation", "multi-label", "regression", "detection"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Surveyed:
    """What the outputs say without truth: means over N images, [N]; NaN where not finite.

    `predicted_K` counts what each class was predicted for: pixels, images or boxes.
    """

    confidence_N: NDArray[np.float64]
    entropy_N: NDArray[np.float64]
    predicted_K: NDArray[np.int64]
    not_finite: int


class Head(Protocol):
    """An OutputSink that holds outputs of one kind against the truth, where that is known."""

    @property
    def task(self) -> Task:
        """What the outputs are for."""

    def __call__(self, index: int, outputs: Outputs) -> None:
        """Takes the outputs of batch `index`; the same index again replaces it.

        Raises ModelError where they are of another kind.
        """

    def fresh(self) -> Head:
        """One that has seen nothing and is held against the same truth."""

    def survey(self) -> Surveyed:
        """What can be said without truth."""

    def figures(self, weights_BN: NDArray[np.float64]) -> Mapping[str, NDArray[np.float64]]:
        """Figures against the truth, by name, [B] each, with every image counted by its weight.

        The first is what a verdict rests on. Empty without truth.
        """

    def by_class(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Images that have each class, and the first figure of it, [K] each; NaN where unknown."""

    def by_image(self) -> Mapping[str, NDArray[np.float64]]:
        """Numbers of every image, [N] each, by name."""


#: Of the figures those of which less is better; all others are shares, of which more is.
ERRORS = ("mean_absolute_error", "root_mean_square_error")


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One figure before and after; `interval` is that of the difference."""

    name: str
    before: float | None
    after: float | None
    interval: Interval | None


def measured(head: Head) -> dict[str, float | None]:
    """The figures over all images, by name; None where the truth does not tell one."""
    n = len(head.survey().confidence_N)
    found = head.figures(np.ones((1, n)))
    return {name: _known(values_B[0]) for name, values_B in found.items()}


def compared(before: Head, after: Head) -> Iterator[Compared]:
    """Every figure of the same images before and after.

    Intervals are a paired bootstrap over images: whatever a figure is, they are drawn together.
    """
    first, last = measured(before), measured(after)
    if not first:
        return
    n = len(before.survey().confidence_N)
    differences: dict[str, list[NDArray[np.float64]]] = {name: [] for name in first}
    for weights_BN in draws(n):
        sides = (before.figures(weights_BN), after.figures(weights_BN))
        for name, found in differences.items():
            found.append(sides[1][name] - sides[0][name])
    for name, found in differences.items():
        known = first[name] is not None and last[name] is not None
        interval = percentile_interval(np.concatenate(found)) if known else None
        yield Compared(name=name, before=first[name], after=last[name], interval=interval)


def ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """The part of the whole; NaN where the whole is 0."""
    found: NDArray[np.float64] = np.full(part.shape, np.nan)
    np.divide(part, whole, out=found, where=whole > 0)
    return found


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
