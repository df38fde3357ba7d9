"""One pass over the batches that measures every site and changes nothing.

It gives the *before* figures under source statistics and the *residual* under adapted ones.
"""

from __future__ import annotations

from contextlib import closing

from adabn_cli.batch import Batches, OutputSink, Progress
from adabn_cli.model import Model, Outputs, Suspended
from adabn_cli.moments import SiteMoments, measure


def observe(
    model: Model, batches: Batches, on_outputs: OutputSink, progress: Progress
) -> dict[str, SiteMoments]:
    """The moments of every visited site, pooled over all its uses, in the order of the forward."""
    seen: dict[str, SiteMoments] = {}
    for index, images in enumerate(batches):
        with closing(model.suspended(images)) as forward:
            on_outputs(index, _watch(forward, seen))
        progress(index + 1, len(batches))
    return seen


def _watch(forward: Suspended, seen: dict[str, SiteMoments]) -> Outputs:
    while True:
        try:
            site, activation = next(forward)
        except StopIteration as end:
            outputs: Outputs = end.value
            return outputs
        pool(seen, site.name, measure(activation))
        del activation  # Or it would live through the stretch behind it.


def pool(seen: dict[str, SiteMoments], name: str, moments: SiteMoments) -> SiteMoments:
    """Adds what one use of a site showed to what was seen there, and returns all of it."""
    seen[name] = seen[name].merge(moments) if name in seen else moments
    return seen[name]
