"""Forwards that run side by side and meet at every site. Knows no statistics of any normalizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import islice

import torch
from torch import Tensor

from adabn_cli.batch import Batches, OutputSink, Progress
from adabn_cli.engines.memory import MemoryShortError, give_back_freed, require_memory
from adabn_cli.engines.observe import Measure
from adabn_cli.engines.shelf import Arrays, Shelf, Tray
from adabn_cli.engines.waiting import waiting_of
from adabn_cli.errors import ModelError
from adabn_cli.model import Model, Signal, Site, Suspended
from adabn_cli.moments import SiteMoments
from adabn_cli.outputs import Outputs


def meet_at_every_site(
    model: Model,
    batches: Batches,
    measure: Measure,
    visit: Callable[[Site, SiteMoments], None],
    on_outputs: OutputSink,
    progress: Progress,
) -> None:
    """Runs all batches side by side; `visit` gets each site with the moments of all of them.

    Moments are merged in the order of the batches, wherever these wait. Raises ModelError where
    batches take different ways through the model, MemoryShortError before the machine runs out of
    memory, and SpillError where the disk is full.
    """
    with ExitStack() as ending:
        runs = _Runs(model, batches, measure, ending)
        total = (len(model.sites) + 1) * len(batches)

        def on_batch(done: int) -> None:
            progress(min(done, total), total)

        while (met := runs.meet(on_outputs, on_batch)) is not None:
            visit(*met)


class _Runs:
    """The forwards of all batches, in order: rerun, waiting on disk, waiting in memory."""

    def __init__(self, model: Model, batches: Batches, measure: Measure, ending: ExitStack) -> None:
        self.model, self.batches, self.measure = model, batches, measure
        self.waiting, self.ending = waiting_of(batches), ending
        self.shelf: Shelf | None = None
        if self.waiting.on_disk and self.waiting.folder is not None:
            self.shelf = ending.enter_context(closing(Shelf(self.waiting.folder)))
        self.places: list[_Place] = []
        self.sites, self.done = 0, 0

    def meet(
        self, on_outputs: OutputSink, on_batch: Callable[[int], None]
    ) -> tuple[Site, SiteMoments] | None:
        """Takes all batches to their next site; None where they have come to their end."""
        merged: tuple[Site, SiteMoments] | None = None
        again = islice(self.batches, self.waiting.rerun if self.sites else len(self.batches))
        for index in range(len(self.batches)):
            images = next(again, None)
            place = self._place(index, images)
            del images
            require_memory(index, len(self.batches))
            with _told_when_short(index, len(self.batches)):
                merged = self._take_on(place, index, merged, on_outputs)
            if self.waiting.tight:
                give_back_freed()
            self.done += 1
            on_batch(self.done)
        self.sites += 1
        return merged

    def _take_on(
        self,
        place: _Place,
        index: int,
        merged: tuple[Site, SiteMoments] | None,
        on_outputs: OutputSink,
    ) -> tuple[Site, SiteMoments] | None:
        """Takes one batch to its next site; what it shows there is added to the others'."""
        arrived = place.advance()
        if not isinstance(arrived, Signal):
            self._check(index, None, merged)
            on_outputs(index, arrived)
            return None
        moments = self.measure(arrived, index)
        site, held = arrived.site, arrived.held
        del arrived  # Only the moments stay: its forward keeps the activation alive.
        place.rest(held)
        self._check(index, site, merged)
        return site, moments if merged is None else merged[1].merge(moments)

    def _place(self, index: int, images: Tensor | None) -> _Place:
        """The batch's place; a forward of its images starts there where they are given."""
        if images is not None:
            run = self.model.suspended(images)
            if self.sites:
                self.places[index] = _Rerun(run, self.sites)
            elif index < self.waiting.rerun:
                self.places.append(_Rerun(run, 0))
            else:
                spills = index < self.waiting.rerun + self.waiting.on_disk
                place = _Waits(run, self.shelf if spills else None)
                self.ending.callback(place.close)
                self.places.append(place)
        return self.places[index]

    def _check(
        self, index: int, site: Site | None, merged: tuple[Site, SiteMoments] | None
    ) -> None:
        """Raises ModelError where this batch came elsewhere than those before it."""
        others = merged[0] if merged else None
        if index == 0 or (site and site.name) == (others and others.name):
            return
        raise ModelError(
            "The model takes different ways for different pictures: some batches "
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


class _Waits:
    """A forward that waits until all others have come there, on a shelf or in memory."""

    def __init__(self, run: Suspended, shelf: Shelf | None) -> None:
        self._run, self._shelf, self._tray = run, shelf, Tray()

    def advance(self) -> Signal | Outputs:
        if self._shelf is None:
            return _next(self._run)
        with self._shelf.watched(self._tray):
            return _next(self._run)

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
        for _ in range(self._passed):
            if not isinstance(_next(self._run), Signal):
                return None
        return _next(self._run)

    def rest(self, held: Sequence[Arrays]) -> None:
        self._run.close()


_Place = _Waits | _Rerun


def _next(run: Suspended) -> Signal | Outputs:
    """The next signal, or the outputs where there is none."""
    try:
        return next(run)
    except StopIteration as end:
        outputs: Outputs = end.value
        return outputs
