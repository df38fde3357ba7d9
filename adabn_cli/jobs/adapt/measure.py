"""What adapting one model to one target did: two forwards, measured. Knows no file."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from adabn_cli.adaptation.engines import engine
from adabn_cli.adaptation.engines.estimate import Estimate
from adabn_cli.adaptation.engines.observe import observe
from adabn_cli.adaptation.engines.waiting import ranks_of, waiting_of
from adabn_cli.adaptation.installer import Aim, Installer, select_sites
from adabn_cli.adaptation.rules import RULES
from adabn_cli.errors import ModelError
from adabn_cli.jobs.adapt.class_mix import explaining_aim
from adabn_cli.jobs.adapt.contest import Contestant, contest
from adabn_cli.jobs.adapt.judging import Judgement, Sides, judge
from adabn_cli.jobs.adapt.verifying import as_written, worst_residual
from adabn_cli.machine import keeping_freed
from adabn_cli.measures.heads import Head
from adabn_cli.measures.residual import WorstResidual
from adabn_cli.measures.scores import Scores
from adabn_cli.model import Batches, Model, Progress, statistics_of
from adabn_cli.moments import SiteMoments
from adabn_cli.text import first_few


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
    """Before and after, at every site and for every image.

    `aim` is what the deployed statistics were held against; `forwards` counts the passes that
    adapting took, all contestants' together; `uses` how often one forward comes to each site.
    """

    installer: Installer
    aim: Aim
    forwards: int
    before: Mapping[str, SiteMoments]
    estimate: Estimate
    scores_before: Scores
    scores_after: Scores
    residual: WorstResidual | None
    judgement: Judgement | None
    uses: Mapping[str, int] = field(default_factory=dict)


def adapt_and_measure(
    installer: Installer,
    batches: Batches,
    engine_name: str,
    *,
    verify: bool,
    stages: Stages,
    head: Head | None = None,
) -> Outcome:
    """Adapts the installer's model; it comes back as it was when anything raises.

    A `head` takes the outputs where they are no class scores.
    Raises ModelError where no selected site gave a signal.
    """
    model, scores_before = installer.model, Scores(head=head)
    kept = nullcontext() if waiting_of(batches).tight else keeping_freed()
    with installer.undone_on_failure(), kept:
        with stages.stage("before") as progress:
            before = observe(model, batches, scores_before, progress, installer.measure)
            scores_before.join(ranks_of(batches)[0])
        require_signal(installer, before)
        installer.aim = (
            explaining_aim(installer, installer.aim, before, scores_before) or installer.aim
        )
        with stages.stage("adapt") as progress:
            adapted = _adapted(installer, batches, engine_name, scores_before, progress)
        seen = adapted.estimate.measured
        if verify:
            with stages.stage("verify") as progress:
                seen = as_written(installer, batches, progress)
        # In one forward that never came back to a site, what it saw is what it installed.
        known = verify or adapted.estimate.forwards > 1
        found = worst_residual(installer, adapted.estimate, seen) if known else None
        with stages.stage("judge") as progress:
            sides = Sides(scores_before, before, adapted)
            judgement = judge(installer, batches, engine(engine_name), sides, progress)
    return Outcome(
        installer,
        adapted.aim,
        adapted.forwards,
        before,
        adapted.estimate,
        scores_before,
        adapted.scores,
        found,
        judgement,
        Counter(model.conduct.order),
    )


def _adapted(
    installer: Installer, batches: Batches, engine_name: str, before: Scores, progress: Progress
) -> Contestant:
    """The model adapted by the installer's method, with what it says of the batches."""
    if installer.adaptation.method == "auto":
        winner = contest(installer, batches, engine(engine_name), [before], progress)
        winner.enter(installer)
        return winner
    scores = Scores([before])
    estimate = engine(engine_name).estimate(installer, batches, scores, progress)
    scores.join(ranks_of(batches)[0])
    statistics = statistics_of(installer.model, estimate.installed)
    return Contestant(installer.aim, estimate, scores, statistics, estimate.forwards)


def require_signal(installer: Installer, seen: Mapping[str, object]) -> None:
    """Raises ModelError where no site that is to be adapted was seen."""
    if not installer.selected & seen.keys():
        raise ModelError(
            "No picture reached a normalizer that could be adapted.",
            where=installer.model.architecture,
            hint="Layers called by other code than their own __call__ cannot be seen.",
        )


def require_adaptable(model: Model, *, with_profile: bool, path: Path | None = None) -> None:
    """Raises ModelError where the model has nothing to re-estimate, and says why.

    Without stored statistics it takes a source profile to adapt.
    """
    storing = [site for site in model.sites if not RULES[site.kind].needs_profile]
    if storing or (model.sites and with_profile):
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


def left_out_warning(installer: Installer) -> tuple[str, ...]:
    """That layers which a normalizer is folded into, beside others, stay as they are; and the cure.

    Nothing if there is none, or --layers leaves them out.
    """
    sites = installer.model.sites
    asked = select_sites(sites, installer.adaptation.layers)
    left = [
        x.name
        for x in sites
        if x.name in asked - installer.selected and RULES[x.kind].needs_profile
    ]
    if not left or installer.profile is not None:
        return ()
    return (
        f"{len(left)} of {len(sites)} sites are left as they are: BatchNorm is folded into them, "
        f"or may be ({first_few(left, 3)}). `adabn adapt` takes the checkpoint that was "
        "exported (--reference FILE) or source pictures (--source DIR, --profile FILE).",
    )
