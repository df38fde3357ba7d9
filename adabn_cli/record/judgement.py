"""What a run comes to: the verdict, what is odd about the target, gates, the baseline."""

from __future__ import annotations

from typing import Literal

from adabn_cli.record.part import Part


class EstimatePart(Part):
    """What adapting is worth as far as it can be told without labels: an estimate, no measurement.

    `gain` is the accuracy that the adapted model is expected to have above the source model's, a
    fraction, by the probabilities of a third model, `teacher`, on `images` target images. The
    agreements are the shares of images on which source and adapted model say what the teacher says.
    `own`: the teacher is the adapted model itself, which cannot see harm.
    """

    teacher: Literal["matched", "auto"]
    own: bool = False
    images: int
    gain: float
    agreement_before: float
    agreement_after: float


class VerdictPart(Part):
    """Whether adapting helped, and what that rests on.

    "labels" are those of the pictures that were adapted to (transductive); held-out ones, where
    there are any, say more and come first. "profile" is an estimate without labels, `estimate`,
    which stands beside the labels too where there is a profile. `kept_source`: the run's model and
    pack hold the source's statistics, as adapting harms and --on-harm keep was asked for; all other
    figures are those of the adaptation that was tried.
    """

    outcome: Literal["help", "harm", "cannot tell"]
    basis: Literal["labels", "held-out labels", "profile", "none"]
    sentence: str
    estimate: EstimatePart | None = None
    kept_source: bool = False


class NoticePart(Part):
    """Something about the target that makes the figures less than they seem."""

    kind: Literal["single class", "few pictures", "near-duplicates", "collapse"]
    sentence: str


class GatePart(Part):
    """One gate: what was asked, what was found. `measure` is named as in the expression.

    `level`: a gate of --fail-on, or one of --warn-on that changes no exit code. Of a verdict the
    value is 1 where it is the one that was asked for and 0 where not, and there is no limit.
    """

    expression: str
    measure: str = ""
    operator: Literal[">", "<", "=="] | None = None
    level: Literal["fail", "warn"] = "fail"
    value: float | None
    limit: float | None
    n: int | None
    status: Literal["passed", "failed", "cannot tell"]
    reason: str | None = None


class BaselineChangePart(Part):
    """One measure now and in the baseline; a figure that one of them lacks is None."""

    measure: str
    baseline: float | None
    now: float | None


class BaselinePart(Part):
    """The earlier run that this one is held against.

    `differences` make the two hard to compare: there are no `changes` then unless it was asked for
    all the same. `varied` is what else differs and one compares for: weights, method.
    """

    path: str
    started: str
    changes: tuple[BaselineChangePart, ...]
    differences: tuple[str, ...] = ()
    varied: tuple[str, ...] = ()
