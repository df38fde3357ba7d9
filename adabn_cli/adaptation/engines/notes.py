"""What is kept of a pass over the batches, so that it can go on after the process has ended.

Knows no file. Without a notebook nothing is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from adabn_cli.adaptation.engines.estimate import Estimate
from adabn_cli.adaptation.engines.merge_order import Ordered
from adabn_cli.model import Outputs
from adabn_cli.moments import SiteMoments


class PassNotes(Protocol):
    """What is known of one pass from before, and where more is noted as it is found."""

    def batches_done(self) -> int:
        """How many batches, from the first on, went all the way."""

    def seen(self) -> dict[str, Ordered]:
        """What these showed, by site, in the order of the forward."""

    def outputs(self) -> Iterable[tuple[int, Outputs]]:
        """The outputs of these, by batch."""

    def sites(self) -> Sequence[tuple[str, SiteMoments]]:
        """The sites that all batches have met at, and what all of them showed there."""

    def estimate(self) -> Estimate | None:
        """What came of the pass, where it had come to its end; `outputs` are all there then."""

    def note_outputs(self, batch: int, outputs: Outputs) -> None:
        """The outputs of one batch."""

    def note_batch(self, batch: int, seen: Mapping[str, Ordered]) -> None:
        """A batch went all the way; what all up to it showed."""

    def note_site(self, name: str, moments: SiteMoments) -> None:
        """All batches have met at the next site."""

    def note_estimate(self, estimate: Estimate) -> None:
        """The pass has come to its end."""


class Notebook(Protocol):
    """The notes of all passes of a run, which are the same in the same order every time."""

    def next_pass(self) -> PassNotes:
        """The notes of the pass that begins now."""


class NoNotes:
    """Notes of nothing: nothing is known, and nothing kept."""

    def batches_done(self) -> int:
        """None."""
        return 0

    def seen(self) -> dict[str, Ordered]:
        """Nothing."""
        return {}

    def outputs(self) -> Iterable[tuple[int, Outputs]]:
        """Of no batch."""
        return ()

    def sites(self) -> Sequence[tuple[str, SiteMoments]]:
        """None."""
        return ()

    def estimate(self) -> Estimate | None:
        """None."""
        return None

    def note_outputs(self, batch: int, outputs: Outputs) -> None:
        """Not kept."""

    def note_batch(self, batch: int, seen: Mapping[str, Ordered]) -> None:
        """Not kept."""

    def note_site(self, name: str, moments: SiteMoments) -> None:
        """Not kept."""

    def note_estimate(self, estimate: Estimate) -> None:
        """Not kept."""
