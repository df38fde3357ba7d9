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
from adabn_cli.adaptation.engines.passes import Estimate, Passes
from adabn_cli.adaptation.installer import Aim, Installer
from adabn_cli.jobs.method.class_mix import knows_classes, mixed_aim, predicted_mix
from adabn_cli.measures.scores import Scores
from adabn_cli.model import Place, Progress, entries_of, no_progress, statistics_of

ROUNDS = 4

# Another aim has to be surer than the profile by that much: mean confidences that differ by less
# say nothing, and the profile alone cost less (docs/shifts.md).
_SURER = 0.02


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """One adapted model: what installed it, what it says, and its statistics.

    `forwards` is what it took to have it, its rivals' forwards included.
    """

    installer: Installer
    estimate: Estimate
    scores: Scores
    statistics: dict[Place, Tensor]
    forwards: int

    @property
    def surest(self) -> float:
        """The mean of the largest probability over the target."""
        found_N = self.scores.confidence_N
        return float(np.nanmean(found_N)) if (found_N >= 0).any() else 0.0

    def enter(self) -> None:
        """Makes the model this one."""
        self.installer.undo()
        model = self.installer.model
        model.load_state(entries_of(model, self.statistics))


def adapted(
    installer: Installer,
    passes: Passes,
    engine: Engine,
    watched: Sequence[Scores],
    progress: Progress,
) -> Adapted:
    """The installer's model adapted to its aim; its scores have watched the given ones."""
    scores = Scores(watched)
    estimate = engine.estimate(installer, passes, scores, progress)
    scores.join(passes.ranks)
    return Adapted(
        installer=installer,
        estimate=estimate,
        scores=scores,
        statistics=statistics_of(installer.model, estimate.installed),
        forwards=estimate.forwards,
    )


def most_forwards(installer: Installer) -> int:
    """How many forwards a contest takes at most."""
    return 2 + (ROUNDS if knows_classes(installer) else 0)


def contest(
    installer: Installer,
    passes: Passes,
    engine: Engine,
    watched: Sequence[Scores],
    progress: Progress,
) -> Adapted:
    """The surest of several adapted models, each of which has watched the given scores.

    The model is left as the surest. A mix of classes that explains the target on its own
    (`class_mix.explaining_aim`) leaves nothing to contend for.
    """
    total, forwards = most_forwards(installer), 0

    def entered(aim: Aim) -> Adapted:
        nonlocal forwards
        installer.undo()
        one = adapted(installer.aimed_at(aim), passes, engine, watched, no_progress)
        forwards += one.forwards
        progress(forwards, max(forwards, total))
        return one

    best = entered(installer.aim)
    if installer.aim.share_K is None and best.scores.scorable:
        others, mixed = [entered(Aim())], best
        for _ in range(ROUNDS if knows_classes(installer) else 0):
            mixed = entered(mixed_aim(installer, predicted_mix(mixed.scores)))
        surest = max([*others, mixed], key=lambda one: one.surest)
        best = surest if surest.surest > best.surest + _SURER else best
    best.enter()
    return replace(best, forwards=forwards)
