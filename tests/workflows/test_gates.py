"""Every measure passing, failing and not to be told; expressions that are none."""

from __future__ import annotations

import pytest

from adabn_cli.errors import UsageError
from adabn_cli.record import ChangePart, DivergencesPart, ResidualPart, ScoresPart, SkippedPicture
from adabn_cli.workflows.gates import check_gates, exit_code

_NO_LABELS = {"change": ChangePart(), "classes": ()}


@pytest.mark.parametrize(
    ("passing", "failing", "without"),
    [
        ("accuracy_drop>0.5pp", "accuracy_drop>-50pp", _NO_LABELS),
        ("accuracy_after<0.80", "accuracy_after<99%", {"after": ScoresPart()}),
        ("class_drop>5pp", "class_drop>-1pp", _NO_LABELS),
        ("kl_after_mean>2", "kl_after_mean>0.1", {"kl": DivergencesPart(before=None, after=None)}),
        (
            "kl_after_median>2",
            "kl_after_median>.1",
            {"kl": DivergencesPart(before=None, after=None)},
        ),
        ("kl_after_p95>2e1", "kl_after_p95>1e-2", {"kl": DivergencesPart(before=None, after=None)}),
        ("residual>1e-3", "residual<1", {"residual": None}),
        ("skipped_images>1%", "skipped_images>0.1%", None),
        ("skipped_images>3", "skipped_images > 2", None),
        ("collapse", "collapse>-5", {"after": ScoresPart()}),
    ],
)
def test_each_measure_passes_fails_or_cannot_be_told(record, passing, failing, without):
    skipped = tuple(SkippedPicture(path=f"{n}.png", reason="cut off") for n in range(3))
    record = record.model_copy(
        update={
            "residual": ResidualPart(max_mean=1e-8, max_log_variance=1e-7, site="1"),
            "target": record.target.model_copy(update={"skipped": skipped}),
        }
    )
    found = check_gates(record, [passing, failing])
    assert [gate.status for gate in found] == ["passed", "failed"]
    assert all(gate.value is not None and gate.n for gate in found)
    if without is not None:
        (gate,) = check_gates(record.model_copy(update=without), [failing])
        assert (gate.status, gate.value) == ("cannot tell", None)
        assert gate.reason


def test_a_class_of_few_images_is_no_evidence(record):
    few = tuple(part.model_copy(update={"n": 29}) for part in record.classes)
    (gate,) = check_gates(record.model_copy(update={"classes": few}), ["class_drop>5pp"])
    assert gate.status == "cannot tell"


def test_a_failed_gate_outweighs_one_that_cannot_be_told(record):
    gates = check_gates(
        record.model_copy(update={"residual": None}),
        ["collapse", "residual>1e-3", "accuracy_after<1"],
    )
    assert [exit_code(gates[:n]) for n in range(4)] == [0, 0, 4, 1]


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("acuracy_drop>0.5pp", "accuracy_drop"),
        ("accuracy_drop", "limit"),
        ("accuracy_drop>", "accuracy_drop"),
        ("accuracy_drop>e", "not a number"),
        ("accuracy_drop>=1", "accuracy_drop"),
        ("accuracy_drop>1 pct", "accuracy_drop"),
        ("", "Measures"),
        ("\x1b[31m", "Measures"),
    ],
)
def test_an_expression_that_is_none_is_a_usage_error(record, expression, told):
    with pytest.raises(UsageError) as raised:
        check_gates(record, [expression])
    assert told in str(raised.value)
