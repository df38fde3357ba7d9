"""Passes over the batches of a target: what an engine is given, and what it finds out.

A pass can keep notes, so that it goes on after the process has ended. Knows no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from adabn_cli.adaptation.engines.merge_order import Ordered
from adabn_cli.adaptation.engines.waiting import Waiting
from adabn_cli.model import Batches, Outputs
from adabn_cli.moments import Moments, SiteMoments
from adabn_cli.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Estimate:
    """The statistics that were installed, and what the adapted model shows at its sites.

    `installed` names the adapted sites. `measured` names every site that was visited, in the order
    of the forward: the target's moments there while every earlier site is adapted. `forwards`
    counts the passes over the target.
    """

    installed: Mapping[str, Moments]
    measured: Mapping[str, SiteMoments]
    forwards: int


class PassNotes:
    """What is known of one pass from before, and where more is noted as it is found.

    These are of nothing: nothing is known, and nothing kept.
    """

    def batches_done(self) -> int:
        """How many batches, from the first on, went all the way."""
        return 0

    def seen(self) -> dict[str, Ordered]:
        """What these showed, by site, in the order of the forward."""
        return {}

    def outputs(self) -> Iterable[tuple[int, Outputs]]:
        """The outputs of these, by batch."""
        return ()

    def sites(self) -> Sequence[tuple[str, SiteMoments]]:
        """The sites that all batches have met at, and what all of them showed there."""
        return ()

    def estimate(self) -> Estimate | None:
        """What came of the pass if it had come to its end; `outputs` are all there then."""
        return None

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


@dataclass(frozen=True, kw_only=True, eq=False)
class Passes:
    """The batches of a target, and what every pass over them goes by.

    `waiting` says where batches wait for each other, `notebook` keeps notes of each pass. Of the
    batches of all `ranks` these are the ones from number `first` on.
    """

    batches: Batches
    waiting: Waiting = field(repr=False)
    notebook: Notebook | None = field(default=None, repr=False)
    ranks: Ranks = field(default=ALONE, repr=False)
    first: int = 0

    @classmethod
    def over(cls, batches: Batches) -> Passes:
        """Passes of one process, whose batches wait in memory and which keep no notes."""
        return cls(batches=batches, waiting=Waiting(in_memory=len(batches)))

    def begin(self) -> PassNotes:
        """Begins the next pass: the notes of it."""
        return PassNotes() if self.notebook is None else self.notebook.next_pass()
