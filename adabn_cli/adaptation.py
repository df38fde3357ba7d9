"""What is installed at a site: which sites, and how much of source and target.

Knows no engine and no file. C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Literal

import torch
from torch import Tensor

from adabn_cli.errors import ModelError, UsageError
from adabn_cli.model import Model, Site, entries_of, statistics_of
from adabn_cli.moments import Moments, SiteMoments
from adabn_cli.normalizers import normalizer
from adabn_cli.printable import first_few


@dataclass(frozen=True)
class Adaptation:
    """AdaBN at the sites that `layers` selects, with the source mixed in by `prior` or `alpha`.

    `prior` counts pseudo-images of source (Schneider et al. 2020), or is "auto"; `alpha` is a fixed
    weight in [0, 1] on the target (alpha-BN). Neither: the target alone, as in Li et al. 2016.
    """

    layers: tuple[str, ...] = ()
    prior: float | Literal["auto"] | None = None
    alpha: float | None = None

    def __post_init__(self) -> None:
        """Raises UsageError for settings that contradict each other or leave their range."""
        if self.prior is not None and self.alpha is not None:
            raise UsageError(
                "Source and target can be mixed by --prior or by --alpha, not by both.",
                hint="Leave one of them out.",
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

    @property
    def mixes(self) -> bool:
        """Whether anything of the source is kept."""
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
        weight_C = self._weight_of_target(source, measured, site.eps, images)
        mean_C = weight_C * target.mean_C + (1 - weight_C) * source.mean_C
        var_C = weight_C * target.var_C + (1 - weight_C) * source.var_C
        return Moments.of_variance(target.count, mean_C, var_C)

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


def trust(source: Moments, measured: SiteMoments, eps: float, images: int) -> Tensor:
    """How far each channel's target estimate can be trusted, [C] in [0, 1].

    The loss is the squared Wasserstein distance between Gaussians. An estimate from `n_eff` samples
    is off by V = 1.5 var / n_eff; the observed shift d2 between source and target holds V on top of
    the true one. With D = max(0, d2 - V), the weight D / (D + V) has the least expected loss.
    """
    target = measured.pixels
    std_t_C, std_s_C = (target.var_C + eps).sqrt(), (source.var_C + eps).sqrt()
    shift_C = (target.mean_C - source.mean_C) ** 2 + (std_t_C - std_s_C) ** 2
    sampling_C = 1.5 * target.var_C / measured.effective_count(images)  # inf below two images
    true_shift_C = (shift_C - sampling_C).clamp_min(0)
    weight_C = torch.nan_to_num(true_shift_C / (true_shift_C + sampling_C))
    # A channel that is silent on a few images has no spread that could be called known: a variance
    # of 0 would amplify the next image that does reach it, 316 times at eps 1e-5.
    return weight_C.masked_fill(target.dead_C, 0.0)


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


class Installer:
    """Replaces the statistics of the selected sites of one model, and can put them back.

    `source` is what each site believed before the first of them was replaced, `original` the same
    as it was stored; `images` is the number of target images.
    """

    def __init__(self, model: Model, adaptation: Adaptation, images: int) -> None:
        state = model.state()
        self.model = model
        self.adaptation = adaptation
        self.images = images
        self.selected = select_sites(model.sites, adaptation.layers)
        self.source = {
            site.name: believed
            for site in model.sites
            if (believed := normalizer(site.kind).believed(site, state)) is not None
        }
        self.original = statistics_of(model)
        if adaptation.mixes and (without := self.selected - self.source.keys()):
            raise UsageError(
                "--prior and --alpha mix in source statistics, and some sites store none to mix: "
                f"{first_few(sorted(without), 3)}.",
                hint="Leave --prior and --alpha out, or these sites (--layers '!SITE').",
            )

    def wanted(self, site: Site, measured: SiteMoments) -> Moments:
        """The moments that belong at a selected site where `measured` was seen."""
        source = self.source.get(site.name)
        return self.adaptation.target_moments(site, source, measured, self.images)

    def install(self, site: Site, moments: Moments) -> None:
        """Makes the site normalize by `moments`. Raises ModelError where they do not fit it."""
        state = self.model.state()
        entries = normalizer(site.kind).absorb(site, state, moments)
        for key, value in entries.items():
            if not torch.isfinite(value.to(state[key].dtype)).all():
                raise ModelError(
                    f"{key}: A statistic is not finite in {state[key].dtype}.",
                    where=self.model.architecture,
                    hint="Look for broken pictures or an overflow in front of this layer.",
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
