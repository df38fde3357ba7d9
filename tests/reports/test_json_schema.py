"""The schema holds for every run of its version, and for nothing else."""

from __future__ import annotations

import json

import jsonschema
import pytest
from report_cases import CASES

from adabn_cli.reports import json_schema

_VALIDATOR = jsonschema.Draft202012Validator(json_schema.render())


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(json_schema.render())


def test_an_old_run_fits(project):
    _VALIDATOR.validate(json.loads((project / "tests/records/schema_1.json").read_text()))


@pytest.mark.parametrize("case", CASES)
def test_every_record_fits(record, case):
    _VALIDATOR.validate(json.loads(CASES[case](record).as_json()))


@pytest.mark.parametrize(
    "change",
    [{"schema_version": 2}, {"verdict": None}, {"sites": {}}, {"before": {"n": "many"}}],
)
def test_what_is_no_record_does_not_fit(record, change):
    with pytest.raises(jsonschema.ValidationError):
        _VALIDATOR.validate(json.loads(record.as_json()) | change)
