"""JUnit XML, read back by junitparser."""

from __future__ import annotations

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped
from report_cases import CASES, GATES, HOSTILE, as_it_was, hostile, noticed

from adabn_cli.reports import junit
from adabn_cli.text import one_line


def _read(record):
    report = JUnitXml.fromstring(junit.render(record).encode())
    (suite,) = report
    return report, list(suite)


@pytest.mark.parametrize("case", CASES)
def test_the_xml_is_as_it_was(record, case):
    assert as_it_was(junit.render(CASES[case](record)), f"{case}.xml")


def test_each_gate_is_a_case_that_passed_failed_or_erred(record):
    report, cases = _read(noticed(record))
    assert [case.name for case in cases] == [gate.expression for gate in GATES]
    kinds = [[type(result) for result in case.result] for case in cases]
    assert kinds == [[], [Failure], [Error]]
    assert (report.tests, report.failures, report.errors, report.skipped) == (3, 1, 1, 0)
    assert "value 0.02, limit 0.005, n = 1,797" in cases[1].result[0].message
    assert "not measured: run with --verify" in cases[2].result[0].message


def test_the_counts_are_those_of_the_cases(record):
    report, _ = _read(noticed(record))
    told = (report.tests, report.failures, report.errors, report.skipped)
    report.update_statistics()
    assert (report.tests, report.failures, report.errors, report.skipped) == told


def test_no_gate_is_a_skipped_case_and_no_passed_one(record):
    report, (case,) = _read(record)
    assert [type(result) for result in case.result] == [Skipped]
    assert "--fail-on" in case.result[0].message
    assert (report.tests, report.skipped) == (1, 1)


def test_hostile_names_come_back_on_one_line(record):
    report, cases = _read(hostile(record))
    assert [case.name for case in cases] == [one_line(HOSTILE)] * 3
    (suite,) = report
    assert {p.name: p.value for p in suite.properties()}["model"] == one_line(HOSTILE)


def test_a_gate_that_only_warns_passes_and_says_how_it_stands(record):
    warning = [gate.model_copy(update={"level": "warn"}) for gate in GATES]
    report, cases = _read(record.model_copy(update={"gates": tuple(warning)}))
    assert (report.tests, report.failures, report.errors) == (3, 0, 0)
    assert [case.result for case in cases] == [[], [], []]
    told = [case.system_out for case in cases]
    assert told[0].startswith("collapse passed: value 0.1")
    assert told[1].startswith("accuracy_drop>0.5pp warning, failed: value 0.02")
    assert told[2].startswith("residual>1e-3 warning, cannot tell: not measured")


def test_a_gate_that_passed_in_spite_of_its_value_says_why(record):
    reason = "beyond the limit, but not surely: 95% interval -0.01 to 0.05"
    gate = GATES[1].model_copy(update={"status": "passed", "reason": reason})
    _, (case,) = _read(record.model_copy(update={"gates": (gate,)}))
    assert f"passed: {reason} (value 0.02, limit 0.005, n = 1,797)" in case.system_out
