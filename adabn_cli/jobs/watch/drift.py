"""Whether a batch of a stream is unlike the pictures before it, site by site. Knows no model.

Sites are those of the source model, whose statistics stay: what they show changes with the pictures
alone. C channels, of which those that never varied are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from adabn_cli.adaptation.engines.observe import pool
from adabn_cli.adaptation.methods import sampling_error, squared_shift
from adabn_cli.model import Site
from adabn_cli.moments import EstimatedMoments, SiteMoments

# Standard errors. Pictures drawn at random into 40 streams of up to 20 batches each: the largest of
# four nets was 3.9 in batches of 8, and 3.3 in those of 16, 32 and 64.
_ERRORS = 4.0
# Standard deviations of a site, below which a shift does not matter: what `enough pictures` takes.
_TOLERANCE = 0.1
# The spread between fewer pictures says too little of how well their mean is known.
_FEWEST_IMAGES = 8


@dataclass(frozen=True)
class Drift:
    """The site where a batch differs most, how far, and what sampling alone would show there.

    Both are root mean squares over channels, in standard deviations; `drifted_sites` counts all
    sites that differ.
    """

    site: str
    shift_std: float
    noise_std: float
    drifted_sites: int


class Regime:
    """The pictures of a stream since its last drift: `seen` by site, `images` of them.

    Batches of fewer than 8 pictures are held until they are 8 together, and compared then.
    """

    def __init__(self) -> None:
        self.seen: dict[str, SiteMoments] = {}
        self.images = 0
        self._held: dict[str, SiteMoments] = {}
        self._held_images = 0

    def take(
        self, sites: Mapping[str, Site], batch: Mapping[str, SiteMoments], images: int
    ) -> Drift | None:
        """Adds a batch; where it has drifted, a new regime begins with it.

        With `d2` a channel's squared Wasserstein distance between the batch of n images and the N
        before, `V` what sampling makes of it and `v` the channel's variance: a site has drifted
        where `mean(d2 / v)` over channels is more than 16 times `mean(V / v)`, and
        `sqrt(mean(d2 / v) - mean(V / v))` more than 0.1. V comes from the squared standard errors
        of mean and variance, `s^2 (1/n + 1/N)` each, with the spread s^2 between images pooled
        within both sides, as in Student's test.
        """
        for name, moments in batch.items():
            pool(self._held, name, moments)
        self._held_images += images
        if self._held_images < _FEWEST_IMAGES:
            return None
        batch, images = self._held, self._held_images
        self._held, self._held_images = {}, 0
        found = self._drift(sites, batch, images) if self.images else None
        if found is not None:
            self.seen, self.images = {}, 0
        for name, moments in batch.items():
            pool(self.seen, name, moments)
        self.images += images
        return found

    def _drift(
        self, sites: Mapping[str, Site], batch: Mapping[str, SiteMoments], images: int
    ) -> Drift | None:
        drifted: dict[str, tuple[float, float]] = {}
        for name in batch.keys() & self.seen.keys():
            shift2, noise2 = self._compared(sites[name], batch[name], images)
            if shift2 > _ERRORS**2 * noise2 and shift2 - noise2 > _TOLERANCE**2:
                drifted[name] = math.sqrt(shift2 - noise2), math.sqrt(noise2)
        if not drifted:
            return None
        worst = max(sorted(drifted), key=lambda name: drifted[name])
        return Drift(worst, *drifted[worst], len(drifted))

    def _compared(self, site: Site, batch: SiteMoments, images: int) -> tuple[float, float]:
        """Mean squared shift over live channels and what sampling makes of it, in variances."""
        seen, eps = self.seen[site.name], site.eps
        new, old = batch.pixels, seen.pixels
        live_C = ~(new.dead_C & old.dead_C)
        if not live_C.any():
            return 0.0, 0.0
        # A site that is used twice shows two rows an image, and no more knowledge for that.
        rows = batch.images.count + seen.images.count
        weight = (1 / images + 1 / self.images) / (rows - 2)
        chance = EstimatedMoments(
            old.mean_C,
            old.var_C,
            weight * (batch.images.m2_C + seen.images.m2_C),
            weight * (batch.images.square_m2_C + seen.images.square_m2_C),
        )
        scale_C = old.var_C + eps
        shift2_C = squared_shift(new.mean_C, new.var_C, old.mean_C, old.var_C, eps) / scale_C
        noise2_C = sampling_error(chance, eps) / scale_C
        return float(shift2_C[live_C].mean()), float(noise2_C[live_C].mean())
