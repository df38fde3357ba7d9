"""The `auto` method: AdaBN, a match to the profile, and one to the classes it finds on the target.

The one that the adapted model is surest with wins. The unadapted source model takes no part: where
it is confidently wrong it would win.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from adabn_cli.adaptation.engines import Engine
from adabn_cli.adaptation.engines.estimate import Estimate
from adabn_cli.adaptation.engines.waiting import ranks_of
from adabn_cli.adaptation.installer import Aim, Installer
from adabn_cli.jobs.adapt.class_mix import knows_classes, mixed_aim, predicted_mix
from adabn_cli.measures.scores import Scores
from adabn_cli.model import Batches, Place, Progress, entries_of, no_progress, statistics_of

ROUNDS = 4

# Another aim has to be surer than the profile by that much: mean confidences that differ by less
# say nothing, and the profile alone cost less (docs/shifts.md).
_SURER = 0.02


@dataclass(frozen=True)
class Contestant:
    """One adapted model: how it was come by, what it says, and its statistics.

    `forwards` is what it took to have it, its rivals' forwards included.
    """

    aim: Aim
    estimate: Estimate
    scores: Scores
    statistics: dict[Place, Tensor]
    forwards: int

    @property
    def surest(self) -> float:
        """The mean of the largest probability over the target."""
        found_N = self.scores.confidence_N
        return float(np.nanmean(found_N)) if (found_N >= 0).any() else 0.0

    def enter(self, installer: Installer) -> None:
        """Makes the installer's model this one."""
        installer.aim = self.aim
        installer.model.load_state(entries_of(installer.model, installer.original))
        installer.model.load_state(entries_of(installer.model, self.statistics))


def most_forwards(installer: Installer) -> int:
    """How many forwards a contest takes at most."""
    return 2 + (ROUNDS if knows_classes(installer) else 0)


def contest(
    installer: Installer,
    batches: Batches,
    engine: Engine,
    watched: Sequence[Scores],
    progress: Progress,
) -> Contestant:
    """The surest of several adapted models, each of which has watched the given scores.

    The model is left with the last of them. A mix of classes that explains the target on its own
    (`class_mix.explaining_aim`) leaves nothing to contend for.
    """
    total, plain = most_forwards(installer), installer.aim
    forwards = 0

    def adapted(aim: Aim) -> Contestant:
        nonlocal forwards
        installer.model.load_state(entries_of(installer.model, installer.original))
        installer.aim, scores = aim, Scores(watched)
        estimate = engine.estimate(installer, batches, scores, no_progress)
        scores.join(ranks_of(batches)[0])
        forwards += estimate.forwards
        progress(forwards, max(forwards, total))
        statistics = statistics_of(installer.model, estimate.installed)
        return Contestant(aim, estimate, scores, statistics, estimate.forwards)

    best = adapted(plain)
    if plain.share_K is None and best.scores.scorable:
        others, mixed = [adapted(Aim())], best
        for _ in range(ROUNDS if knows_classes(installer) else 0):
            mixed = adapted(mixed_aim(installer, predicted_mix(mixed.scores)))
        surest = max([*others, mixed], key=lambda one: one.surest)
        best = surest if surest.surest > best.surest + _SURER else best
    return replace(best, forwards=forwards)
