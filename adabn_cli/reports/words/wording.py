"""What is said of a record in words, the same on a page, in a comment and in a pipeline.

Knows no markup: names come out as they are, and whoever renders them escapes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from adabn_cli.record import (
    ChangePart,
    GatePart,
    Record,
    ResidualPart,
    SampleSizePart,
    ScoresPart,
    SitePart,
)
from adabn_cli.reports.words.figures import count, number, p_value, percent, points, points_interval

TRANSDUCTIVE = (
    "Scored on the pictures that were adapted to (transductive). "
    "The statistics saw these pictures; the labels were used for scoring alone."
)
KEPT_SOURCE = (
    "The source model was kept: adapting harms it, and --on-harm keep was asked for. The run's "
    "model and pack hold the source's statistics. All figures here are those of the adaptation "
    "that was tried."
)
SIGNALS = (
    "Signals, not accuracy: a model can be sure and wrong. Mutual information is that of picture "
    "and predicted class; effective classes are how many, predicted equally often, would be as "
    "diverse as what was predicted."
)
CALIBRATION = (
    "How often the model is right among the pictures of which it is so sure. The expected "
    "calibration error is the mean gap between the two, by number of pictures."
)
FIRST_SITE = (
    "KL is symmetric, in nats, between source and target at a neuron's input. After adapting it "
    "is the shift that earlier layers still pass on: the first site's stays as it was, because "
    "nothing before it has changed."
)


@dataclass(frozen=True)
class Comparison:
    """The same pictures scored before and after.

    `name` says in a word which pictures, `where` in a phrase.
    """

    name: str
    where: str
    before: ScoresPart
    after: ScoresPart
    change: ChangePart


def comparisons(record: Record) -> list[Comparison]:
    """All that was scored against labels: the target, then the held-out pictures."""
    found = [Comparison("target", "on the target", record.before, record.after, record.change)]
    held_out = record.held_out
    if held_out is not None:
        sides = (held_out.before, held_out.after)
        found.append(Comparison("held out", "on held-out pictures", *sides, held_out.change))
    return [one for one in found if one.change.accuracy is not None]


def paired(change: ChangePart) -> str:
    """What the pictures that changed sides say about a difference in accuracy."""
    return (
        f"{count(change.fixed or 0, 'picture')} fixed, {change.broken or 0:,} broken "
        f"of {change.n:,} (McNemar {p_value(change.mcnemar_p)}); "
        f"paired 95% interval {points_interval(change.interval)}"
    )


def left_out(sites: Iterable[SitePart]) -> list[tuple[str, list[str]]]:
    """Why sites were not adapted, and which: a pair a reason."""
    by_reason: dict[str, list[str]] = {}
    for site in sites:
        if site.reason:
            by_reason.setdefault(site.reason, []).append(site.name)
    return list(by_reason.items())


def residual(part: ResidualPart) -> str:
    """How far the installed statistics are from what the adapted model sees."""
    return (
        f"means off by {number(part.max_mean, 2)} standard deviations, "
        f"log variances by {number(part.max_log_variance, 2)}, worst at {part.site}"
    )


def gate_status(gate: GatePart) -> str:
    """A gate's status, as a warning where it is one that changes no exit code."""
    warns = gate.level == "warn" and gate.status != "passed"
    return f"warning, {gate.status}" if warns else gate.status


def gate_told(gate: GatePart) -> str:
    """A gate's status, reason, value, limit and n in one sentence, as far as there are any."""
    figures = []
    if gate.value is not None and gate.operator != "==":
        figures.append(f"value {number(gate.value)}")
    if gate.limit is not None:
        figures.append(f"limit {number(gate.limit)}")
    if gate.n is not None:
        figures.append(f"n = {gate.n:,}")
    told = ", ".join(figures)
    if gate.reason:
        told = f"{gate.reason} ({told})" if told else gate.reason
    return f"{gate_status(gate)}: {told}" if told else gate_status(gate)


def gates_told(gates: Sequence[GatePart]) -> str:
    """How many gates failed, cannot be told, passed and warn; "" without any."""
    warnings = sum(gate_status(gate).startswith("warning") for gate in gates)
    statuses = [gate_status(gate) for gate in gates]
    parts = [
        f"{statuses.count(status)} {status}"
        for status in ("failed", "cannot tell", "passed")
        if status in statuses
    ]
    return ", ".join([*parts, *([count(warnings, "warning")] if warnings else [])])


def estimate_told(record: Record) -> str:
    """What the estimate by the source profile is, or rests on where the verdict has told it.

    Empty where nothing was estimated.
    """
    part = record.verdict.estimate
    if part is None:
        return ""
    used = record.method.profile
    profile = f"a profile of {count(used.images, 'source picture')}" if used else "a source profile"
    if record.verdict.basis == "profile":
        return f"The estimate rests on {profile}; it is no measurement."
    own = " It rests on the adapted model itself, which cannot see harm." if part.own else ""
    return (
        f"Estimated without labels, by {profile}: {points_told(part.gain)}; an estimate, no "
        f"measurement.{own}"
    )


def estimate_rests_on(record: Record) -> str:
    """How far source and adapted model agree with the model that judges them, if it is another."""
    part = record.verdict.estimate
    if part is None or part.own:
        return ""
    return (
        f"On {count(part.images, 'picture')} the source model says what the model matched to the "
        f"profile says in {percent(part.agreement_before)}, the adapted one in "
        f"{percent(part.agreement_after)}."
    )


