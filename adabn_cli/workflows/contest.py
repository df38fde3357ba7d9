"""The `auto` method: several matches to a profile, and the one the adapted model is surest with.

The profile's pictures have classes in other proportions than the target's, and a difference of
classes looks like a shift. So the target is also held against mixes of the profile's classes, whose
proportions are estimated from the predictions. K classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from adabn_cli.adaptation import Installer
from adabn_cli.batch import Batches, Progress, no_progress
from adabn_cli.engines import Engine
from adabn_cli.engines.estimate import Estimate
from adabn_cli.errors import UsageError
from adabn_cli.measures.scores import Scores
from adabn_cli.model import Place, entries_of, statistics_of

ROUNDS = 4
#: One match to the profile as it is, and two mixes with their rounds and a last adaptation.
FORWARDS = 1 + 2 * (ROUNDS + 1)

# So many pseudo-images of an even mix keep a class alive that a small target does not show.
_EVEN_IMAGES = 8.0


@dataclass(frozen=True)
class _Candidate:
    """One adapted model: how it was come by, what it says, and its statistics."""

    estimate: Estimate
    scores: Scores
    statistics: dict[Place, Tensor]
    surest: float


def require_classes(installer: Installer) -> None:
    """Raises UsageError where the profile has no moments by class to make mixes of."""
    profile = installer.profile
    if profile is None or not all(site.classes for site in profile.sites.values()):
        raise UsageError(
            "--method auto needs a profile that was made of labelled pictures, for a model of at "
            "most 20 classes.",
            hint="Make it with labels: adabn profile MODEL --source DIR (class folders), or use "
            "--method matched.",
        )


def contest(
    installer: Installer, batches: Batches, engine: Engine, before: Scores, progress: Progress
) -> tuple[Estimate, Scores]:
    """Adapts the installer's model by the surest of three matches, in about eleven forwards.

    `before` is what the source model says of the batches. The unadapted model takes no part: where
    it is confidently wrong it would win. Raises UsageError without moments by class.
    """
    require_classes(installer)
    done = 0

    def adapted() -> _Candidate:
        nonlocal done
        installer.model.load_state(entries_of(installer.model, installer.original))
        scores = Scores()
        estimate = engine.estimate(installer, batches, scores, no_progress)
        done += 1
        progress(done, FORWARDS)
        statistics = statistics_of(installer.model, estimate.installed)
        surest = float(np.nanmean(scores.confidence_N)) if scores.scorable else 0.0
        return _Candidate(estimate, scores, statistics, surest)

    candidates, plain = [adapted()], installer.expected
    if before.scorable and installer.profile is not None:
        K = before.n_classes
        predicted_K = before.probability_sum_K / before.probability_sum_K.sum()
        for start_K in (np.full(K, 1 / K), predicted_K):
            share_K = start_K
            for _ in range(ROUNDS):
                installer.expected = installer.profile.expected_mix(share_K)
                found = adapted().scores.probability_sum_K
                share_K = (found + _EVEN_IMAGES / K) / (found.sum() + _EVEN_IMAGES)
            installer.expected = installer.profile.expected_mix(share_K)
            candidates.append(adapted())
    installer.expected = plain
    best = max(candidates, key=lambda candidate: candidate.surest)
    installer.model.load_state(entries_of(installer.model, best.statistics))
    return replace(best.estimate, forwards=done), best.scores
