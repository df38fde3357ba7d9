"""Gates: a measure of a record held against a limit. Knows records; no torch, no file.

A gate that cannot be evaluated did not pass: it is told apart from one that failed.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import isnan

from adabn_cli.errors import UsageError
from adabn_cli.measures.effective_classes import effective_classes
from adabn_cli.record import GatePart, Record

_EXPRESSION = re.compile(r"\s*([a-z0-9_]+)\s*(?:([<>])\s*([-+0-9.eE]+)\s*(pp|%)?)?\s*")
_OPERATORS: dict[str, Callable[[float, float], bool]] = {">": operator.gt, "<": operator.lt}
_MIN_CLASS_IMAGES = 30


@dataclass(frozen=True)
class _Reading:
    """A measure's value and the n it rests on, or the reason why it has none."""

    value: float | None
    n: int | None
    reason: str | None = None


def _accuracy_drop(record: Record) -> _Reading:
    change = record.change
    if change.accuracy is None:
        return _Reading(None, None, "no labels")
    return _Reading(-change.accuracy, change.n)


def _accuracy_after(record: Record) -> _Reading:
    if record.after.accuracy is None:
        return _Reading(None, None, "no labels")
    return _Reading(record.after.accuracy, record.change.n)


def _class_drop(record: Record) -> _Reading:
    drops = [(c.before - c.after, c.n) for c in record.classes if c.n >= _MIN_CLASS_IMAGES]
    if not drops:
        return _Reading(None, None, f"no class with {_MIN_CLASS_IMAGES} labelled images")
    return _Reading(*max(drops))


def _kl_after(statistic: str) -> Callable[[Record], _Reading]:
    def read(record: Record) -> _Reading:
        if record.kl.after is None:
            return _Reading(None, None, "no live neuron")
        return _Reading(getattr(record.kl.after, statistic), record.target.images)

    return read


def _residual(record: Record) -> _Reading:
    if record.residual is None:
        return _Reading(None, None, "not measured: run with --verify")
    parts = (record.residual.max_mean, record.residual.max_log_variance)
    known = [part for part in parts if part is not None]
    return _Reading(max(known) if len(known) == len(parts) else None, record.target.images)


def _skipped_images(record: Record) -> _Reading:
    skipped = len(record.target.skipped)
    return _Reading(skipped, record.target.images + skipped)


def _collapse(record: Record) -> _Reading:
    """The share of the effective number of predicted classes that is lost, 0 to 1."""
    if record.after.n == 0:
        return _Reading(None, None, "the outputs are not scored")
    sides = (record.after.predicted_histogram, record.before.predicted_histogram)
    after, before = (max(effective_classes(histogram), 1.0) for histogram in sides)
    return _Reading(1 - after / before, record.after.n)


_MEASURES: dict[str, Callable[[Record], _Reading]] = {
    "accuracy_drop": _accuracy_drop,
    "accuracy_after": _accuracy_after,
    "class_drop": _class_drop,
    "kl_after_mean": _kl_after("mean"),
    "kl_after_median": _kl_after("median"),
    "kl_after_p95": _kl_after("p95"),
    "residual": _residual,
    "skipped_images": _skipped_images,
    "collapse": _collapse,
}
#: Measures that are a gate by their name alone, and the limit that is meant.
_ALONE = {"collapse": (">", 0.5)}


def check_gates(record: Record, expressions: Sequence[str]) -> tuple[GatePart, ...]:
    """Every gate with its value, limit, n and status.

    Raises UsageError for an expression that is none, naming the nearest measure.
    """
    return tuple(_check(record, expression) for expression in expressions)


def _check(record: Record, expression: str) -> GatePart:
    measure, sign, limit, share = _parsed(expression)
    reading = _MEASURES[measure](record)
    value = reading.value
    if value is None or isnan(value):
        reason = reading.reason or "the value is not a number"
        return GatePart(
            expression=expression,
            value=None,
            limit=limit,
            n=reading.n,
            status="cannot tell",
            reason=reason,
        )
    if share and measure == "skipped_images":
        value /= reading.n or 1
    failed = _OPERATORS[sign](value, limit)
    return GatePart(
        expression=expression,
        value=value,
        limit=limit,
        n=reading.n,
        status="failed" if failed else "passed",
    )


def _parsed(expression: str) -> tuple[str, str, float, bool]:
    """Measure, sign, limit, and whether the limit is in percent or points."""
    match = _EXPRESSION.fullmatch(expression)
    measure, sign, number, unit = match.groups() if match else ("", None, None, None)
    if measure not in _MEASURES:
        near = get_close_matches(measure or expression, _MEASURES, n=1)
        raise UsageError(
            f"--fail-on {expression} names no measure.",
            hint=f"Did you mean {near[0]}?" if near else f"Measures: {', '.join(_MEASURES)}.",
        )
    if sign is None:
        if measure not in _ALONE:
            raise UsageError(
                f"--fail-on {expression} lacks a limit.",
                hint=f"Write '{measure}>LIMIT' or '{measure}<LIMIT', in quotes.",
            )
        return measure, *_ALONE[measure], False
    try:
        limit = float(number or "")
    except ValueError as error:
        raise UsageError(
            f"--fail-on {expression}: {number} is not a number.", hint=f"Write {measure}{sign}0.5."
        ) from error
    return measure, sign, limit / 100 if unit else limit, bool(unit)


def exit_code(gates: Sequence[GatePart]) -> int:
    """1 where a gate failed, 4 where none failed but one cannot be told, 0 otherwise."""
    statuses = {gate.status for gate in gates}
    if "failed" in statuses:
        return 1
    return 4 if "cannot tell" in statuses else 0
