"""A run that was killed goes on to the same bytes, whenever that was."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# Ends by SIGKILL at one of its writes to the journal, which come as often as there is anything new.
_PROGRAM = """
import os, signal, sys
from adabn_cli.cli.boundary import run
from adabn_cli.jobs.adapt import journal

journal._SHARE = 1e12
left, how, fsync = int(sys.argv[1]), sys.argv[2], os.fsync

def counted(number):
    global left
    fsync(number)
    left -= 1
    if left == -1:
        os.kill(os.getpid(), getattr(signal, how))

os.fsync = counted
sys.exit(run(sys.argv[3:]))
"""


def stopped(writes: int, *arguments: object, how: str = "SIGKILL") -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(writes), how, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "run.json"}


@pytest.mark.parametrize("writes", [0, 5, 11, 14])
def test_a_killed_run_goes_on_to_the_same_bytes(command, sample_model, few_pictures, writes):
    given = ("adapt", sample_model, "-t", few_pictures, "-b", 8)
    assert command(*given, "-o", "whole").code == 0
    assert stopped(writes, *given, "-o", "run").returncode == -signal.SIGKILL
    assert not Path("run").exists()
    assert Path("run.partial").is_dir()
    done = command(*given, "--resume", "run")
    assert done.code == 0
    assert files(Path("run")) == files(Path("whole"))
    one, other = (json.loads((Path(x) / "run.json").read_text()) for x in ("run", "whole"))
    del one["run"], other["run"]
    assert one == other
    assert sorted(path.name for path in Path().iterdir()) == ["run", "whole"]


@pytest.mark.slow
def test_a_run_killed_at_twenty_random_moments_goes_on_to_the_same_bytes(
    command, sample_model, sample_data, tmp_path
):
    target = sample_data / "target"
    given = [str(x) for x in ("adapt", sample_model, "-t", target, "-b", 16)]
    program = [sys.executable, "-m", "adabn_cli"]
    start = time.perf_counter()
    subprocess.run([*program, *given, "-o", "whole", "-q"], check=True, capture_output=True)
    seconds, chance, kills = time.perf_counter() - start, random.Random(0), 0
    while kills < 20:
        name = f"run-{kills}"
        process = subprocess.Popen(
            [*program, *given, "-o", name],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(chance.uniform(0, seconds))
        process.kill()
        if process.wait() != -signal.SIGKILL:
            (tmp_path / name).rename(tmp_path / f"whole-{time.monotonic_ns()}")
            continue
        kills += 1
        if Path(name).exists():  # Killed behind its last write: it is whole.
            assert files(Path(name)) == files(Path("whole"))
            continue
        subprocess.run([*program, *given, "--resume", name], check=True, capture_output=True)
        assert files(Path(name)) == files(Path("whole"))
        assert not Path(f"{name}.partial").exists()


def test_ctrl_c_keeps_what_was_measured_and_says_how_to_go_on(sample_model, few_pictures, command):
    given = ("adapt", sample_model, "-t", few_pictures, "-b", 8, "-o", "run")
    done = stopped(5, *given, "--json", how="SIGINT")
    assert done.returncode == 130
    told = json.loads(done.stdout)["error"]
    assert told["exit_code"] == 130
    assert told["what"] == "Interrupted; what was measured is kept."
    assert told["hint"].endswith("-b 8 -o run --json --resume run")
    assert "Traceback" not in done.stderr
    assert command(*given, "--resume", "run").code == 0
    assert not Path("run.partial").exists()


def test_another_model_target_or_setting_is_refused(
    command, sample_data, sample_model, few_pictures
):
    given = ("adapt", sample_model, "-t", few_pictures, "-o", "run")
    assert stopped(3, *given).returncode == -signal.SIGKILL
    kept = sorted(Path("run.partial").rglob("*"))
    others = {
        "model": ("adapt", sample_data / "digits_renorm.pt", *given[2:]),
        "pictures": (*given, "--max-images", 30),
        "--engine": (*given, "--engine", "one-pass"),
        "--batch-size": (*given, "-b", 7),
        "method": (*given, "--alpha", 0.5),
    }
    for name, other in others.items():
        refused = command(*other, "--resume", "run")
        assert refused.code == 2, name
        assert f"other {name}" in refused.err
        assert "start over without it" in refused.err
    assert sorted(Path("run.partial").rglob("*")) == kept
    assert command(*given, "--resume", "run", "--workers", 1, "--memory", "4GiB").code == 0


def test_a_finished_run_is_not_gone_on_with(command, sample_model, few_pictures):
    given = ("adapt", sample_model, "-t", few_pictures)
    assert command(*given, "-o", "run").code == 0
    refused = command(*given, "--resume", "run")
    assert refused.code == 2
    assert "This run is finished." in refused.err
    refused = command(*given, "--resume", "run", "-o", "other")
    assert refused.code == 2
    assert "names another" in refused.err


def test_a_run_that_was_stopped_before_anything_was_measured_starts_over(
    command, sample_model, few_pictures
):
    done = command("adapt", sample_model, "-t", few_pictures, "--resume", "run")
    assert done.code == 0
    assert "Nothing is kept of run: it starts over." in done.err


def test_a_killed_run_keeps_its_name(command, sample_model, few_pictures):
    given = ("adapt", sample_model, "-t", few_pictures)
    assert stopped(3, *given).returncode == -signal.SIGKILL
    [kept] = Path("adabn-runs").iterdir()
    assert command(*given, "-q").out.strip().endswith("-2")
    assert command(*given, "--resume", kept.with_suffix("")).code == 0
    assert not kept.exists()


def test_a_run_of_two_processes_is_refused(command, sample_model, few_pictures):
    from adabn_cli.jobs.adapt.journal import Journal

    given = ("adapt", sample_model, "-t", few_pictures, "-o", "run")
    first = Journal(Path("run.partial"), {}, resume=False)
    refused = command(*given)
    first.close()
    assert refused.code == 2
    assert "Another process" in refused.err
