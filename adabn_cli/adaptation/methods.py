"""How a site's statistics follow from what was measured there: AdaBN, mixes, and matching.

Formulas alone. S is what the checkpoint stores, P what a source profile says, T what was measured
on the target. C channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from adabn_cli.errors import UsageError
from adabn_cli.model import Site
from adabn_cli.moments import EstimatedMoments, Moments, SiteMoments

#: How a site's statistics follow from what was measured there.
Method = Literal["adabn", "matched", "auto"]

# Sampling noise counts this many times: chosen on 135 cases over 5 nets, see docs/shifts.md.
_CAUTION = 4.0


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """What is installed at the sites that `layers` selects.

    `method` "adabn" is Li et al. 2016, with the source mixed in by `prior` or `alpha`; `prior`
    counts pseudo-images of source (Schneider et al. 2020), or is "auto"; `alpha` is a fixed weight
    in [0, 1] on the target (alpha-BN). "matched" holds the target against a source profile and
    trusts the difference by its sampling error; "auto" picks the surest of these and others.
    Without a method it is "matched" where there is a profile, see `resolved`. `momentum` in (0, 1]
    is the weight of each new batch with the online engine; None counts every image alike.
    `adapt_initial` consents to adapting a model none of whose sites ever learned its statistics.
    """

    layers: tuple[str, ...] = ()
    prior: float | Literal["auto"] | None = None
    alpha: float | None = None
    method: Method | None = None
    momentum: float | None = None
    adapt_initial: bool = False

    def __post_init__(self) -> None:
        """Raises UsageError for settings that contradict each other or leave their range."""
        if self.method not in (None, *get_args(Method)):
            raise UsageError(
                f"There is no method {self.method!r}.",
                hint=f"--method accepts {', '.join(get_args(Method))}.",
            )
        if self.prior is not None and self.alpha is not None:
            raise UsageError(
                "Source and target can be mixed by --prior or by --alpha, not by both.",
                hint="Leave one of them out.",
            )
        if self.mixes and self.method not in (None, "adabn"):
            raise UsageError(
                f"--prior and --alpha belong to --method adabn; {self.method} weighs source and "
                "target by itself.",
                hint="Leave them out, or give --method adabn.",
            )
        if self.momentum is not None and not 0 < self.momentum <= 1:
            raise UsageError(
                f"--momentum {self.momentum:g} is not a weight.",
                hint="Give a number above 0 (the source stays) and at most 1 (the last batch).",
            )
        if self.momentum is not None and self.prior is not None:
            raise UsageError(
                "--momentum starts from the source and weighs batches; --prior counts images.",
                hint="Leave one of them out; --alpha goes with --momentum.",
            )
        if self.alpha is not None and not 0 <= self.alpha <= 1:
            raise UsageError(
                f"--alpha {self.alpha:g} is not a weight.",
                hint="Give a number from 0 (source only) to 1 (target only).",
            )
        if self.prior is not None and self.prior != "auto" and not _is_count(self.prior):
            raise UsageError(
                f"--prior {self.prior} is not a number of images.",
                hint="Give 0 or more pseudo-images of source, or 'auto'.",
            )

    def resolved(self, *, with_profile: bool) -> Adaptation:
        """The same with its method decided: --prior and --alpha ask for AdaBN."""
        if self.method is not None:
            return self
        return replace(self, method="matched" if with_profile and not self.mixes else "adabn")

    @property
    def mixes(self) -> bool:
        """Whether anything of the source is kept by --prior or --alpha."""
        return self.prior is not None or self.alpha is not None

    def target_moments(
        self, site: Site, source: Moments | None, measured: SiteMoments, images: int
    ) -> Moments:
        """The moments to install, from what was measured over `images` target images.

        Means and variances are mixed linearly, as published: no between-means term.
        """
        target = measured.pixels
        if source is None or not self.mixes:
            return target
        return between(source, target, self._weight_of_target(source, measured, site.eps, images))

    def _weight_of_target(
        self, source: Moments, measured: SiteMoments, eps: float, images: int
    ) -> Tensor:
        """Weight of the target in [0, 1], [C]."""
        if self.prior == "auto":
            return trust(source, measured, eps, images)
        seen = min(images, measured.images.count)
        weight = self.alpha if self.alpha is not None else seen / (seen + (self.prior or 0))
        return torch.full_like(source.mean_C, weight)


def _is_count(value: object) -> bool:
    return isinstance(value, float | int) and value >= 0


def between(source: Moments, target: Moments, weight_C: Tensor) -> Moments:
    """Means and variances that lie `weight_C` of the way from source to target."""
    mean_C = weight_C * target.mean_C + (1 - weight_C) * source.mean_C
    var_C = weight_C * target.var_C + (1 - weight_C) * source.var_C
    return Moments.of_variance(max(target.count, 1), mean_C, var_C)


def trust(source: Moments, measured: SiteMoments, eps: float, images: int) -> Tensor:
    """How far each channel's target estimate can be trusted, [C] in [0, 1].

    The loss is the squared Wasserstein distance between Gaussians. An estimate from `n_eff` samples
    is off by V = 1.5 var / n_eff; the observed shift d2 between source and target holds V on top of
    the true one. With D = max(0, d2 - V), the weight D / (D + V) has the least expected loss.
    """
    target = measured.pixels
    shift_C = squared_shift(target.mean_C, target.var_C, source.mean_C, source.var_C, eps)
    sampling_C = 1.5 * target.var_C / measured.effective_count(images)  # inf below two images
    # A channel that is silent on a few images has no spread that could be called known: a variance
    # of 0 would amplify the next image that does reach it, 316 times at eps 1e-5.
    return _weight(shift_C, sampling_C).masked_fill(target.dead_C, 0.0)


def matched(source: Moments, target: EstimatedMoments, expected: EstimatedMoments) -> Moments:
    """The moments with which the site's output is on the target what it is on source images.

    `expected` is what the site shows on plain source images, by a profile; `source` what the
    checkpoint stores, learned perhaps on augmented ones. With `g = std_T / std_P`:
    `mu = mu_T + (mu_S - mu_P) g` and `var = var_S g^2`. Where the target equals the profile this is
    the source model, where the checkpoint's statistics equal the profile's it is AdaBN.
    """
    # Without it a channel that is almost silent on source images would be amplified without bound.
    # A floor and no addend: both identities hold exactly wherever it does not bind.
    floor_C = 1e-3 * source.var_C + 1e-8
    ratio_C = torch.maximum(target.var_C, floor_C) / torch.maximum(expected.var_C, floor_C)
    mean_C = target.mean_C + (source.mean_C - expected.mean_C) * ratio_C.sqrt()
    return Moments.of_variance(1, mean_C, source.var_C * ratio_C)


def match_trust(target: EstimatedMoments, expected: EstimatedMoments, eps: float) -> Tensor:
    """How far each channel's difference from the profile can be trusted, [C] in [0, 1].

    As `trust`, with the sampling errors of mean and variance on both sides, taken from the spread
    between images, and counted four times.
    """
    shift_C = squared_shift(target.mean_C, target.var_C, expected.mean_C, expected.var_C, eps)
    sampling_C = sampling_error(target, eps) + sampling_error(expected, eps)
    return _weight(shift_C, _CAUTION * sampling_C)


def sampling_error(side: EstimatedMoments, eps: float) -> Tensor:
    """Squared Wasserstein distance that sampling alone makes, [C]."""
    return side.mean_error2_C + side.var_error2_C / (4 * (side.var_C + eps))


def squared_shift(
    mean_a_C: Tensor, var_a_C: Tensor, mean_b_C: Tensor, var_b_C: Tensor, eps: float
) -> Tensor:
    """Squared Wasserstein distance between Gaussians, [C]."""
    return (mean_a_C - mean_b_C) ** 2 + ((var_a_C + eps).sqrt() - (var_b_C + eps).sqrt()) ** 2


def _weight(shift_C: Tensor, sampling_C: Tensor) -> Tensor:
    true_shift_C = (shift_C - sampling_C).clamp_min(0)
    return torch.nan_to_num(true_shift_C / (true_shift_C + sampling_C))
