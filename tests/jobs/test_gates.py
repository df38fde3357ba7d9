"""Every measure passing, failing and not to be told; expressions that are none; confidence."""

from __future__ import annotations

import re

import pytest

from adabn_cli.errors import UsageError
from adabn_cli.gates.gates import GateRequest, exit_code, judged
from adabn_cli.gates.measures import MEASURES
from adabn_cli.measures.counts import difference_interval, paired_interval, wilson_interval
from adabn_cli.record import (
    CalibrationPart,
    ChangePart,
    DivergencesPart,
    EstimatePart,
    FigurePart,
    HeldOutPart,
    Record,
    ResidualPart,
    ScoresPart,
    SkippedPicture,
    TaskPart,
    VerdictPart,
)

_NO_LABELS = {"before": ScoresPart(), "after": ScoresPart(), "change": ChangePart(), "classes": ()}
_NO_KL = {"kl": DivergencesPart(before=None, after=None)}
_CASES = [
    ("accuracy_before<0.1", "accuracy_before<50%", _NO_LABELS),
    ("accuracy_after<0.80", "accuracy_after<99%", _NO_LABELS),
    ("accuracy_drop>0.5pp", "accuracy_drop>-50pp", _NO_LABELS),
    ("held_out_accuracy_after<0.8", "held_out_accuracy_after<.99", {"held_out": None}),
    ("held_out_accuracy_drop>0pp", "held_out_accuracy_drop>-99pp", {"held_out": None}),
    ("class_drop>5pp", "class_drop>-1pp", _NO_LABELS),
    ("mean_iou_before<0.1", "mean_iou_before<0.9", {"task": None}),
    ("mean_iou_after<0.1", "mean_iou_after<0.9", {"task": None}),
    ("mean_iou_drop>1pp", "mean_iou_drop>-50pp", {"task": None}),
    ("pixel_accuracy_after<10%", "pixel_accuracy_after<99%", {"task": None}),
    ("pixel_accuracy_drop>1pp", "pixel_accuracy_drop>-50pp", {"task": None}),
    ("mean_average_precision_after<0.1", "mean_average_precision_after<0.9", {"task": None}),
    ("mean_average_precision_drop>1pp", "mean_average_precision_drop>-50pp", {"task": None}),
    ("mean_absolute_error_after>9", "mean_absolute_error_after>0.1", {"task": None}),
    ("mean_absolute_error_rise>1", "mean_absolute_error_rise>-1", {"task": None}),
    ("estimated_gain<0pp", "estimated_gain<50pp", {"verdict": None}),
    ("ece_after>10%", "ece_after>1%", _NO_LABELS),
    ("confidence_mean_after<0.5", "confidence_mean_after>0.5", {"after": ScoresPart()}),
    ("entropy_mean_after>1", "entropy_mean_after>0.1", {"after": ScoresPart()}),
    ("agreement<10%", "agreement<0.9", {"change": ChangePart()}),
    ("collapse", "collapse>-5", {"after": ScoresPart()}),
    ("kl_before_mean>2", "kl_before_mean>0.1", _NO_KL),
    ("kl_before_median>2", "kl_before_median>0.1", _NO_KL),
    ("kl_before_p95>9", "kl_before_p95>0.1", _NO_KL),
    ("kl_after_mean>2", "kl_after_mean>0.1", _NO_KL),
    ("kl_after_median>2", "kl_after_median>.1", _NO_KL),
    ("kl_after_p95>2e1", "kl_after_p95>1e-2", _NO_KL),
    ("residual>1e-3", "residual<1", {"residual": None}),
    ("skipped_images>1%", "skipped_images>0.1%", None),
    ("skipped_images>3", "skipped_images > 2", None),
    ("images<64", "images>64", None),
]


