"""One pass over the batches that measures every site and changes nothing.

It gives the *before* figures under source statistics and the *residual* under adapted ones.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from adabn_cli.batch import Batches, OutputSink, Progress
from adabn_cli.engines.memory import give_back_freed
from adabn_cli.engines.waiting import waiting_of
from adabn_cli.model import Model, Signal, Suspended
from adabn_cli.moments import SiteMoments, measure
from adabn_cli.outputs import Outputs

#: What is plain_moments of a signal; the number is its batch's.
Measure = Callable[[Signal, int], SiteMoments]


def plain_moments(signal: Signal, batch: int) -> SiteMoments:
    """The plain moments of a signal."""
    return measure(signal.activation)


def observe(
    model: Model,
    batches: Batches,
    on_outputs: OutputSink,
    progress: Progress,
    measure: Measure = plain_moments,
) -> dict[str, SiteMoments]:
    """The moments of every visited site, pooled over all its uses, in the order of the forward."""
    seen: dict[str, SiteMoments] = {}
    tight = waiting_of(batches).tight
    for index, images in enumerate(batches):
        with closing(model.suspended(images)) as forward:
            on_outputs(index, _watch(forward, seen, measure, index))
        if tight:
            give_back_freed()
        progress(index + 1, len(batches))
    return seen


def _watch(
    forward: Suspended, seen: dict[str, SiteMoments], measure: Measure, batch: int
) -> Outputs:
    while True:
        try:
            signal = next(forward)
        except StopIteration as end:
            outputs: Outputs = end.value
            return outputs
        pool(seen, signal.site.name, measure(signal, batch))
        del signal  # Or it would live through the stretch behind it.


def pool(seen: dict[str, SiteMoments], name: str, moments: SiteMoments) -> SiteMoments:
    """Adds what one use of a site showed to what was seen there, and returns all of it."""
    seen[name] = seen[name].merge(moments) if name in seen else moments
    return seen[name]
