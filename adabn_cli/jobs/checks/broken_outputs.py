"""Outputs that are NaN or infinite, and a source model that is none: what can be told all the same.

A side with such outputs is no measurement: nothing helps or harms beside it.
"""

from __future__ import annotations

from collections.abc import Iterator

from adabn_cli.errors import IN_FLOAT32, CannotTellError
from adabn_cli.record import HeldOutPart, ModelPart, ScoresPart, SitePart, TaskPart

#: At this many nats and more the two hardly overlap: shifts of real pictures are 0.1 to 100.
_BEYOND_NATS = 1000.0


def not_finite_notes(scores: ScoresPart) -> tuple[str, ...]:
    """What is to be told of one scoring."""
    if not scores.not_finite:
        return ()
    return (
        f"The outputs of {_pictures(scores.not_finite, scores.n)} are NaN or infinite. They count "
        "as wrong.",
    )


def require_any_finite(scores: ScoresPart) -> None:
    """Raises CannotTellError where no outputs are finite."""
    if scores.not_finite and scores.not_finite == scores.n:
        raise CannotTellError(
            f"There is nothing to score: the outputs of {_pictures(scores.n, scores.n)} are NaN or "
            "infinite.",
            hint=f"Check --mean and --std. If it is of float16: {IN_FLOAT32}",
        )


def why_unmeasured(
    model: ModelPart, before: ScoresPart, after: ScoresPart, held_out: HeldOutPart | None
) -> str | None:
    """Why before and after cannot be held against each other, where that is so: a sentence."""
    if model.impossible_statistics:
        return "The source model stores statistics that no data gives: it is no measurement."
    found = [*_broken_sides(before, after, "")]
    if held_out is not None:
        found += _broken_sides(held_out.before, held_out.after, "held-out ")
    if not found:
        return None
    return f"NaN or infinite are the outputs of {', '.join(found)}: that is no measurement."


def _broken_sides(before: ScoresPart, after: ScoresPart, kind: str) -> Iterator[str]:
    for side, when in ((before, "before"), (after, "after")):
        if side.not_finite:
            yield f"{_pictures(side.not_finite, side.n, kind)} {when} adapting"


def without_before(task: TaskPart) -> TaskPart:
    """The same figures, of the adapted model alone."""
    return task.model_copy(
        update={
            "figures": tuple(
                part.model_copy(update={"before": None, "interval": None}) for part in task.figures
            ),
            "classes": tuple(part.model_copy(update={"before": None}) for part in task.classes),
        }
    )


def beyond_belief(sites: tuple[SitePart, ...]) -> str | None:
    """A warning where most sites see a KL that no other pictures explain."""
    kl = [part.kl_before for part in sites if part.kl_before is not None]
    beyond = [part for part in kl if part.mean is None or part.mean >= _BEYOND_NATS]
    if len(beyond) <= len(kl) / 2:
        return None
    return (
        f"KL before adapting is {_BEYOND_NATS:,.0f} nats or more at {len(beyond)} of {len(kl)} "
        "sites, beyond what other pictures make. Check the preprocessing, and that the statistics "
        "belong to these weights."
    )


def _pictures(some: int, n: int, kind: str = "") -> str:
    return f"{some:,} of {n:,} {kind}picture{'' if n == 1 else 's'}"