def whole(record: Record) -> Record:
    """The record with all that a gate may ask for."""
    skipped = tuple(SkippedPicture(path=f"{n}.png", reason="cut off") for n in range(3))
    calibration = CalibrationPart(
        error=0.05, counts=(1797,), correct=(1520,), confidence_sums=(1610.0,)
    )
    estimate = EstimatePart(
        teacher="matched", images=1797, gain=0.3, agreement_before=0.4, agreement_after=0.8
    )
    held_out = HeldOutPart(
        path="held_out",
        images=record.target.images,
        before=record.before,
        after=record.after,
        change=record.change,
    )
    shares = ("mean IoU", "pixel accuracy", "mean average precision")
    figures = [
        FigurePart(name=name, unit="share", before=0.5, after=0.7, interval=(0.15, 0.25))
        for name in shares
    ]
    error = FigurePart(
        name="mean absolute error", unit="error", before=0.7, after=0.5, interval=(-0.25, -0.15)
    )
    # No model has all of these; gates go by their names.
    task = TaskPart(task="segmentation", truth="masks", n=1797, figures=(*figures, error))
    return record.model_copy(
        update={
            "task": task,
            "after": record.after.model_copy(update={"calibration": calibration}),
            "verdict": record.verdict.model_copy(update={"estimate": estimate}),
            "held_out": held_out,
            "residual": ResidualPart(max_mean=1e-8, max_log_variance=1e-7, site="1"),
            "target": record.target.model_copy(update={"skipped": skipped}),
        }
    )


def gates(record, *fail_on, **asked):
    return judged(record, GateRequest(fail_on=fail_on, **asked)).gates


def test_every_measure_is_among_the_cases():
    assert {re.match(r"\w+", case[0])[0] for case in _CASES} == set(MEASURES)


@pytest.mark.parametrize(("passing", "failing", "without"), _CASES)
def test_each_measure_passes_fails_or_cannot_be_told(record, passing, failing, without):
    record = whole(record)
    found = gates(record, passing, failing)
    assert [gate.status for gate in found] == ["passed", "failed"]
    assert all(gate.value is not None and gate.n for gate in found)
    assert {(gate.measure in MEASURES, gate.level, gate.reason) for gate in found} == {
        (True, "fail", None)
    }
    assert all(gate.operator in gate.expression for gate in found if gate.expression != "collapse")
    if without is not None:
        bare = VerdictPart(outcome="cannot tell", basis="none", sentence="No labels.")
        without = {
            key: value or (bare if key == "verdict" else value) for key, value in without.items()
        }
        (gate,) = gates(record.model_copy(update=without), failing)
        assert (gate.status, gate.value) == ("cannot tell", None)
        assert gate.reason


@pytest.mark.parametrize(
    ("outcome", "help_", "harm", "cannot_tell"),
    [
        ("help", "failed", "passed", "passed"),
        ("harm", "passed", "failed", "passed"),
        ("cannot tell", "cannot tell", "cannot tell", "failed"),
    ],
)
def test_a_verdict_that_cannot_tell_rules_neither_help_nor_harm_out(
    record, outcome, help_, harm, cannot_tell
):
    part = record.verdict.model_copy(update={"outcome": outcome})
    asked = ("verdict==help", " verdict == harm ", "verdict==cannot-tell")
    found = gates(record.model_copy(update={"verdict": part}), *asked)
    assert [gate.status for gate in found] == [help_, harm, cannot_tell]
    assert [gate.value for gate in found] == [
        {"failed": 1.0, "passed": 0.0, "cannot tell": None}[gate.status] for gate in found
    ]
    assert all(outcome in gate.reason for gate in found)


def test_a_class_of_few_images_is_no_evidence(record):
    few = tuple(part.model_copy(update={"n": 29}) for part in record.classes)
    (gate,) = gates(record.model_copy(update={"classes": few}), "class_drop>5pp")
    assert gate.status == "cannot tell"


def test_a_failed_gate_outweighs_one_that_cannot_be_told(record):
    asked = ["collapse", "residual>1e-3", "accuracy_after<1"]
    found = gates(record.model_copy(update={"residual": None}), *asked)
    assert [exit_code(found[:n]) for n in range(4)] == [0, 0, 4, 1]
    assert [exit_code(found[:n], allow_inconclusive=True) for n in range(4)] == [0, 0, 0, 1]


def test_a_gate_that_warns_changes_no_exit_code(record):
    asked = ("accuracy_after<1", "residual>1e-3", "collapse")
    found = judged(record, GateRequest(warn_on=asked)).gates
    assert [gate.status for gate in found] == ["failed", "cannot tell", "passed"]
    assert {gate.level for gate in found} == {"warn"}
    assert exit_code(found) == 0


