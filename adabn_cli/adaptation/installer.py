"""What is installed where: the sites of one model, by one method, towards one aim.

Knows no engine and no file. C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Literal

import torch
from torch import Tensor

from adabn_cli.adaptation.methods import Adaptation, between, match_trust, matched
from adabn_cli.adaptation.profiles import Profile
from adabn_cli.adaptation.rules import RULES, impossible_statistics, never_learned
from adabn_cli.errors import IN_FLOAT32, ModelError, UsageError
from adabn_cli.model import Model, Place, Signal, Site, entries_of, statistics_of
from adabn_cli.moments import EstimatedMoments, Moments, SiteMoments, measure
from adabn_cli.text import first_few


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Installer:
    """Replaces the statistics of the selected sites of one model, and can put them back.

    `sites` are all of the model's, with what the profile says of them as reference, `selected`
    those that are replaced. `source` is what each site believed before the first was replaced,
    `comparable` the part of it that figures can be compared with: learned, and possible; `original`
    is the same as it was stored. `images` is the number of target images.
    """

    model: Model
    adaptation: Adaptation
    images: int
    profile: Profile | None
    aim: Aim
    sites: Mapping[str, Site]
    selected: frozenset[str]
    source: Mapping[str, Moments]
    comparable: Mapping[str, Moments]
    original: Mapping[Place, Tensor]

    @classmethod
    def of(
        cls, model: Model, adaptation: Adaptation, images: int, profile: Profile | None = None
    ) -> Installer:
        """The installer of a model as it is now, aimed at the profile if the method matches.

        Raises UsageError for a method that needs more than is known.
        """
        adaptation = adaptation.resolved(with_profile=profile is not None)
        matches = adaptation.method != "adabn"
        if profile is None and matches:
            raise UsageError(
                f"--method {adaptation.method} needs a source profile.",
                hint="Make one, `adabn profile MODEL --source DIR -o FILE`, and give --profile.",
            )
        state = model.state()
        sites = {site.name: _with_reference(site, profile, state) for site in model.sites}
        selected = _selected(sites, adaptation, profile)
        source = {
            name: believed
            for name, site in sites.items()
            if (believed := RULES[site.kind].believed(site, state)) is not None
        }
        if adaptation.mixes and (without := selected - source.keys()):
            raise UsageError(
                "--prior and --alpha mix in source statistics, and some sites store none to mix: "
                f"{first_few(sorted(without), 3)}.",
                hint="Leave --prior and --alpha out, or these sites (--layers '!SITE').",
            )
        return cls(
            model=model,
            adaptation=adaptation,
            images=images,
            profile=profile,
            aim=Aim(profile.expected()) if profile and matches else Aim(),
            sites=sites,
            selected=selected,
            source=source,
            comparable={
                name: believed
                for name, believed in source.items()
                if not never_learned(sites[name], state)
                and not impossible_statistics(sites[name], state)
            },
            original=statistics_of(model),
        )

    def aimed_at(self, aim: Aim) -> Installer:
        """The same with another aim."""
        return replace(self, aim=aim)

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
            self.undo()
            raise

    def undo(self) -> None:
        """Puts back what every site stored."""
        self.model.load_state(entries_of(self.model, self.original))


def _with_reference(site: Site, profile: Profile | None, state: Mapping[str, Tensor]) -> Site:
    known = profile.sites.get(site.name) if profile else None
    if known is None:
        return site
    device = next(state[key].device for key in site.keys.values())
    return replace(site, reference=known.moments.pixels.on(device))


def _selected(
    sites: Mapping[str, Site], adaptation: Adaptation, profile: Profile | None
) -> frozenset[str]:
    """What `layers` lets through, less what has to be in a profile and is not."""
    profiled = profile.sites.keys() if profile else frozenset[str]()
    return frozenset(
        name
        for name in select_sites(list(sites.values()), adaptation.layers)
        if name in profiled
        or (adaptation.method == "adabn" and not RULES[sites[name].kind].needs_profile)
    )


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
