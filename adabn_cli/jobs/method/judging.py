"""What adapting is worth without labels: the adapted model compared with another, the teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from adabn_cli.adaptation.engines import Engine
from adabn_cli.adaptation.engines.passes import Passes
from adabn_cli.adaptation.installer import Aim, Installer
from adabn_cli.jobs.method.class_mix import explaining_aim
from adabn_cli.jobs.method.contest import Adapted, contest, most_forwards
from adabn_cli.jobs.method.observed import Observed
from adabn_cli.measures.estimates import FEWEST_IMAGES, GainEstimate, estimate_gain
from adabn_cli.model import Progress


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


def judge(
    before: Observed, one: Adapted, passes: Passes, engine: Engine, progress: Progress
) -> Judgement | None:
    """Plain AdaBN is compared with the winner of a contest, any other model with itself.

    The model comes out as it went in. None without a profile, or without class scores.
    """
    installer = one.installer
    if installer.profile is None or not (before.scores.scorable and one.scores.scorable):
        return None
    teacher = one
    if _is_judged_by_another(installer):
        plain = Aim(installer.profile.expected())
        aim = explaining_aim(installer, plain, before)
        watched = [before.scores, one.scores]
        teacher = contest(installer.aimed_at(aim), passes, engine, watched, progress)
        one.enter()
    found = estimate_gain(teacher.scores, before.scores, one.scores)
    if found is None:
        return None
    by_match = installer.adaptation.method == "matched"
    own = teacher.installer.aim.name == installer.aim.name
    return Judgement(found, "matched" if by_match else "auto", own)
