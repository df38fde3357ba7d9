"""One order in which batches are merged, however they are split over runs, ranks and machines.

Batches are numbered; neighbours merge in pairs, pairs in fours. Which batches a sum holds decides
what was rounded, not who added them and when: the total is the same to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping

from adabn_cli.moments import SiteMoments

#: A sum over the batches from `place << level` on, `1 << level` of them.
Node = tuple[int, int]


class Ordered:
    """What batches showed at one site, by their numbers; log2 of them sums are held."""

    def __init__(self, nodes: Mapping[Node, SiteMoments] | None = None) -> None:
        self._nodes = dict(nodes or {})

    @property
    def nodes(self) -> Mapping[Node, SiteMoments]:
        """The sums that wait for their neighbour."""
        return self._nodes

    def add(self, batch: int, moments: SiteMoments) -> None:
        """Adds what one more batch showed; each batch comes once."""
        self._put(0, batch, moments)

    def include(self, other: Ordered) -> None:
        """Adds the batches of another, of which none is here."""
        for (level, place), moments in other.nodes.items():
            self._put(level, place, moments)

    def total(self) -> SiteMoments:
        """All batches together; there is at least one."""
        first, *others = sorted(self._nodes, key=lambda node: node[1] << node[0])
        merged = self._nodes[first]
        for node in others:
            merged = merged.merge(self._nodes[node])
        return merged

    def _put(self, level: int, place: int, moments: SiteMoments) -> None:
        while (neighbour := self._nodes.pop((level, place ^ 1), None)) is not None:
            moments = neighbour.merge(moments) if place & 1 else moments.merge(neighbour)
            level, place = level + 1, place >> 1
        self._nodes[level, place] = moments
