"""Several processes give what one gives, to the byte; an error of one ends all."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest


def ranks(size: int, *arguments: object, timeout: float = 170) -> list[subprocess.CompletedProcess]:
    """The command in so many processes, started as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"WORLD_SIZE": str(size), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "adabn_cli", *map(str, arguments)],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    ended = [process.communicate(timeout=timeout) for process in started]
    return [
        subprocess.CompletedProcess([], process.returncode, *told)
        for process, told in zip(started, ended, strict=True)
    ]


def result(folder: str) -> dict[str, object]:
    record = json.loads((Path(folder) / "run.json").read_text())
    del record["run"]
    files = {x.name: x.read_bytes() for x in Path(folder).iterdir() if x.name != "run.json"}
    return {"run.json": record, **files}


@pytest.fixture
def with_broken_ones(few_pictures, tmp_path):
    """A copy of the pictures in which every seventh cannot be read."""
    folder = tmp_path / "pictures"
    for number, file in enumerate(sorted(few_pictures.rglob("*.png"))):
        copy = folder / file.relative_to(few_pictures)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(b"no picture" if number % 7 == 3 else file.read_bytes())
    return folder


@pytest.mark.parametrize("engine", ["exact", "one-pass"])
def test_two_and_three_processes_give_the_bytes_of_one(
    command, sample_model, with_broken_ones, engine
):
    # 34 of 40 pictures in batches of 6: uneven counts, and batches that reach over to the next.
    given = ("adapt", sample_model, "-t", with_broken_ones, "-b", 6, "--max-bad", "50%")
    given = (*given, "--engine", engine, "--verify")
    assert command(*given, "-o", "one").code == 0
    for size in (2, 3):
        done = ranks(size, *given, "-o", f"of-{size}", "-q")
        assert [process.returncode for process in done] == [0] * size, done
        assert done[0].stdout.strip() == f"of-{size}"
        assert all(not process.stdout and not process.stderr for process in done[1:])
        assert result(f"of-{size}") == result("one")
    assert sorted(path.name for path in Path().iterdir()) == ["of-2", "of-3", "one", "pictures"]


def test_a_process_without_pictures_goes_along(command, sample_model, few_pictures):
    given = ("adapt", sample_model, "-t", few_pictures, "-b", 30)
    assert command(*given, "-o", "one").code == 0
    done = ranks(3, *given, "-o", "three", "-q")
    assert [process.returncode for process in done] == [0, 0, 0], done
    assert result("three") == result("one")


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_of_one_process_ends_all_with_its_code(
    sample_model, few_pictures, tmp_path, failing
):
    # The process that meets the full disk is told by its part of the environment.
    program = tmp_path / "site" / "sitecustomize.py"
    program.parent.mkdir()
    program.write_text(f"""
import os
if os.environ.get("RANK") == "{failing}":
    from adabn_cli import machine
    machine.available_bytes = lambda: 1
""")
    os.environ["PYTHONPATH"] = str(program.parent)
    try:
        done = ranks(2, "adapt", sample_model, "-t", few_pictures, "-b", 8, "-o", "run", "--json")
    finally:
        del os.environ["PYTHONPATH"]
    assert [process.returncode for process in done] == [3, 3], done
    assert "Memory runs out" in json.loads(done[0].stdout)["error"]["what"]
    assert not done[1].stderr
    assert not Path("run").exists()


def test_several_processes_refuse_what_they_cannot_do(sample_model, few_pictures):
    given = ("adapt", sample_model, "-t", few_pictures)
    done = ranks(2, *given, "--resume", "run")
    assert [process.returncode for process in done] == [2, 2]
    assert "Several processes keep no notes" in done[0].stderr
    done = ranks(2, *given, "--engine", "online")
    assert [process.returncode for process in done] == [2, 2]
    assert "in one process" in done[0].stderr


def test_one_process_imports_nothing_of_it(sample_model, few_pictures):
    program = (
        "import sys\nfrom adabn_cli.cli.boundary import run\n"
        f"run(['adapt', {str(sample_model)!r}, '-t', {str(few_pictures)!r}, '-o', 'run', '-q'])\n"
        "print('adabn_cli.process_group' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=100
    )
    assert done.stdout.splitlines()[-1] == "False"
