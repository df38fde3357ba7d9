"""A run that is stopped in the middle leaves nothing half-written, and says so by its code."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# Stops in the middle of the write: everything is there but the record and the folder's name.
_PROGRAM = """
import sys, time
from adabn_cli.cli.boundary import run
from adabn_cli.jobs.adapt import adabn, writing

def slow(*arguments, **options):
    print("writing", flush=True, file=sys.stderr)
    time.sleep(60)

setattr(writing if hasattr(writing, sys.argv[1]) else adabn, sys.argv[1], slow)
sys.exit(run(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("number", "code", "stage"),
    [
        (signal.SIGINT, 130, "write_predictions"),
        (signal.SIGTERM, 143, "write_predictions"),
        (signal.SIGINT, 130, "adabn"),
    ],
)
def test_a_signal_in_the_middle_leaves_nothing(
    sample_model, few_pictures, tmp_path, number, code, stage
):
    out = tmp_path / "runs" / "run"
    arguments = ["adapt", sample_model, "-t", few_pictures, "-o", out, "--json"]
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, stage, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "writing" in process.stderr.readline()
    process.send_signal(number)
    told, error = process.communicate(timeout=60)
    assert process.returncode == code
    assert json.loads(told)["error"]["exit_code"] == code
    assert "Interrupted" in error
    assert "Traceback" not in error
    assert not out.exists()
    # What was measured is kept beside it, see test_resume_command.
    kept = (out.with_name("run.partial"),) if stage == "write_predictions" else ()
    assert tuple(out.parent.glob("*")) == kept


def test_a_failing_run_leaves_the_one_before_as_it_was(
    command, sample_model, few_pictures, monkeypatch
):
    command("adapt", sample_model, "-t", few_pictures, "-o", "run")
    before = {file.name: file.read_bytes() for file in Path("run").iterdir()}
    assert command("adapt", sample_model, "-t", few_pictures, "-o", "run").code == 2
    with monkeypatch.context() as patch:
        patch.setattr("adabn_cli.jobs.adapt.writing.write_predictions", lambda *given: 1 / 0)
        forced = ("adapt", sample_model, "-t", few_pictures, "-o", "run", "--force")
        assert command(*forced).code == 70
    assert {file.name: file.read_bytes() for file in Path("run").iterdir()} == before
    assert command(*forced).code == 0
    assert [path.name for path in Path().iterdir()] == ["run"]
