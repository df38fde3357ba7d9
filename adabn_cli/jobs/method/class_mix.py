"""Whether the target's mix of classes explains how it differs from the profile's pictures.

Classes in other proportions look like a shift: matched to a balanced profile, a target of one class
is pulled apart into all of them. K classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from adabn_cli.adaptation.installer import Aim, Installer
from adabn_cli.adaptation.methods import squared_shift
from adabn_cli.adaptation.profiles import Profile
from adabn_cli.jobs.method.observed import Observed
from adabn_cli.measures.scores import Scores
from adabn_cli.moments import EstimatedMoments

# Between what was seen where the mix was right (at most 0.40 of the distance was left) and where
# the source model had taken noise for a single class (at least 0.54): docs/shifts.md.
_LEFT_OVER = 0.45

# So many pseudo-images of an even mix keep a class alive that a small target does not show.
_EVEN_IMAGES = 8.0


def predicted_mix(scores: Scores) -> NDArray[np.float64]:
    """The proportions of the classes by the model's probabilities, drawn towards even ones, [K]."""
    K, found_K = scores.n_classes, scores.probability_sum_K
    mix_K: NDArray[np.float64] = (found_K + _EVEN_IMAGES / K) / (found_K.sum() + _EVEN_IMAGES)
    return mix_K


def mixed_aim(installer: Installer, share_K: NDArray[np.float64]) -> Aim:
    """What the sites show on the profile's pictures in these proportions."""
    if installer.profile is None:
        return Aim()
    return Aim(installer.profile.expected_mix(share_K), tuple(share_K.tolist()))


def knows_classes(installer: Installer) -> bool:
    """Whether the profile has moments by class to make mixes of."""
    profile = installer.profile
    return profile is not None and all(site.classes for site in profile.sites.values())


def explaining_aim(installer: Installer, plain: Aim, before: Observed) -> Aim:
    """A mix of the profile's classes that the target lies far nearer to than to `plain`.

    Its proportions are the source model's predictions, its sites' moments those `before`.
    `plain` itself if the mix explains less than half of the difference, or cannot be known.
    """
    profile, scores = installer.profile, before.scores
    if not (profile and plain.expected and scores.scorable and knows_classes(installer)):
        return plain
    found_K = scores.probability_sum_K
    if not found_K.sum() > 0:
        return plain
    aim = mixed_aim(installer, found_K / found_K.sum())
    seen = {
        name: moments.estimated(installer.images)
        for name, moments in before.sites.items()
        if name in aim.expected
    }
    far, left = (_distance(seen, x.expected, profile, installer) for x in (plain, aim))
    return aim if left < _LEFT_OVER * far else plain


def _distance(
    seen: Mapping[str, EstimatedMoments],
    expected: Mapping[str, EstimatedMoments],
    profile: Profile,
    installer: Installer,
) -> float:
    """Squared Wasserstein distance in variances of the profile: mean over sites of the median."""
    medians = []
    for name, target in seen.items():
        site, source = installer.sites[name], expected[name].on(target.mean_C.device)
        shift_C = squared_shift(target.mean_C, target.var_C, source.mean_C, source.var_C, site.eps)
        plain = profile.sites[name].moments.pixels.on(shift_C.device)
        medians.append(float((shift_C / (plain.var_C + site.eps))[~plain.dead_C].median()))
    return float(np.nanmean(medians)) if medians else 0.0
