"""CI recipes: the action's scripts run, the documented commands parse, the pipelines are YAML."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from adabn_cli.cli.app import app
from adabn_cli.gates.expressions import parse_gate
from adabn_cli.gates.measures import MEASURES

PROJECT = Path(__file__).resolve().parents[1]
ACTION = yaml.safe_load((PROJECT / "action.yml").read_text(encoding="utf-8"))
DOCS = (PROJECT / "docs/ci.md").read_text(encoding="utf-8")
FENCES = re.findall(r"^```(\w+)\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)
STEPS = {step["id"]: step for step in ACTION["runs"]["steps"] if "id" in step}
PIPELINES = [yaml.safe_load(text) for language, text in FENCES if language == "yaml"]

#: Notes its arguments, a line each, instead of calling pip.
PYTHON = '#!/bin/sh\nfor word; do echo "$word"; done > "$ASKED"\n'


@pytest.fixture
def step(tmp_path, monkeypatch):
    """Runs a step of the action as a runner does, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    programs = tmp_path / "programs"
    programs.mkdir()
    adabn = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m adabn_cli "$@"\n'
    for name, text in (("adabn", adabn), ("python", PYTHON)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    defaults = {name: given.get("default", "") for name, given in ACTION["inputs"].items()}

    def run(name, **inputs):
        given = defaults | {key.replace("_", "-"): value for key, value in inputs.items()}
        variables = {
            variable: given[re.fullmatch(r"\$\{\{ inputs\.([a-z-]+) \}\}", text)[1]]
            for variable, text in STEPS[name]["env"].items()
        }
        (tmp_path / "script.sh").write_text(STEPS[name]["run"])
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("ADABN_")},
            **{"PATH": f"{programs}:{os.environ['PATH']}", "ASKED": str(tmp_path / "asked")},
            **{"GITHUB_OUTPUT": "output", "GITHUB_STEP_SUMMARY": "summary", **variables},
        }
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "script.sh"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run


@pytest.fixture
def run_json(tmp_path):
    """The run that the step before has written."""
    folder = tmp_path / "adabn-report" / "run"
    folder.mkdir(parents=True)
    old = (PROJECT / "tests/records/schema_1.json").read_text(encoding="utf-8")
    (folder / "run.json").write_text(old, encoding="utf-8")
    return folder / "run.json"


def test_scripts_get_inputs_as_variables_only():
    for step in STEPS.values():
        assert "${{" not in step["run"], "an input that is pasted into a script is a command"
        assert step["shell"] == "bash"
    used = set(re.findall(r"inputs\.([a-z-]+)", (PROJECT / "action.yml").read_text()))
    assert used == set(ACTION["inputs"])


@pytest.mark.parametrize(
    ("install", "asked"),
    [
        ("adabn", ["-m", "pip", "install", "adabn"]),
        (
            "adabn[timm]\n\n$(touch made) x\n",
            ["-m", "pip", "install", "adabn[timm]", "$(touch made) x"],
        ),
        ("", None),
    ],
)
def test_the_first_step_installs_a_requirement_a_line(step, tmp_path, install, asked):
    done = step("install", install=install)
    assert done.returncode == 0, done.stderr
    noted = tmp_path / "asked"
    assert (noted.read_text().splitlines() if noted.exists() else None) == asked
    assert not (tmp_path / "made").exists()


