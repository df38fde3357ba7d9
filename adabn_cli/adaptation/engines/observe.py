"""One pass over the batches that measures every site and changes nothing.

It gives the *before* figures under source statistics and the *residual* under adapted ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from itertools import islice

from adabn_cli.adaptation.engines.merge_order import Ordered
from adabn_cli.adaptation.engines.passes import Passes, PassNotes
from adabn_cli.machine import give_back_freed
from adabn_cli.model import Model, Outputs, OutputSink, Progress, Signal, Site, Suspended
from adabn_cli.moments import SiteMoments, measure
from adabn_cli.ranks import Ranks

#: What is plain_moments of a signal; the number is its batch's.
Measure = Callable[[Signal, int], SiteMoments]


def plain_moments(signal: Signal, batch: int) -> SiteMoments:
    """The plain moments of a signal."""
    return measure(signal.activation)


def observe(
    model: Model,
    passes: Passes,
    on_outputs: OutputSink,
    progress: Progress,
    measure: Measure = plain_moments,
) -> dict[str, SiteMoments]:
    """The moments of every visited site, pooled over all its uses, in the order of the forward."""
    return over_all(model, passes, eval_mode(measure), on_outputs, progress)


#: Takes one forward to its end; what it showed by site, and its outputs.
OneBatch = Callable[[Suspended, int], tuple[dict[str, SiteMoments], Outputs]]


def eval_mode(measure: Measure) -> OneBatch:
    """Measures a batch that goes through the model as it is."""

    def one_batch(run: Suspended, index: int) -> tuple[dict[str, SiteMoments], Outputs]:
        return watched(run, measure, index, _untouched)

    return one_batch


def over_all(
    model: Model, passes: Passes, one_batch: OneBatch, on_outputs: OutputSink, progress: Progress
) -> dict[str, SiteMoments]:
    """What all batches showed, one after the other, on all ranks; goes on from what is noted."""
    seen = own_part(model, passes, one_batch, on_outputs, progress)
    return {name: moments.total() for name, moments in together(passes.ranks, seen).items()}


def own_part(
    model: Model, passes: Passes, one_batch: OneBatch, on_outputs: OutputSink, progress: Progress
) -> dict[str, Ordered]:
    """The same of the batches of this process alone, not yet summed up."""
    notes, first = passes.begin(), passes.first
    seen, done = _known(notes, on_outputs)
    for number, images in enumerate(islice(passes.batches, done, None), start=done):
        with closing(model.suspended(images)) as run:
            showed, outputs = one_batch(run, number)
        on_outputs(first + number, outputs)
        for name, moments in showed.items():
            seen.setdefault(name, Ordered()).add(first + number, moments)
        notes.note_outputs(number, outputs)
        notes.note_batch(number, seen)
        if passes.waiting.tight:
            give_back_freed()
        progress(number + 1, len(passes.batches))
    return seen


def together(ranks: Ranks, seen: Mapping[str, Ordered]) -> dict[str, Ordered]:
    """What the batches of all ranks showed; the same on each of them."""
    return merged(ranks.gather(seen))


def merged(parts: Iterable[Mapping[str, Ordered]]) -> dict[str, Ordered]:
    """What all parts showed, each of other batches, in whatever order they come."""
    together: dict[str, Ordered] = {}
    for part in parts:
        for name, moments in part.items():
            together.setdefault(name, Ordered()).include(moments)
    return together


def _known(notes: PassNotes, on_outputs: OutputSink) -> tuple[dict[str, Ordered], int]:
    for index, outputs in notes.outputs():
        on_outputs(index, outputs)
    return notes.seen(), notes.batches_done()


#: Takes what one batch shows at a site, before it goes on from there.
AtSite = Callable[[Site, SiteMoments], None]


def _untouched(site: Site, moments: SiteMoments) -> None:
    """Leaves the site as it is."""


def watched(
    run: Suspended, measure: Measure, batch: int, at_site: AtSite
) -> tuple[dict[str, SiteMoments], Outputs]:
    """Takes one forward to its end, with `at_site` at each; what it showed, and its outputs."""
    seen: dict[str, SiteMoments] = {}
    while True:
        try:
            signal = next(run)
        except StopIteration as end:
            outputs: Outputs = end.value
            return seen, outputs
        moments = measure(signal, batch)
        pool(seen, signal.site.name, moments)
        at_site(signal.site, moments)
        del signal  # Or it would live through the stretch behind it.


def pool(seen: dict[str, SiteMoments], name: str, moments: SiteMoments) -> SiteMoments:
    """Adds what one use of a site showed to what was seen there, and returns all of it."""
    seen[name] = seen[name].merge(moments) if name in seen else moments
    return seen[name]
