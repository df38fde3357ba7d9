"""What adapting is worth without labels: the adapted model held against another, the teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from adabn_cli.adaptation.engines import Engine
from adabn_cli.adaptation.installer import Aim, Installer
from adabn_cli.jobs.adapt.class_mix import explaining_aim
from adabn_cli.jobs.adapt.contest import Contestant, contest, most_forwards
from adabn_cli.measures.scores import Scores
from adabn_cli.measures.verdict import FEWEST_IMAGES, GainEstimate, estimate_gain
from adabn_cli.model import Batches, Progress
from adabn_cli.moments import SiteMoments


@dataclass(frozen=True)
class Judgement:
    """What adapting is worth by the teacher; `own`: that is the adapted model itself."""

    estimate: GainEstimate
    teacher: Literal["matched", "auto"]
    own: bool


def forwards_to_come(installer: Installer) -> int:
    """How many forwards adapting and judging take at most, beside the one before."""
    adapt = most_forwards(installer) if installer.adaptation.method == "auto" else 1
    return adapt + (most_forwards(installer) if _is_judged_by_another(installer) else 0)


def _is_judged_by_another(installer: Installer) -> bool:
    """A model that was held against the profile is as good as any teacher there is."""
    known = installer.profile is not None and installer.images >= FEWEST_IMAGES
    return known and installer.adaptation.method == "adabn"


@dataclass(frozen=True)
class Sides:
    """Source and adapted model: what both say, and what the source model's sites showed."""

    scores_before: Scores
    sites_before: Mapping[str, SiteMoments]
    adapted: Contestant


def judge(
    installer: Installer, batches: Batches, engine: Engine, sides: Sides, progress: Progress
) -> Judgement | None:
    """Plain AdaBN is held against the winner of a contest, any other model against itself.

    The model comes out as it went in. None without a profile, or without class scores.
    """
    before, adapted = sides.scores_before, sides.adapted
    if installer.profile is None or not (before.scorable and adapted.scores.scorable):
        return None
    teacher = adapted
    if _is_judged_by_another(installer):
        plain = Aim(installer.profile.expected())
        installer.aim = explaining_aim(installer, plain, sides.sites_before, before) or plain
        teacher = contest(installer, batches, engine, [before, adapted.scores], progress)
        adapted.enter(installer)
    found = estimate_gain(teacher.scores, before, adapted.scores)
    if found is None:
        return None
    by_match = installer.adaptation.method == "matched"
    own = teacher.aim.name == adapted.aim.name
    return Judgement(found, "matched" if by_match else "auto", own)
