"""What adapting one model to one target did: two forwards, measured. Knows no file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adabn_cli.adaptation import Installer
from adabn_cli.batch import Batches, Progress, no_output
from adabn_cli.engines import engine
from adabn_cli.engines.estimate import Estimate
from adabn_cli.engines.observe import observe
from adabn_cli.errors import ModelError
from adabn_cli.measures.residual import WorstResidual, residual, worst
from adabn_cli.measures.scores import Scores
from adabn_cli.model import Model
from adabn_cli.moments import SiteMoments
from adabn_cli.normalizers import MATCHED, normalizer
from adabn_cli.workflows.contest import contest


class Stages:
    """Tells which stage is under way, and how long each took in seconds."""

    def __init__(self, tell: Callable[[str, int, int], None] | None = None) -> None:
        self._tell = tell
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        """Inside, the given function takes (done, total) of this stage."""
        start = time.perf_counter()
        yield lambda done, total: self._tell(name, done, total) if self._tell else None
        self.seconds[name] = time.perf_counter() - start


@dataclass(frozen=True)
class Outcome:
    """Before and after, at every site and for every image."""

    installer: Installer
    before: Mapping[str, SiteMoments]
    estimate: Estimate
    scores_before: Scores
    scores_after: Scores
    residual: WorstResidual | None


def adapt_and_measure(
    installer: Installer, batches: Batches, engine_name: str, *, verify: bool, stages: Stages
) -> Outcome:
    """Adapts the installer's model; it comes back as it was when anything raises.

    Raises ModelError where no selected site gave a signal.
    """
    model = installer.model
    scores_before, scores_after = Scores(), Scores()
    with installer.undone_on_failure():
        with stages.stage("before") as progress:
            before = observe(model, batches, scores_before, progress, installer.measure)
        if not installer.selected & before.keys():
            raise ModelError(
                "No picture reached a normalizer that could be adapted.",
                where=model.architecture,
                hint="Layers called by other code than their own __call__ cannot be seen.",
            )
        with stages.stage("adapt") as progress:
            if installer.adaptation.method == "auto":
                estimate, scores_after = contest(
                    installer, batches, engine(engine_name), scores_before, progress
                )
            else:
                estimate = engine(engine_name).estimate(installer, batches, scores_after, progress)
        seen = estimate.measured
        if verify:
            with stages.stage("verify") as progress:
                seen = observe(model, batches, no_output, progress, installer.measure)
        # In one forward that never came back to a site, what it saw is what it installed.
        known = verify or estimate.forwards > 1
        found = _residual(installer, estimate, seen) if known else None
    return Outcome(installer, before, estimate, scores_before, scores_after, found)


def _residual(
    installer: Installer, estimate: Estimate, seen: Mapping[str, SiteMoments]
) -> WorstResidual | None:
    """The worst difference between what the model holds and what `seen` asks for, and its site."""
    sites, state = installer.sites, installer.model.state()
    residuals = {}
    for name in estimate.installed:
        site, rule = sites[name], normalizer(sites[name].kind)
        held = rule.believed(site, state)
        # What the site would believe if it had absorbed it: a kind may store less than moments.
        entries = rule.absorb(site, state, installer.wanted(site, seen[name]))
        wanted = rule.believed(site, {**state, **entries})
        if held is not None and wanted is not None:
            residuals[name] = residual(held, wanted, site.eps)
    return worst(residuals)


def require_adaptable(model: Model, *, with_profile: bool, path: Path | None = None) -> None:
    """Raises ModelError where the model has nothing to re-estimate, and says why.

    Without stored statistics it takes a source profile to adapt.
    """
    if model.sites and (with_profile or not all(site.kind in MATCHED for site in model.sites)):
        return
    hint = "Give a model with BatchNorm or another normalizer that keeps running statistics."
    if model.sites:
        hint = (
            f"Match its {len(model.sites)} layers to a source profile, made by `adabn profile "
            f"{path or 'MODEL'} --source DIR`; or give the checkpoint from before BatchNorm was "
            "folded in, if it was."
        )
    if model.fixed:
        first = model.fixed[0]
        raise ModelError(
            "There is nothing to adapt: the model's layers store no statistics.",
            where=f"{first.name} ({first.kind}) {first.reason}",
            hint=hint,
        )
    raise ModelError(
        "There is nothing to adapt: the model has no normalization layer that stores statistics.",
        where=model.architecture,
        hint=hint,
    )
