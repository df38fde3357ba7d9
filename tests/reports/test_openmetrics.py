"""OpenMetrics text, read back by Prometheus' own parser."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from report_cases import CASES, GATES, HOSTILE, as_it_was, hostile, large, noticed, unscored

from adabn_cli.reports import openmetrics
from adabn_cli.text import one_line


def _families(record):
    text = openmetrics.render(record)
    return {family.name: family for family in text_string_to_metric_families(text)}


def _value(families, name, **labels):
    (found,) = [
        sample.value for sample in families[name].samples if labels.items() <= sample.labels.items()
    ]
    return found


@pytest.mark.parametrize("case", ["labelled", "unscored", "noticed"])
def test_the_text_is_as_it_was(record, case):
    assert as_it_was(openmetrics.render(CASES[case](record)), f"{case}.openmetrics")


@pytest.mark.parametrize("case", [*CASES.values(), large])
def test_the_text_is_valid_and_ends(record, case):
    assert _families(case(record))
    assert openmetrics.render(case(record)).endswith("\n# EOF\n")


def test_every_figure_comes_back_to_the_bit(record):
    families = _families(record)
    for phase in ("before", "after"):
        side = getattr(record, phase)
        assert _value(families, "adabn_accuracy_ratio", phase=phase) == side.accuracy
        low, high = side.accuracy_interval
        assert _value(families, "adabn_accuracy_bound_ratio", phase=phase, bound="low") == low
        assert _value(families, "adabn_accuracy_bound_ratio", phase=phase, bound="high") == high
        kl = getattr(record.kl, phase)
        for statistic in ("mean", "median", "p95", "max"):
            found = _value(families, "adabn_kl_nats", phase=phase, statistic=statistic)
            assert found == getattr(kl, statistic)
    assert _value(families, "adabn_fixed_images") == record.change.fixed
    assert _value(families, "adabn_broken_images") == record.change.broken
    assert _value(families, "adabn_labelled_images") == record.change.n


def test_names_carry_their_units(record):
    for family in _families(noticed(record)).values():
        assert family.name.endswith(family.unit)
        assert family.name.startswith("adabn_")


def test_held_out_pictures_are_apart(record):
    families = _families(noticed(record))
    for pictures in ("target", "held out"):
        _value(families, "adabn_accuracy_ratio", pictures=pictures, phase="after")


def test_the_state_of_a_gate_and_of_the_verdict_is_one_of_three(record):
    families = _families(noticed(record))
    for gate in GATES:
        states = {
            sample.labels["adabn_gate"]: sample.value
            for sample in families["adabn_gate"].samples
            if sample.labels["gate"] == gate.expression
        }
        assert states == {
            state: float(state == gate.status) for state in ("passed", "failed", "cannot tell")
        }
    assert _value(families, "adabn_verdict", adabn_verdict="help") == 1


def test_what_is_not_known_is_no_sample(record):
    names = _families(unscored(record)).keys()
    assert not {name for name in names if "accuracy" in name or "kl" in name or "gate" in name}


def test_labels_come_back(record):
    for family in _families(hostile(record)).values():
        for sample in family.samples:
            assert sample.labels["model"] == one_line(HOSTILE)


def test_a_start_without_a_zone_is_no_moment(record):
    run = record.run.model_copy(update={"started": "2026-11-23T20:00:00"})
    families = _families(record.model_copy(update={"run": run}))
    assert "adabn_run_started_timestamp_seconds" not in families
