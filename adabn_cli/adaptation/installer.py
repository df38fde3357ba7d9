"""What is installed at a site: which sites, by which method, how much of source and target.

Knows no engine and no file. C channels. In formulas S is what the checkpoint stores, P what a
source profile says, T what was measured on the target.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Literal, get_args

import torch
from torch import Tensor

from adabn_cli.adaptation.profiles import Profile
from adabn_cli.adaptation.rules import RULES, Rule, impossible_statistics, never_learned
from adabn_cli.errors import IN_FLOAT32, ModelError, UsageError
from adabn_cli.model import Model, Signal, Site, entries_of, statistics_of
from adabn_cli.moments import EstimatedMoments, Moments, SiteMoments, measure
from adabn_cli.text import first_few

#: How a site's statistics follow from what was measured there.
Method = Literal["adabn", "matched", "auto"]

# Sampling noise counts this many times: chosen on 135 cases over 5 nets, see docs/shifts.md.
_CAUTION = 4.0


@dataclass(frozen=True)
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
                hint=f"--method takes {', '.join(get_args(Method))}.",
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


def select_sites(sites: Sequence[Site], layers: Sequence[str]) -> frozenset[str]:
    """The names of the sites that `layers` lets through; all of them where it is empty.

    Patterns are globs over site names; one that begins with `!` excludes. Exclusions alone start
    from all sites. Raises UsageError for a pattern that matches no site.
    """
    names = [site.name for site in sites]
    included = {name for name in names if all(pattern.startswith("!") for pattern in layers)}
    excluded: set[str] = set()
    for pattern in layers:
        matched = {name for name in names if fnmatchcase(name, pattern.removeprefix("!"))}
        if not matched:
            near = get_close_matches(pattern.removeprefix("!"), names, n=3) or names[:3]
            raise UsageError(
                f"--layers: no site matches {pattern!r}.",
                hint=f"Nearest sites: {', '.join(near)}. `adabn inspect` lists all of them.",
            )
        (excluded if pattern.startswith("!") else included).update(matched)
    if not included - excluded:
        raise UsageError("--layers leaves no site to adapt.", hint="Exclude fewer of them.")
    return frozenset(included - excluded)


@dataclass(frozen=True)
class Aim:
    """What the sites are to come to: what they show on source images, or, by AdaBN, on none.

    `expected` is the former by site; `share_K` are the proportions of classes that these source
    images were mixed in, None for the profile's own.
    """

    expected: Mapping[str, EstimatedMoments] = field(default_factory=dict)
    share_K: tuple[float, ...] | None = None

    @property
    def name(self) -> Literal["adabn", "profile", "class mix"]:
        """What a record calls it."""
        if not self.expected:
            return "adabn"
        return "profile" if self.share_K is None else "class mix"


class Installer:
    """Replaces the statistics of the selected sites of one model, and can put them back.

    `source` is what each site believed before the first of them was replaced, `original` the same
    as it was stored; `images` is the number of target images. `aim` may be replaced in between.
    `comparable` is the source as far as figures can be held against it: learned, and possible.
    """

    def __init__(
        self, model: Model, adaptation: Adaptation, images: int, profile: Profile | None = None
    ) -> None:
        adaptation = adaptation.resolved(with_profile=profile is not None)
        if profile is None and adaptation.method != "adabn":
            raise UsageError(
                f"--method {adaptation.method} needs a source profile.",
                hint="Make one, `adabn profile MODEL --source DIR -o FILE`, and give --profile.",
            )
        state = model.state()
        self.model = model
        self.adaptation = adaptation
        self.images = images
        self.profile = profile
        self.aim = Aim(profile.expected()) if profile and self._matches else Aim()
        self.sites = {site.name: self._with_reference(site) for site in model.sites}
        self.selected = self._selected()
        self.source = {
            name: believed
            for name, site in self.sites.items()
            if (believed := RULES[site.kind].believed(site, state)) is not None
        }
        self.comparable = {
            name: believed
            for name, believed in self.source.items()
            if not never_learned(self.sites[name], state)
            and not impossible_statistics(self.sites[name], state)
        }
        self.original = statistics_of(model)
        if adaptation.mixes and (without := self.selected - self.source.keys()):
            raise UsageError(
                "--prior and --alpha mix in source statistics, and some sites store none to mix: "
                f"{first_few(sorted(without), 3)}.",
                hint="Leave --prior and --alpha out, or these sites (--layers '!SITE').",
            )

    def _with_reference(self, site: Site) -> Site:
        known = self.profile.sites.get(site.name) if self.profile else None
        if known is None:
            return site
        device = next(self.model.state()[key].device for key in site.keys.values())
        return replace(site, reference=known.moments.pixels.on(device))

    def _selected(self) -> frozenset[str]:
        """What `layers` lets through, less what has to be in a profile and is not."""
        selected = select_sites(list(self.sites.values()), self.adaptation.layers)
        return frozenset(
            name
            for name in selected
            if (self.profile is not None and name in self.profile.sites)
            or (self.adaptation.method == "adabn" and not self._rule(name).needs_profile)
        )

    def _rule(self, name: str) -> Rule:
        return RULES[self.sites[name].kind]

    @property
    def _matches(self) -> bool:
        return self.adaptation.method != "adabn"

    def measure(self, signal: Signal, batch: int) -> SiteMoments:
        """The moments of a signal, with a histogram where the profile has one to compare."""
        moments = measure(signal.activation)
        known = self.profile.sites.get(signal.site.name) if self.profile else None
        if known is None or known.bins is None:
            return moments
        return replace(moments, histogram_CB=known.bins.count(signal.activation))

    def wanted(self, site: Site, measured: SiteMoments) -> Moments:
        """The moments that belong at a selected site where `measured` was seen."""
        site, source = self.sites[site.name], self.source.get(site.name)
        if not self.aim.expected or source is None:
            wanted = self.adaptation.target_moments(site, source, measured, self.images)
            keeps_C = measured.pixels.dead_C if RULES[site.kind].needs_profile else None
        else:
            target = measured.estimated(self.images)
            expected = self.aim.expected[site.name].on(target.mean_C.device)
            weight_C = match_trust(target, expected, site.eps)
            wanted = between(source, matched(source, target, expected), weight_C)
            keeps_C = measured.pixels.dead_C
        if source is None or keeps_C is None:
            return wanted
        # A channel silent on these images keeps its source: nothing tells how far it may go up.
        return between(source, wanted, 1.0 - keeps_C.double())

    def install(self, site: Site, moments: Moments) -> None:
        """Makes the site normalize by `moments`. Raises ModelError where they do not fit it."""
        state = self.model.state()
        entries = RULES[site.kind].absorb(self.sites[site.name], state, moments)
        for key, value in entries.items():
            if not torch.isfinite(value.to(state[key].dtype)).all():
                overflow = "Look for broken pictures or an overflow in front of this layer."
                raise ModelError(
                    f"{key}: A statistic is not finite in {state[key].dtype}.",
                    where=self.model.architecture,
                    hint=IN_FLOAT32 if state[key].dtype == torch.float16 else overflow,
                )
        self.model.load_state(entries)

    @contextmanager
    def undone_on_failure(self) -> Iterator[None]:
        """The model comes back as it was when anything raises, KeyboardInterrupt included."""
        try:
            yield
        except BaseException:
            self.model.load_state(entries_of(self.model, self.original))
            raise
