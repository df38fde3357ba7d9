"""Running statistics, one batch at a time, for streams that never end.

Every selected site takes in what a batch shows before the batch goes on from there, so a batch is
seen behind sites that have taken it in already. Later batches see other statistics than earlier
ones: the result depends on the order and on the batch size, as that of no other engine but
one-pass. Knows no stream; `jobs/watch/stream.py` does. C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from itertools import islice

import torch
from torch import Tensor

from adabn_cli.adaptation.engines.merge_order import Ordered
from adabn_cli.adaptation.engines.observe import observe, watched
from adabn_cli.adaptation.engines.one_pass import install_seen
from adabn_cli.adaptation.engines.passes import Estimate, Passes
from adabn_cli.adaptation.installer import Installer
from adabn_cli.adaptation.methods import between
from adabn_cli.machine import give_back_freed
from adabn_cli.model import Outputs, OutputSink, Progress, Site
from adabn_cli.moments import ImageMoments, SiteMoments

side_by_side, is_stream = False, True

# Running statistics are one sum; as that of a first batch they fit into an engine's notes.
_ONE_SUM = (0, 0)


def estimate(
    installer: Installer, passes: Passes, on_outputs: OutputSink, progress: Progress
) -> Estimate:
    """Adapts batch by batch; a second pass, in eval mode, scores and measures the adapted model.

    `installer.adaptation.momentum` weighs each new batch; without it every image counts alike.
    """
    notes, count = passes.begin(), len(passes.batches)
    done = notes.batches_done()
    stream = Stream(installer, {name: noted.total() for name, noted in notes.seen().items()})
    for number, images in enumerate(islice(passes.batches, done, None), start=done):
        stream.take(images, number)
        sums = {name: Ordered({_ONE_SUM: moments}) for name, moments in stream.running.items()}
        notes.note_batch(number, sums)
        if passes.waiting.tight:
            give_back_freed()
        progress(number + 1, 2 * count)
    installed = install_seen(installer, stream.running)
    measured = observe(
        installer.model,
        passes,
        on_outputs,
        lambda done, of: progress(count + done, 2 * count),
        installer.measure,
    )
    return Estimate(installed, measured, forwards=2)


class Stream:
    """A model that goes along with what it is shown. `running` is by selected site."""

    def __init__(
        self, installer: Installer, running: Mapping[str, SiteMoments] | None = None
    ) -> None:
        self.running = dict(running or {})
        self._installer = installer
        self._momentum = installer.adaptation.momentum

    def take(self, images: Tensor, number: int = 0) -> Outputs:
        """Takes one batch in; returns what the model that has taken it in says of it."""
        installer = self._installer
        with closing(installer.model.suspended(images)) as run:
            return watched(run, installer.measure, number, self._at_site)[1]

    def _at_site(self, site: Site, batch: SiteMoments) -> None:
        # A box head shows nothing of a picture without a box.
        if site.name in self._installer.selected and batch.pixels.count:
            running = self.running[site.name] = self._with(site, batch)
            self._installer.install(site, self._installer.wanted(site, running))

    def _with(self, site: Site, batch: SiteMoments) -> SiteMoments:
        known, momentum = self.running.get(site.name), self._momentum
        if momentum is None:
            return batch if known is None else known.merge(batch)
        if known is None and (source := self._installer.source.get(site.name)) is not None:
            known = SiteMoments(source, ImageMoments.empty(site.channels, source.mean_C.device))
        return batch if known is None else moved(known, batch, momentum)


def moved(running: SiteMoments, batch: SiteMoments, momentum: float) -> SiteMoments:
    """`(1 - momentum) running + momentum batch`, of the mean and of the variance.

    The rule of torch.nn.BatchNorm2d in training, with the batch's population variance in place of
    the unbiased one. Means that differ add nothing to the variance: a source far away would be
    taken for spread until it is forgotten. Running statistics without an image are those of a
    source, and taken as exact. Counts say how well the result is known: 1/n becomes
    `(1 - momentum)^2 / n_running + momentum^2 / n_batch`.
    """
    old, new = running.images, batch.images
    weight_C = torch.full_like(batch.pixels.mean_C, momentum)
    pixels = between(running.pixels, batch.pixels, weight_C)
    inverse = momentum**2 / new.count + ((1 - momentum) ** 2 / old.count if old.count else 0.0)
    count = max(1, round(1 / inverse))
    old = old if old.count else new

    def spread(a_C: Tensor, b_C: Tensor) -> Tensor:
        return count * ((1 - momentum) * a_C / old.count + momentum * b_C / new.count)

    images = ImageMoments(
        count,
        pixels.mean_C,
        spread(old.m2_C, new.m2_C),
        pixels.var_C,
        spread(old.square_m2_C, new.square_m2_C),
        spread(old.cross_C, new.cross_C),
    )
    return SiteMoments(pixels, images)