def points_told(difference: float) -> str:
    """A difference of fractions as "+5.8 points"."""
    return points(difference).replace(" pp", " points")


@dataclass(frozen=True)
class Signal:
    """A figure of the predictions that takes no labels, before and after."""

    name: str
    before: float | None
    after: float | None

    @property
    def change(self) -> float | None:
        """After less before; None where one of them is not known."""
        if self.before is None or self.after is None:
            return None
        return self.after - self.before

    @property
    def change_told(self) -> str:
        """The change with its sign; empty where it is not known."""
        return "" if self.change is None else f"{self.change:+.3g}"


_SIGNALS = {
    "mean confidence": "confidence_mean",
    "mean entropy, nats": "entropy_mean",
    "mutual information, nats": "mutual_information",
    "effective classes": "effective_classes",
}


def signals(record: Record) -> list[Signal]:
    """Confidence, entropy, mutual information and diversity, those that the record holds."""
    sides = (record.before, record.after)
    found = [Signal(name, *(getattr(x, field) for x in sides)) for name, field in _SIGNALS.items()]
    return [one for one in found if one.before is not None or one.after is not None]


def estimated_shares(record: Record) -> list[Signal]:
    """The share of pictures that is right, as it follows from confidences by a profile."""
    before, after = record.before.estimated_accuracy, record.after.estimated_accuracy
    if before is None or after is None:
        return []
    return [
        Signal("share right, estimated by ATC", before.atc, after.atc),
        Signal("share right, estimated by DoC", before.doc, after.doc),
    ]


def estimated_shares_told(record: Record) -> str:
    """What the estimated shares rest on; empty without them."""
    part = record.after.estimated_accuracy
    if part is None:
        return ""
    return (
        "ATC (average thresholded confidence) and DoC (difference of confidences) follow from "
        f"confidences on {count(part.source_images, 'labelled source picture')} of the profile: "
        "estimates, no measurements."
    )


def signals_sentence(record: Record) -> str:
    """One sentence on all that the predictions say without labels, and how little that is.

    Empty where nothing was scored.
    """
    both = [one for one in signals(record) if one.before is not None and one.after is not None]
    known = {one.name: one for one in both}
    parts = []
    if confidence := known.get("mean confidence"):
        parts.append(_moved("mean confidence", confidence, percent))
    if information := known.get("mutual information, nats"):
        parts.append(_moved("mutual information", information, number) + " nats")
    if classes := known.get("effective classes"):
        parts.append(_moved("the number of effective classes", classes, number))
    if record.change.agreement is not None:
        parts.append(f"{percent(record.change.agreement)} of the predictions stayed the same")
    if not parts:
        return ""
    listed = ", ".join(parts[:-1]) + (" and " if parts[:-1] else "") + parts[-1]
    return f"Signals without labels: {listed}; {_worth(record)}."


def _worth(record: Record) -> str:
    if record.task is not None and record.task.truth is not None:
        return "they are no measurement, and the truth tells which model is right"
    if comparisons(record):
        return "they are no measurement, and the labels tell which model is right"
    if record.verdict.estimate is not None:
        return "they are no measurement, and the estimate by the source profile says more"
    return "without a source profile they say little about which model is right (low confidence)"


def _moved(name: str, one: Signal, written: Callable[[float | None], str]) -> str:
    """ "mean confidence rose from 86.8% to 91.3%"."""
    before, after = written(one.before), written(one.after)
    if before == after:
        return f"{name} stayed at {after}"
    verb = "rose" if (one.change or 0) > 0 else "fell"
    return f"{name} {verb} from {before} to {after}"


def sample_size_told(part: SampleSizePart, images: int) -> str:
    """Whether the pictures are enough to know every site's means."""
    tolerance = f"{number(part.tolerance)} standard deviations"
    if part.rounds:
        return _search_told(part)
    if part.enough <= images:
        return (
            f"Enough pictures: from {part.enough:,} of {images:,} on, all means are known within "
            f"{tolerance} (worst at {part.site})."
        )
    return (
        f"Too few pictures: {images:,}, and it takes about {part.enough:,} to know all means "
        f"within {tolerance} (worst at {part.site})."
    )


def _search_told(part: SampleSizePart) -> str:
    """What a search for the number of pictures came to, and every round's error."""
    *earlier, last = part.rounds
    more, error = part.enough - last.images, f"{number(last.error)} standard deviations"
    told = f"the worst site, {part.site}, is at {error}"
    tolerance, pictures = number(part.tolerance), count(last.images, "picture")
    before = ", ".join(f"{number(one.error)} with {one.images:,}" for one in earlier)
    rounds = f"; before, {before}" if earlier else ""
    if more <= 0:
        return f"Enough pictures: {told}, under {tolerance}, with {pictures}{rounds}."
    return (
        f"Too few pictures: {told}, over {tolerance}, with {pictures}{rounds}. "
        f"About {more:,} more are needed."
    )


def warned(record: Record) -> list[str]:
    """All warnings, that of a trusted pickle too."""
    trusted = ["The checkpoint was loaded as a trusted pickle."] * record.model.trusted_pickle
    return [*trusted, *record.warnings]
