"""`--memory` and `--spill-dir`: a plan that is told, kept to, and changes no byte of the result."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

RESOURCES = ("batches_in_memory", "batches_on_disk", "batches_run_again")


@pytest.fixture
def spill(tmp_path: Path) -> Path:
    folder = tmp_path / "spill"
    folder.mkdir()
    return folder


def plan(command, model, pictures, *options) -> dict:
    done = command("adapt", model, "-t", pictures, "-b", 8, "--dry-run", "--json", *options)
    assert done.code == 0
    return json.loads(done.out)["plan"]


def test_everything_waits_in_memory_where_it_fits(command, sample_model, few_pictures):
    told = plan(command, sample_model, few_pictures)
    assert [told[name] for name in RESOURCES] == [5, 0, 0]
    assert told["disk_bytes"] == 0
    assert told["seconds"] > 0


def test_what_does_not_fit_waits_on_disk(command, sample_model, few_pictures, spill):
    told = plan(command, sample_model, few_pictures, "--memory", "1MiB", "--spill-dir", spill)
    assert [told[name] for name in RESOURCES] == [0, 5, 0]
    assert told["memory_limit_bytes"] == 2**20
    assert told["spill_dir"] == str(spill)
    assert told["disk_bytes"] > 0
    assert any("--batch-size" in warning for warning in told["warnings"])


def test_a_full_disk_has_batches_run_again(command, sample_model, few_pictures, spill, monkeypatch):
    monkeypatch.setattr("adabn_cli.jobs.adapt.memory_plan.free_bytes", lambda folder: 0)
    told = plan(command, sample_model, few_pictures, "--memory", "1MiB", "--spill-dir", spill)
    assert [told[name] for name in RESOURCES] == [0, 0, 5]


def test_every_plan_writes_the_same_bytes(command, sample_model, few_pictures, spill, monkeypatch):
    options = ("adapt", sample_model, "-t", few_pictures, "-b", 8, "-o")
    assert command(*options, "memory").code == 0
    spilled = command(*options, "disk", "--memory", "1MiB", "--spill-dir", spill)
    assert spilled.code == 0
    assert "5 on disk" in spilled.err
    monkeypatch.setattr("adabn_cli.jobs.adapt.memory_plan.free_bytes", lambda folder: 0)
    again = command(*options, "again", "--memory", "1MiB", "--spill-dir", spill)
    assert "run again" in again.err
    for name in ("pack.safetensors", "model.pt", "predictions.csv"):
        expected = (Path("memory") / name).read_bytes()
        assert (Path("disk") / name).read_bytes() == expected
        assert (Path("again") / name).read_bytes() == expected
    assert not list(spill.iterdir())


def test_a_draw_is_told_and_recorded(command, sample_model, few_pictures, spill, monkeypatch):
    monkeypatch.setattr("adabn_cli.jobs.adapt.memory_plan._FEWEST_DRAWN", 8)
    monkeypatch.setattr("adabn_cli.jobs.adapt.memory_plan.MOST_FORWARDS", 0)
    every = plan(command, sample_model, few_pictures, "--memory", "1MiB", "--spill-dir", spill)
    room = int(every["disk_bytes"] * 0.9)
    monkeypatch.setattr("adabn_cli.jobs.adapt.memory_plan.free_bytes", lambda folder: room)
    done = command(
        "adapt", sample_model, "-t", few_pictures, "-b", 8, "-o", "run", "--json",
        "--memory", "1MiB", "--spill-dir", spill,
    )  # fmt: skip
    record = json.loads(done.out)
    assert record["target"]["subsample"]["of"] == 40
    assert record["target"]["images"] == record["target"]["subsample"]["drawn"] < 40
    assert any("were drawn" in warning for warning in record["warnings"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--memory", "much"), "--memory 8GiB"),
        (("--memory", "0"), "--memory 8GiB"),
        (("--memory", "1..5G"), "--memory 8GiB"),
        (("--spill-dir", "nowhere"), "--spill-dir"),
    ],
)
def test_nonsense_is_refused_before_anything_is_read(
    command, sample_model, few_pictures, options, told
):
    done = command("adapt", sample_model, "-t", few_pictures, *options)
    assert done.code == 2
    assert told in done.err


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1GiB", 2**30), ("1.5g", 3 * 2**29), ("500MB", 500_000_000), ("4096", 4096), ("2 K", 2048)],
)
def test_sizes_are_written_as_people_write_them(text, expected):
    from adabn_cli.cli import values

    assert values.memory(text) == expected


def test_a_disk_that_fills_up_ends_with_exit_3_and_nothing_left(
    sample_model, few_pictures, spill, tmp_path
):
    out = tmp_path / "run"
    limit = 200_000  # No file may grow beyond that; the pictures are in one, too.

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(
        [sys.executable, "-m", "adabn_cli", "adapt", str(sample_model), "-t", str(few_pictures),
         "-b", "8", "-o", str(out), "--memory", "1MiB", "--spill-dir", str(spill)],
        preexec_fn=small_files, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 3
    assert "cannot be kept on disk" in done.stderr
    assert "--spill-dir" in done.stderr
    assert not out.exists()
    assert not list(spill.iterdir())
