"""Option beats ADABN_* beats file beats default; safety is never loosened by a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


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
