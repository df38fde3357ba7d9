"""Forwards that run side by side and meet at every site. Knows no statistics of any normalizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from adabn_cli.adaptation.engines.merge_order import Ordered
from adabn_cli.adaptation.engines.passes import Passes
from adabn_cli.adaptation.engines.shelf import Arrays, Shelf, Tray
from adabn_cli.errors import ModelError
from adabn_cli.machine import MemoryShortError, give_back_freed, require_memory
from adabn_cli.model import Model, Outputs, OutputSink, Progress, Signal, Site, Suspended
from adabn_cli.moments import SiteMoments


class Visitor(Protocol):
    """Whoever goes from site to site, once all batches are there."""

    @property
    def passed(self) -> int:
        """How many sites were visited before; no batch waits there."""

    def measure(self, signal: Signal, batch: int) -> SiteMoments:
        """What one batch shows at a site."""

    def visit(self, site: Site, moments: SiteMoments) -> None:
        """All have come to a site, and show this together."""


def meet_at_every_site(
    model: Model,
    passes: Passes,
    visitor: Visitor,
    on_outputs: OutputSink,
    progress: Progress,
) -> None:
    """Runs all batches side by side; the visitor gets each site with the moments of all of them.

    Moments are merged in one order, wherever the batches wait. Raises ModelError if batches take
    different ways through the model, MemoryShortError before the machine runs out of memory, and
    SpillError if the disk is full.
    """
    with ExitStack() as ending:
        runs = _Runs(model, passes, visitor, ending)
        total = (len(model.sites) + 1) * len(passes.batches)

        def on_batch(done: int) -> None:
            progress(min(done, total), total)

        while (met := runs.meet(on_outputs, on_batch)) is not None:
            visitor.visit(*met)


class _Runs:
    """The forwards of all batches, in order: rerun, waiting on disk, waiting in memory."""

    def __init__(self, model: Model, passes: Passes, visitor: Visitor, ending: ExitStack) -> None:
        self.model, self.batches, self.measure = model, passes.batches, visitor.measure
        self.waiting, self.ending = passes.waiting, ending
        self.shelf: Shelf | None = None
        if self.waiting.on_disk and self.waiting.folder is not None:
            self.shelf = ending.enter_context(closing(Shelf(self.waiting.folder)))
        self.places: list[_Place] = []
        self.ranks, self.first = passes.ranks, passes.first
        self.sites, self.done = visitor.passed, visitor.passed * len(passes.batches)

    def meet(
        self, on_outputs: OutputSink, on_batch: Callable[[int], None]
    ) -> tuple[Site, SiteMoments] | None:
        """Takes all batches to their next site; None where they have come to their end."""
        met, seen = _Met(), Ordered()
        again = islice(self.batches, self.waiting.rerun if self.places else len(self.batches))
        for index in range(len(self.batches)):
            images = next(again, None)
            place = self._place(index, images)
            del images
            require_memory(index, len(self.batches))
            with _told_when_short(index, len(self.batches)):
                met = self._take_on(place, index, met, seen, on_outputs)
            if self.waiting.tight:
                give_back_freed()
            self.done += 1
            on_batch(self.done)
        self.sites += 1
        return self._met_by_all(met, seen)

    def _take_on(
        self, place: _Place, index: int, met: _Met, seen: Ordered, on_outputs: OutputSink
    ) -> _Met:
        """Takes one batch to its next site; what it shows there is added to `seen`."""
        arrived = place.advance()
        if not isinstance(arrived, Signal):
            self._check(met, _Met(True))
            on_outputs(self.first + index, arrived)
            return _Met(True)
        moments = self.measure(arrived, index)
        here, held = _Met(True, arrived.site), arrived.held
        del arrived  # Only the moments stay: its forward keeps the activation alive.
        place.rest(held)
        self._check(met, here)
        seen.add(self.first + index, moments)
        return here

    def _met_by_all(self, met: _Met, seen: Ordered) -> tuple[Site, SiteMoments] | None:
        """Where the batches of all ranks have met; a rank without batches goes along."""
        everywhere, merged = _Met(), Ordered()
        for other, part in self.ranks.gather((met, seen)):
            self._check(everywhere, other)
            everywhere = other if other.any_batch else everywhere
            merged.include(part)
        return None if everywhere.site is None else (everywhere.site, merged.total())

    def _place(self, index: int, images: Tensor | None) -> _Place:
        """The batch's place; a forward of its images starts there where they are given."""
        if images is not None:
            run = self.model.suspended(images)
            if index < len(self.places):
                self.places[index] = _Rerun(run, self.sites)
            elif index < self.waiting.rerun:
                self.places.append(_Rerun(run, self.sites))
            else:
                spills = index < self.waiting.rerun + self.waiting.on_disk
                place = _Waits(run, self.sites, self.shelf if spills else None)
                self.ending.callback(place.close)
                self.places.append(place)
        return self.places[index]

    def _check(self, one: _Met, other: _Met) -> None:
        """Raises ModelError where some batches came elsewhere than others."""
        if not (one.any_batch and other.any_batch) or one.name == other.name:
            return
        others, site = one.site, other.site
        raise ModelError(
            "The model takes different paths for different pictures: some batches "
            + (
                f"reach {others.name}, others {site.name}."
                if site and others
                else f"skip {(site or others or self.model.sites[0]).name}."
            ),
            where=self.model.architecture,
            hint="Use --engine one-pass, which runs one batch after the other.",
        )


@contextmanager
def _told_when_short(index: int, batches: int) -> Iterator[None]:
    """A refused allocation inside becomes a MemoryShortError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # On the CPU torch has no class of its own for it.
        refused = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if refused or "allocate memory" in str(error):
            raise MemoryShortError.with_batches(index, batches) from error
        raise


@dataclass(frozen=True)
class _Met:
    """Where batches have come to, if there is any: a site, or the end of their forward."""

    any_batch: bool = False
    site: Site | None = None

    @property
    def name(self) -> str | None:
        return None if self.site is None else self.site.name


class _Waits:
    """A forward that waits until all others have come there, on a shelf or in memory.

    It first runs by `passed` sites, where all have been.
    """

    def __init__(self, run: Suspended, passed: int, shelf: Shelf | None) -> None:
        self._run, self._passed, self._shelf, self._tray = run, passed, shelf, Tray()

    def advance(self) -> Signal | Outputs:
        passed, self._passed = self._passed, 0
        if self._shelf is None:
            return _next(self._run, passed)
        with self._shelf.watched(self._tray):
            return _next(self._run, passed)

    def rest(self, held: Sequence[Arrays]) -> None:
        if self._shelf is not None:
            self._shelf.put_away(self._tray, held)

    def close(self) -> None:
        self._run.close()
        if self._shelf is not None:
            self._shelf.take_down(self._tray)


class _Rerun:
    """A forward that is run from its start to the site that comes after `passed` others."""

    def __init__(self, run: Suspended, passed: int) -> None:
        self._run, self._passed = run, passed

    def advance(self) -> Signal | Outputs:
        return _next(self._run, self._passed)

    def rest(self, held: Sequence[Arrays]) -> None:
        self._run.close()


_Place = _Waits | _Rerun


def _next(run: Suspended, passed: int) -> Signal | Outputs:
    """The signal behind the next `passed` ones, or the outputs where there is none."""
    try:
        for _ in range(passed):
            next(run)
        return next(run)
    except StopIteration as end:
        outputs: Outputs = end.value
        return outputs
