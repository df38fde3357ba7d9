"""The measures that a gate may ask of a record. Knows records; no expression, torch or file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import isnan
from typing import Literal

from adabn_cli.measures.counts import (
    Interval,
    difference_interval,
    effective_classes,
    paired_interval,
    rescaled_interval,
    wilson_interval,
)
from adabn_cli.record import (
    ChangePart,
    ClassPart,
    FigureName,
    HeldOutPart,
    Record,
    ScoresPart,
)

#: A class with fewer labelled images is no evidence, as in its McNemar test.
_MIN_CLASS_IMAGES = 30


@dataclass(frozen=True)
class Reading:
    """A measure's value and the n it rests on, or the reason why it has none.

    `interval` gives the value's interval at a confidence; None where counts do not tell it.
    """

    value: float | None
    n: int | None
    reason: str | None = None
    interval: Callable[[float], Interval] | None = None


@dataclass(frozen=True)
class Measure:
    """How a measure is read, and how its limits are written.

    "share": a fraction of 1 at most, or with % or pp. "ratio": the same, but may be above 1.
    "count": a number, or with % a share of n. "number": a number alone, in the measure's own unit.
    """

    read: Callable[[Record], Reading]
    unit: Literal["share", "ratio", "count", "number"]


_NO_LABELS, _NOT_SCORED = "no labels", "the outputs are not scored"
_NOT_FINITE = "no picture has finite outputs"


def why_no_accuracy(*sides: ScoresPart) -> str:
    """Why there is no accuracy on one of these sides."""
    if any(side.n and side.not_finite == side.n for side in sides):
        return _NOT_FINITE
    return _NOT_SCORED if any(side.n == 0 for side in sides) else _NO_LABELS


def _accuracy(scores: ScoresPart, change: ChangePart) -> Reading:
    if scores.accuracy is None:
        return Reading(None, None, why_no_accuracy(scores))
    n = scores.labeled or change.n  # A record of before `labeled` has the n in its change alone.
    interval = partial(wilson_interval, scores.correct, n) if scores.correct is not None else None
    return Reading(scores.accuracy, n, interval=interval)


def _drop(part: Record | HeldOutPart) -> Reading:
    change = part.change
    if change.accuracy is None:
        return Reading(None, None, why_no_accuracy(part.before, part.after))
    if change.fixed is None or change.broken is None:
        return Reading(-change.accuracy, change.n)
    interval = partial(paired_interval, change.broken, change.fixed, change.n)
    return Reading(-change.accuracy, change.n, interval=interval)


def _held_out(read: Callable[[HeldOutPart], Reading]) -> Callable[[Record], Reading]:
    def read_record(record: Record) -> Reading:
        if record.held_out is None:
            return Reading(None, None, "no held-out pictures: run with --eval")
        return read(record.held_out)

    return read_record


def _figure(
    name: FigureName, side: Literal["before", "after", "drop", "rise"]
) -> Callable[[Record], Reading]:
    """A figure of a task, or how much worse it has become."""

    def read(record: Record) -> Reading:
        task = record.task
        found = {part.name: part for part in task.figures} if task else {}
        part = found.get(name)
        if task is None or part is None or part.before is None or part.after is None:
            return Reading(None, None, f"no {name}: it takes masks, labels or numbers")
        if side in ("before", "after"):
            return Reading(part.before if side == "before" else part.after, task.n)
        sign, interval = (-1 if side == "drop" else 1), part.interval
        value = sign * (part.after - part.before)
        if interval is None:
            return Reading(value, task.n)
        low, high = sorted(sign * bound for bound in interval)
        return Reading(value, task.n, interval=partial(rescaled_interval, value, (low, high)))

    return read


def _class_drop(record: Record) -> Reading:
    """The largest drop of a class; the interval holds for all classes at once (Bonferroni)."""
    classes = [part for part in record.classes if part.n >= _MIN_CLASS_IMAGES]
    if not classes:
        return Reading(None, None, f"no class with {_MIN_CLASS_IMAGES} labelled images")
    worst = max(classes, key=lambda part: part.before - part.after)

    def interval(confidence: float) -> Interval:
        each = 1 - (1 - confidence) / len(classes)
        lows, highs = zip(*(_drop_interval(part, each) for part in classes), strict=True)
        return max(lows), max(highs)

    return Reading(worst.before - worst.after, worst.n, interval=interval)


def _drop_interval(part: ClassPart, confidence: float) -> Interval:
    return paired_interval(part.broken, part.fixed, part.n, confidence)


def _estimated_gain(record: Record) -> Reading:
    estimate = record.verdict.estimate
    if estimate is None:
        return Reading(None, None, "no estimate: adapt with a source profile")
    return Reading(estimate.gain, estimate.images)


def _ece(record: Record) -> Reading:
    calibration = record.after.calibration
    if calibration is None:
        return Reading(None, None, "no labels to calibrate against, or a run before there was ECE")
    return Reading(calibration.error, sum(calibration.counts))


def _score(field: Literal["confidence_mean", "entropy_mean"]) -> Callable[[Record], Reading]:
    def read(record: Record) -> Reading:
        value = getattr(record.after, field)
        return Reading(value, record.after.n, None if value is not None else _NOT_SCORED)

    return read


def _agreement(record: Record) -> Reading:
    value = record.change.agreement
    return Reading(value, record.after.n, None if value is not None else _NOT_SCORED)


def _collapse(record: Record) -> Reading:
    """The share of the effective number of predicted classes that is lost."""
    if not (sum(record.after.predicted_histogram) and sum(record.before.predicted_histogram)):
        why = why_no_accuracy(record.before, record.after)
        return Reading(None, None, _NOT_SCORED if why == _NO_LABELS else why)
    sides = (record.after.predicted_histogram, record.before.predicted_histogram)
    after, before = (max(effective_classes(histogram), 1.0) for histogram in sides)
    return Reading(1 - after / before, record.after.n)


def _kl(
    side: Literal["before", "after"], statistic: Literal["mean", "median", "p95"]
) -> Callable[[Record], Reading]:
    def read(record: Record) -> Reading:
        part = getattr(record.kl, side)
        if part is None:
            return Reading(None, None, "no live neuron with a source to compare")
        return Reading(getattr(part, statistic), record.target.images)

    return read


def _residual(record: Record) -> Reading:
    if record.residual is None:
        return Reading(None, None, "not measured: run with --verify")
    parts = (record.residual.max_mean, record.residual.max_log_variance)
    known = [part for part in parts if part is not None]
    return Reading(max(known) if len(known) == len(parts) else None, record.target.images)


def _skipped_images(record: Record) -> Reading:
    skipped = len(record.target.skipped)
    return Reading(skipped, record.target.images + skipped)


def _images(record: Record) -> Reading:
    return Reading(record.target.images, record.target.images)


MEASURES: dict[str, Measure] = {
    "accuracy_before": Measure(lambda r: _accuracy(r.before, r.change), "share"),
    "accuracy_after": Measure(lambda r: _accuracy(r.after, r.change), "share"),
    "accuracy_drop": Measure(_drop, "share"),
    "held_out_accuracy_after": Measure(_held_out(lambda h: _accuracy(h.after, h.change)), "share"),
    "held_out_accuracy_drop": Measure(_held_out(_drop), "share"),
    "class_drop": Measure(_class_drop, "share"),
    "mean_iou_before": Measure(_figure("mean IoU", "before"), "share"),
    "mean_iou_after": Measure(_figure("mean IoU", "after"), "share"),
    "mean_iou_drop": Measure(_figure("mean IoU", "drop"), "share"),
    "pixel_accuracy_after": Measure(_figure("pixel accuracy", "after"), "share"),
    "pixel_accuracy_drop": Measure(_figure("pixel accuracy", "drop"), "share"),
    "mean_average_precision_after": Measure(_figure("mean average precision", "after"), "share"),
    "mean_average_precision_drop": Measure(_figure("mean average precision", "drop"), "share"),
    "mean_absolute_error_after": Measure(_figure("mean absolute error", "after"), "number"),
    "mean_absolute_error_rise": Measure(_figure("mean absolute error", "rise"), "number"),
    "estimated_gain": Measure(_estimated_gain, "share"),
    "ece_after": Measure(_ece, "share"),
    "confidence_mean_after": Measure(_score("confidence_mean"), "share"),
    "entropy_mean_after": Measure(_score("entropy_mean"), "number"),
    "agreement": Measure(_agreement, "share"),
    "collapse": Measure(_collapse, "ratio"),
    "kl_before_mean": Measure(_kl("before", "mean"), "number"),
    "kl_before_median": Measure(_kl("before", "median"), "number"),
    "kl_before_p95": Measure(_kl("before", "p95"), "number"),
    "kl_after_mean": Measure(_kl("after", "mean"), "number"),
    "kl_after_median": Measure(_kl("after", "median"), "number"),
    "kl_after_p95": Measure(_kl("after", "p95"), "number"),
    "residual": Measure(_residual, "number"),
    "skipped_images": Measure(_skipped_images, "count"),
    "images": Measure(_images, "number"),
}


def reading(measure: str, record: Record, *, as_share: bool = False) -> Reading:
    """What the record says of a measure; `as_share`: a count as its share of n."""
    read = MEASURES[measure].read(record)
    if read.value is None:
        return read if read.reason else Reading(None, read.n, "the value is not a number")
    if isnan(read.value):
        return Reading(None, read.n, "the value is not a number")
    if as_share and MEASURES[measure].unit == "count":
        return Reading(read.value / (read.n or 1), read.n)
    return read


def change_reading(now: Reading, baseline: Reading) -> Reading:
    """The value now less that of the baseline; n is that of now."""
    if now.value is None:
        return now
    if baseline.value is None:
        return Reading(None, now.n, f"the baseline has none: {baseline.reason}")
    a, b, of_a, of_b = now.value, baseline.value, now.interval, baseline.interval
    if of_a is None or of_b is None:
        return Reading(a - b, now.n)
    return Reading(
        a - b,
        now.n,
        interval=lambda confidence: difference_interval(a, of_a(confidence), b, of_b(confidence)),
    )
