"""`adabn watch`: JSON lines on stdout, exit code 0 when it is told to end."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from adabn_cli.adaptation.packs import read_pack

_QUICK = ("--interval", 0)


def events(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines()]


def started(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "adabn_cli", "watch", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well_with_what_was_adapted_to(
    sample_model, few_pictures, tmp_path, number
):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    process = started(sample_model, inbox, "-o", "out", "--interval", 0.05, "--every", 16)
    assert json.loads(process.stdout.readline())["event"] == "started"
    shutil.copytree(few_pictures, inbox / "digits")
    told = [json.loads(process.stdout.readline()) for _ in range(2)]
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert err == ""
    told = [event for event in [*told, *events(out)] if event["event"] != "drift"]
    assert [event["event"] for event in told[:-1]] == ["adapted"] * (len(told) - 1)
    assert told[-1]["event"] == "stopped"
    assert told[-1]["reason"] == "interrupted"
    assert read_pack(Path("out/pack.safetensors")).images == told[-1]["pictures"] > 0


def test_it_ends_where_the_reader_of_its_lines_has_left(sample_model, few_pictures):
    process = started(sample_model, few_pictures, "-o", "out", "--interval", 0.05, "--every", 8)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert process.stderr.read() == ""
    process.stderr.close()


def test_once_prints_a_json_object_a_line(command, sample_model, few_pictures):
    done = command("watch", sample_model, few_pictures, "-o", "out", "--once", *_QUICK)
    assert (done.code, done.err) == (0, "")
    told = events(done.out)
    assert [event["event"] for event in told if event["event"] != "drift"] == [
        *("started", "adapted", "adapted", "stopped")
    ]
    assert all(event["time"].endswith("+00:00") for event in told)
    scored = ("evaluate", sample_model, "-d", few_pictures, "--pack", told[-1]["pack"])
    assert command(*scored).code == 0


def test_quiet_prints_drift_alone(command, sample_model, sample_data):
    # Folders of one class each: every other class is a drift.
    given = ("watch", sample_model, sample_data / "source", "-o", "out", "--once", *_QUICK)
    done = command(*given, "--every", 50, "-q")
    assert done.code == 0
    assert {event["event"] for event in events(done.out)} == {"drift"}


@pytest.mark.parametrize(
    ("code", "told", "arguments"),
    [
        (3, "There is no such folder", ["MODEL", "absent", "-o", "out"]),
        (3, "This is not a folder", ["MODEL", "file", "-o", "out"]),
        (3, "no such model file", ["absent.pt", ".", "-o", "out"]),
        (3, "There is nothing to adapt", ["NO_STATISTICS", ".", "-o", "out"]),
        (2, "The output is a file", ["MODEL", ".", "-o", "file"]),
        (3, "cannot be written", ["MODEL", ".", "-o", "file/out"]),
        (2, "The output file exists", ["MODEL", ".", "-o", "had"]),
        (2, "--momentum 2 is not a weight", ["MODEL", ".", "-o", "out", "--momentum", "2"]),
        (2, "--every", ["MODEL", ".", "-o", "out", "--every", "0"]),
        (2, "--out", ["MODEL", "."]),
        (3, "cannot run on a picture", ["MODEL", ".", "-o", "out", "--img-size", "64"]),
        (2, "--output", ["MODEL", ".", "-o", "out", "--output", "logits"]),
    ],
)
def test_what_cannot_be_watched_is_told_with_what_to_do(
    command, sample_model, sample_data, code, told, arguments: Sequence[str]
):
    Path("file").write_text("")
    Path("had").mkdir()
    Path("had/pack.safetensors").write_bytes(b"")
    models = {"MODEL": sample_model, "NO_STATISTICS": sample_data / "digits_wn.pt"}
    done = command("watch", *(models.get(argument, argument) for argument in arguments))
    assert (done.code, done.out) == (code, "")
    assert told in done.err
    assert len(done.err.splitlines()) <= 3
    assert not Path("out").exists()


def test_once_without_a_picture_leaves_the_pack_that_is_there(command, sample_model, tmp_path):
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "broken.png").write_bytes(b"no picture")
    Path("out").mkdir()
    Path("out/pack.safetensors").write_bytes(b"another's")
    given = ("watch", sample_model, "inbox", "-o", "out", "--once", "--force", *_QUICK)
    done = command(*given)
    assert done.code == 3
    assert [event["event"] for event in events(done.out)] == ["started", "skipped", "stopped"]
    assert "no readable picture" in done.err
    assert Path("out/pack.safetensors").read_bytes() == b"another's"


def test_settings_of_adapt_are_not_those_of_a_stream(
    command, sample_model, few_pictures, monkeypatch
):
    Path("adabn.toml").write_text("max-images = 8\n")
    monkeypatch.setenv("ADABN_MOMENTUM", "0.5")
    told = events(command("watch", sample_model, few_pictures, "-o", "out", "--once", *_QUICK).out)
    assert told[0]["momentum"] == 0.1
    assert told[-1]["pictures"] == 40