def _with_change(record, fixed, broken, n):
    change = record.change.model_copy(
        update={"accuracy": (fixed - broken) / n, "fixed": fixed, "broken": broken, "n": n}
    )
    return record.model_copy(update={"change": change})


@pytest.mark.parametrize(
    ("broken", "at_95", "at_80"), [(8, "passed", "failed"), (30, "failed", "failed")]
)
def test_with_a_confidence_a_drop_fails_where_its_paired_interval_is_beyond(
    record, broken, at_95, at_80
):
    dropped = _with_change(record, 3, broken, 500)
    found = [
        gates(dropped, "accuracy_drop>0pp", confidence=confidence)[0]
        for confidence in (None, 0.95, 0.8)
    ]
    assert [gate.status for gate in found] == ["failed", at_95, at_80]
    low, high = paired_interval(broken, 3, 500)
    assert (low > 0) == (at_95 == "failed")
    assert f"95% interval {low:.3g} to {high:.3g}" in found[1].reason
    assert found[0].reason is None


def test_with_a_confidence_accuracy_fails_where_its_wilson_interval_is_beyond(record):
    low, high = wilson_interval(1520, 1797)
    for limit, status in ((low + 1e-6, "passed"), (high - 1e-6, "passed"), (high + 1e-6, "failed")):
        (gate,) = gates(record, f"accuracy_after<{limit}", confidence=0.95)
        assert gate.status == status


def test_a_class_fails_at_a_confidence_that_holds_for_all_classes(record):
    first, *others = record.classes
    worse = first.model_copy(
        update={"before": 0.5, "after": 0.42, "fixed": 4, "broken": 14, "n": 125}
    )
    alone = record.model_copy(update={"classes": (worse,)})
    among = record.model_copy(update={"classes": (worse, *others)})
    assert gates(alone, "class_drop>0pp", confidence=0.95)[0].status == "failed"
    (gate,) = gates(among, "class_drop>0pp", confidence=0.95)
    assert (gate.status, gate.value) == ("passed", pytest.approx(0.08))
    assert "not surely" in gate.reason


def test_a_measure_without_an_interval_is_held_by_its_value(record):
    (gate,) = gates(record, "kl_after_mean>0.1", confidence=0.999)
    assert gate.status == "failed"


def test_the_difference_of_wilson_intervals_is_newcombes():
    # Newcombe 1998, table II (a): 56/70 and 48/80 give 0.0524 to 0.3339 by method 10.
    a, b = 56 / 70, 48 / 80
    found = difference_interval(a, wilson_interval(56, 70), b, wilson_interval(48, 80))
    assert found == pytest.approx((0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, float("nan")])
def test_a_confidence_that_is_none_is_a_usage_error(record, confidence):
    with pytest.raises(UsageError, match=r"--confidence"):
        gates(record, "collapse", confidence=confidence)


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("acuracy_drop>0.5pp", "accuracy_drop"),
        ("accuracy_drop", "limit"),
        ("collapse.change", "limit"),
        ("accuracy_drop>", "accuracy_drop"),
        ("accuracy_drop>e", "not a number"),
        ("accuracy_drop>1e999", "too large"),
        ("accuracy_drop>=1", "not understood"),
        ("accuracy_drop==1", "not understood"),
        ("accuracy_drop>1 pct", "accuracy_drop"),
        ("accuracy_drop>5", "5pp"),
        ("accuracy_drop>500%", "100%"),
        ("kl_after_mean>10%", "no limit in %"),
        ("kl_after_mean.change>10%", "no limit in %"),
        ("skipped_images>1pp", "no limit in pp"),
        ("accuracy_after.chnge<0", "accuracy_after"),
        ("verdict", "verdict==harm"),
        ("verdict==bad", "verdict==harm"),
        ("verdict>1", "verdict==harm"),
        ("verdict.change==harm", "verdict==harm"),
        ("", "Measures"),
        ("\x1b[31m", "Measures"),
    ],
)
@pytest.mark.parametrize("level", ["fail", "warn"])
def test_an_expression_that_is_none_is_a_usage_error(record, expression, told, level):
    with pytest.raises(UsageError) as raised:
        judged(record, GateRequest(**{f"{level}_on": (expression,)}))
    assert told in str(raised.value)
    assert f"--{level}-on" in str(raised.value)