def test_the_second_step_adapts_the_model(step, tmp_path, sample_data):
    done = step(
        "adapt",
        model=str(sample_data / "digits_bn.pt"),
        target=str(sample_data / "target"),
        adapt_options="--max-images=40\n--labels=none\n",
        folder="a b",
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a b/run/run.json").is_file()
    assert (tmp_path / "output").read_text() == "run=a b/run\n"


@pytest.mark.parametrize(
    ("inputs", "code", "told"),
    [
        ({}, 0, "Adapting helps"),
        ({"fail_on": "accuracy_drop>0.5pp\n\nskipped_images>1%\n"}, 0, "2 passed"),
        ({"fail_on": "collapse\naccuracy_after<0.99"}, 1, "1 failed, 1 passed"),
        ({"warn_on": "accuracy_after<0.99"}, 0, "1 warning"),
        ({"fail_on": "accuracy_after<0.85", "confidence": "0.95"}, 0, "1 passed"),
        ({"fail_on": "residual>1e-3"}, 4, "1 cannot tell"),
        ({"fail_on": "residual>1e-3", "allow_inconclusive": "true"}, 0, "1 cannot tell"),
        ({"baseline": "HEAD:absent/run.json"}, 4, "1 cannot tell"),
        ({"fail_on": "$(touch made)"}, 2, None),
    ],
)
def test_the_third_step_reports_and_exits_as_the_gates_say(
    step, run_json, tmp_path, inputs, code, told
):
    done = step("report", **inputs)
    assert done.returncode == code, done.stderr
    assert not (tmp_path / "made").exists()
    if told is None:
        assert not (tmp_path / "summary").exists()
        return
    assert told in (tmp_path / "summary").read_text(encoding="utf-8")
    for name in ("report.md", "gates.xml", "metrics.txt"):
        assert (run_json.parents[1] / name).is_file()
    assert (tmp_path / "output").read_text() == "junit=adabn-report/gates.xml\n"


def test_the_artifact_holds_what_the_steps_write():
    (upload,) = [step for step in ACTION["runs"]["steps"] if "uses" in step]
    assert "always()" in upload["if"]
    paths = upload["with"]["path"].split("\n")
    names = {path.replace("${{ inputs.folder }}/", "") for path in paths if path}
    assert names == {"run/run.json", "report.md", "gates.xml", "metrics.txt"}


def commands():
    """Every command in the documentation, in its shell blocks and pipelines."""
    lines = [line for language, text in FENCES if language == "sh" for line in text.splitlines()]
    for pipeline in PIPELINES:
        for job in pipeline.values():
            lines += job.get("script", []) if isinstance(job, dict) else []
    return [line for line in lines if line.startswith("adabn ")]


@pytest.mark.parametrize("line", commands())
def test_every_documented_command_is_one(line):
    _, name, *words = shlex.split(line)
    command = typer.main.get_command(app).commands[name]
    context = command.make_context(name, words)
    for option in ("fail_on", "warn_on"):
        for gate in context.params.get(option) or ():
            parse_gate(gate)


def test_every_measure_and_option_of_gates_is_documented():
    for measure in MEASURES:
        assert f"`{measure}`" in DOCS, measure
    report = typer.main.get_command(app).commands["report"]
    options = {parameter.opts[0] for parameter in report.params}
    for option in (
        "--fail-on",
        "--warn-on",
        "--confidence",
        "--allow-inconclusive",
        "--allow-close-verdict",
        "--baseline",
    ):
        assert {option} & options
        assert option in DOCS
    assert "--allow-different" in DOCS


def test_the_pipelines_use_inputs_and_gates_that_there_are():
    jobs = [pipeline.get("jobs", pipeline)["adapt"] for pipeline in PIPELINES]
    github, gitlab = jobs
    (ours,) = [step for step in github["steps"] if "adabn" in step["uses"]]
    assert set(ours["with"]) <= set(ACTION["inputs"])
    required = {name for name, given in ACTION["inputs"].items() if given.get("required")}
    assert required <= set(ours["with"])
    for gate in [*ours["with"]["fail-on"].split("\n"), ours["with"]["warn-on"]]:
        if gate:
            parse_gate(gate)
    assert gitlab["artifacts"]["when"] == "always", "a failing gate writes its files"
    junit = gitlab["artifacts"]["reports"]["junit"]
    assert any(f"--junit {junit}" in line for line in gitlab["script"])


def test_the_settings_of_the_documentation_are_settings():
    import tomllib

    from adabn_cli.cli.settings import gate_settings

    (text,) = [text for language, text in FENCES if language == "toml"]
    asked = gate_settings(tomllib.loads(text)["tool"]["adabn"], None)
    assert set(asked) == {
        *("fail-on", "warn-on", "confidence", "baseline"),
        *("allow-inconclusive", "allow-close-verdict"),
    }
    for gate in (*asked["fail-on"], *asked["warn-on"]):
        parse_gate(gate)


def test_the_documented_test_passes_on_a_run(project):
    from adabn_cli.record import Record

    (text,) = [text for language, text in FENCES if language == "python"]
    scope: dict[str, object] = {}
    exec(text, scope)
    record = (project / "tests/records/schema_1.json").read_text(encoding="utf-8")
    scope["test_no_class_is_lost"](Record.model_validate_json(record))
