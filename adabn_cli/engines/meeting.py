"""Forwards that run side by side and meet at every site. Knows no statistics of any normalizer."""

from __future__ import annotations

from collections.abc import Callable

import torch

from adabn_cli.batch import Batches, OutputSink, Progress
from adabn_cli.engines.memory import MemoryShortError, require_memory
from adabn_cli.engines.observe import Measure
from adabn_cli.errors import ModelError
from adabn_cli.model import Model, Signal, Site, Suspended
from adabn_cli.moments import SiteMoments


def meet_at_every_site(
    model: Model,
    batches: Batches,
    measure: Measure,
    visit: Callable[[Site, SiteMoments], None],
    on_outputs: OutputSink,
    progress: Progress,
) -> None:
    """Runs all batches side by side; `visit` gets each site with the moments of all of them.

    Moments are merged in the order of the batches. Raises ModelError where batches take different
    ways through the model, and MemoryShortError before the machine runs out of memory.
    """
    runs = _Runs(model, batches, measure, on_outputs, progress)
    try:
        runs.start()
        while runs.waiting:
            site, moments = runs.meet()
            visit(site, moments)
            runs.go_on()
    finally:
        runs.close()


class _Runs:
    """The suspended forwards of all batches, in order."""

    def __init__(
        self,
        model: Model,
        batches: Batches,
        measure: Measure,
        on_outputs: OutputSink,
        progress: Progress,
    ) -> None:
        self.model, self.batches, self.measure = model, batches, measure
        self.on_outputs, self.progress = on_outputs, progress
        self.waiting: dict[int, tuple[Suspended, Site, SiteMoments]] = {}
        self.started: list[Suspended] = []
        self.done, self.total = 0, (len(model.sites) + 1) * len(batches)

    def start(self) -> None:
        for index, images in enumerate(self.batches):
            run = self.model.suspended(images)
            self.started.append(run)
            self._advance(index, run)

    def go_on(self) -> None:
        for index, (run, _, _) in list(self.waiting.items()):
            self._advance(index, run)

    def meet(self) -> tuple[Site, SiteMoments]:
        arrivals = list(self.waiting.values())
        site = arrivals[0][1]
        stray = next((other for _, other, _ in arrivals if other.name != site.name), None)
        if stray is not None or len(arrivals) < len(self.started):
            raise ModelError(
                "The model takes different ways for different pictures: some batches "
                + (f"reach {site.name}, others {stray.name}." if stray else f"skip {site.name}."),
                where=self.model.architecture,
                hint="Use --engine one-pass, which runs one batch after the other.",
            )
        merged = arrivals[0][2]
        for _, _, moments in arrivals[1:]:
            merged = merged.merge(moments)
        return site, merged

    def close(self) -> None:
        for run in self.started:
            run.close()

    def _advance(self, index: int, run: Suspended) -> None:
        require_memory(len(self.started), len(self.batches))
        try:
            signal: Signal = next(run)
        except StopIteration as end:
            self.waiting.pop(index, None)
            self.on_outputs(index, end.value)
        except torch.OutOfMemoryError as error:
            raise MemoryShortError.with_batches(len(self.started), len(self.batches)) from error
        else:
            # Only the moments stay: the activation itself is kept alive by its forward.
            self.waiting[index] = (run, signal.site, self.measure(signal, index))
        self.done += 1
        self.progress(min(self.done, self.total), self.total)
