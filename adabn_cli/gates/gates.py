"""Gates: measures of a record held against limits. Knows records; no torch.

A gate that cannot be evaluated did not pass: it is told apart from one that failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from adabn_cli.errors import UsageError
from adabn_cli.gates.baseline import NOT_ASKED, Baseline, hold_against
from adabn_cli.gates.expressions import COMPARED, Expression, parse_gate
from adabn_cli.gates.measures import Reading, change_reading, reading
from adabn_cli.record import GatePart, Record, VerdictPart

Level = Literal["fail", "warn"]

#: What no output of the model goes into.
_COUNTED = ("baseline", "images", "skipped_images")
_ONE_DRAW = "the model is random in eval mode: another run gives another value"


@dataclass(frozen=True, kw_only=True)
class GateRequest:
    """What a run is held to; see the options of those names."""

    fail_on: tuple[str, ...] = ()
    warn_on: tuple[str, ...] = ()
    confidence: float | None = None
    baseline: str | None = None
    allow_different: bool = False
    allow_close_verdict: bool = False


def judged(record: Record, request: GateRequest) -> Record:
    """The record with its gates and, where one is asked for, what changed since the baseline.

    A baseline is a gate of its own, which cannot be told where there is none to compare with.
    Raises UsageError for an expression that is none, and InputError for a baseline that is no run.
    """
    levels: dict[Level, Sequence[str]] = {"fail": request.fail_on, "warn": request.warn_on}
    asked = [
        (parse_gate(text, f"--{level}-on"), level)
        for level, texts in levels.items()
        for text in texts
    ]
    _require_confidence(request.confidence)
    baseline, gates = NOT_ASKED, []
    if request.baseline is not None:
        allow = request.allow_different
        baseline = hold_against(record, request.baseline, allow_different=allow)
        gates.append(_baseline_gate(baseline))
    gates += [_gate(asked_for, level, record, baseline, request) for asked_for, level in asked]
    if record.model.random:
        gates = [_of_one_draw(gate) for gate in gates]
    return record.model_copy(update={"gates": tuple(gates), "baseline": baseline.part})


def _of_one_draw(gate: GatePart) -> GatePart:
    """The gate with the word that its model is random, where it rests on what the model gives."""
    if gate.measure in _COUNTED:
        return gate
    reasons = [reason for reason in (gate.reason, _ONE_DRAW) if reason]
    return gate.model_copy(update={"reason": "; ".join(reasons)})


def _require_confidence(confidence: float | None) -> None:
    if confidence is not None and not 0 < confidence < 1:
        raise UsageError(
            f"--confidence {confidence:g} is not between 0 and 1.", hint="Write --confidence 0.95."
        )


def _baseline_gate(baseline: Baseline) -> GatePart:
    return GatePart(
        expression="baseline",
        measure="baseline",
        value=None,
        limit=None,
        n=baseline.record.target.images if baseline.record else None,
        status="passed" if baseline.record else "cannot tell",
        reason=baseline.reason,
    )


def _gate(
    asked: Expression, level: Level, record: Record, baseline: Baseline, request: GateRequest
) -> GatePart:
    if asked.limit is None:
        return _verdict_gate(asked, level, record, allow_close=request.allow_close_verdict)
    found = _found(asked, record, baseline)
    status, reason = _held(found, asked, request.confidence)
    return GatePart(
        expression=asked.text,
        measure=asked.name,
        operator=asked.operator,
        level=level,
        value=found.value,
        limit=asked.limit,
        n=found.n,
        status=status,
        reason=reason,
    )


def _found(asked: Expression, record: Record, baseline: Baseline) -> Reading:
    now = reading(asked.measure, record, as_share=asked.as_share)
    if not asked.change:
        return now
    if baseline.record is None:
        return Reading(None, now.n, baseline.reason)
    before = reading(asked.measure, baseline.record, as_share=asked.as_share)
    return change_reading(now, before)


def _held(
    found: Reading, asked: Expression, confidence: float | None
) -> tuple[Literal["passed", "failed", "cannot tell"], str | None]:
    """The status of a reading, and what there is to say of it.

    With a confidence it fails only where the whole interval is beyond the limit. A measure that
    has no interval is held by its value.
    """
    if found.value is None or asked.limit is None:
        return "cannot tell", found.reason
    beyond = COMPARED[asked.operator]
    failed = beyond(found.value, asked.limit)
    if not failed or confidence is None or found.interval is None:
        return ("failed" if failed else "passed"), None
    low, high = found.interval(confidence)
    told = f"{100 * confidence:g}% interval {low:.3g} to {high:.3g}"
    if beyond(low, asked.limit) and beyond(high, asked.limit):
        return "failed", told
    return "passed", f"beyond the limit, but not surely: {told}"


def _verdict_gate(
    asked: Expression, level: Level, record: Record, *, allow_close: bool
) -> GatePart:
    """Fails where the verdict is the one that is asked for; the value is 1 there and 0 otherwise.

    A verdict of "cannot tell" rules neither help nor harm out: such a gate cannot be told. One that
    was evaluated and found too close passes with `allow_close`, and says so.
    """
    outcome, basis = record.verdict.outcome, record.verdict.basis
    held = outcome == asked.outcome
    undecided = outcome == "cannot tell" and not held
    close = undecided and allow_close and _is_close(record.verdict)
    unknown = undecided and not close
    return GatePart(
        expression=asked.text,
        measure=asked.name,
        operator=asked.operator,
        level=level,
        value=None if unknown else float(held),
        limit=None,
        n=_verdict_n(record),
        status="cannot tell" if unknown else "failed" if held else "passed",
        reason=_ALLOWED
        if close
        else f"the verdict is: {outcome}, by {basis}"
        if basis != "none"
        else _why_untold(record),
    )


_ALLOWED = "the verdict is too close to tell, which --allow-close-verdict lets pass"


def _is_close(verdict: VerdictPart) -> bool:
    """Whether it was evaluated and found too close, not kept from being told."""
    return verdict.basis != "none" and verdict.sentence.startswith("Too close to tell")


def _why_untold(record: Record) -> str:
    """Why a verdict rests on nothing."""
    if record.model.impossible_statistics or record.before.not_finite or record.after.not_finite:
        return record.verdict.sentence
    return "no labels"


def _verdict_n(record: Record) -> int | None:
    basis, estimate = record.verdict.basis, record.verdict.estimate
    if basis == "held-out labels" and record.held_out is not None:
        return record.held_out.change.n
    if basis == "profile" and estimate is not None:
        return estimate.images
    return record.change.n if basis == "labels" else None


def exit_code(gates: Sequence[GatePart], *, allow_inconclusive: bool = False) -> int:
    """1 where a gate failed, 4 where none failed but one cannot be told, 0 otherwise.

    Gates of --warn-on do not count; with `allow_inconclusive` neither do those not to be told.
    """
    statuses = {gate.status for gate in gates if gate.level == "fail"}
    if "failed" in statuses:
        return 1
    return 4 if "cannot tell" in statuses and not allow_inconclusive else 0
