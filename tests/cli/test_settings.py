"""Option beats ADABN_* beats file beats default; safety is never loosened by a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def old_run(project):
    """A run of version 1 of the schema, as it was written then."""
    return project / "tests/records/schema_1.json"


@pytest.fixture
def plan(command, sample_model, few_pictures):
    def planned(*options):
        done = command("adapt", sample_model, "-t", few_pictures, "--dry-run", "--json", *options)
        return json.loads(done.out)

    return planned


def test_option_beats_variable_beats_file_beats_default(plan, monkeypatch):
    assert plan()["plan"]["images"] == 40
    Path("pyproject.toml").write_text("[tool.adabn]\nmax-images = 11\n")
    assert plan()["plan"]["images"] == 11
    Path("adabn.toml").write_text("max_images = 12\n")
    assert plan()["plan"]["images"] == 12
    monkeypatch.setenv("ADABN_MAX_IMAGES", "13")
    assert plan()["plan"]["images"] == 13
    assert plan("--max-images", 14)["plan"]["images"] == 14


def test_lists_numbers_and_flags_are_as_on_the_command_line(plan):
    Path("adabn.toml").write_text('mean = [0.25]\nstd = 0.5\nlayers = ["8", "13"]\n')
    planned = plan()["plan"]
    assert (planned["mean"], planned["std"]) == ([0.25], [0.5])
    assert planned["sites_to_adapt"] == ["8", "13"]


def test_a_setting_that_repeats_takes_a_list(command, sample_run):
    Path("adabn.toml").write_text('fail-on = ["accuracy_after<0.99", "collapse"]\n')
    done = command("report", sample_run, "--json")
    assert done.code == 1
    assert [gate["status"] for gate in json.loads(done.out)["gates"]] == ["failed", "passed"]
    Path("adabn.toml").write_text('fail-on = "collapse"\n')
    assert command("report", sample_run).code == 0


_GATES = """
{table}
fail-on = ["accuracy_drop>0pp", "residual>1e-3"]
warn_on = "accuracy_after<0.99"
confidence = 0.95
allow-inconclusive = true
baseline = "{baseline}"
"""


@pytest.mark.parametrize(
    ("file", "table"),
    [
        ("pyproject.toml", "[tool.adabn.gates]"),
        ("adabn.toml", "[gates]"),
        ("adabn.toml", ""),
    ],
)
def test_gates_have_a_table_of_their_own(command, old_run, file, table):
    Path(file).write_text(_GATES.format(table=table, baseline=old_run))
    done = command("report", old_run, "--json")
    assert done.code == 0, done.err
    gates = json.loads(done.out)["gates"]
    assert [(gate["expression"], gate["level"], gate["status"]) for gate in gates] == [
        ("baseline", "fail", "passed"),
        ("accuracy_drop>0pp", "fail", "passed"),
        ("residual>1e-3", "fail", "cannot tell"),
        ("accuracy_after<0.99", "warn", "failed"),
    ]
    assert "95% interval" in gates[3]["reason"]
    assert command("report", old_run, old_run).code == 0


def test_a_gate_on_the_command_line_comes_before_those_of_the_settings(command, old_run):
    Path("adabn.toml").write_text('[gates]\nfail-on = "accuracy_after<0.99"\nconfidence = 0.95\n')
    assert command("report", old_run).code == 1
    assert command("report", old_run, "--fail-on", "collapse").code == 0
    done = command("report", old_run, "--confidence", "0.5", "--json")
    assert "50% interval" in json.loads(done.out)["gates"][0]["reason"]


def test_settings_of_gates_do_not_disturb_other_commands(plan):
    Path("adabn.toml").write_text('max-images = 11\n[gates]\nfail-on = "collapse"\n')
    assert plan()["plan"]["images"] == 11


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("bach-size = 4", "batch-size"),
        ("held-out = 'x'", "There is no setting"),
        ("trust_pickle = true", "There is no setting"),
        ("trust-pickle = true", "There is no setting"),
        ("force = true", "There is no setting"),
        ("revert = true", "There is no setting"),
        ("[adapt]\nalpha = 1", "There is no setting"),
        ("alpha = ", "adabn.toml"),
        ("batch-size = 'many'", "--batch-size"),
        ("allow-different = true", "There is no setting"),
        ("gates = 'collapse'", "is a table"),
        ("[gates]\nfail-onn = 'collapse'", "Did you mean 'fail-on'?"),
        ("[gates]\nbatch-size = 4", "There is no setting"),
        ("[gates]\nallow-different = true", "There is no setting"),
        ("[gates]\nconfidence = '0.95'", "a number, as 0.95"),
        ("[gates]\nallow-inconclusive = 'yes'", "true or false"),
        ("[gates]\nfail-on = 3", "a gate or a list of them"),
        ("fail-on = 'collapse'\n[gates]\nfail-on = 'collapse'", "is there twice"),
        ("mean = {a = 1}", "--mean"),
    ],
)
def test_a_wrong_setting_is_a_usage_error(command, sample_model, few_pictures, line, told):
    Path("adabn.toml").write_text(line)
    done = command("adapt", sample_model, "-t", few_pictures, "-o", "run")
    assert done.code == 2
    assert told in done.err
    assert len(done.err.splitlines()) <= 3
    assert command("adapt", "--help").code == 0, "help is there in spite of it"


def test_no_variable_trusts_a_pickle(command, monkeypatch):
    assert "ADABN_TRUST" not in command("adapt", "--help").out
