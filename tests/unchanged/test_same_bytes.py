"""Commands write what they wrote before, from files that an older adabn has written.

`ADABN_UPDATE_GOLDEN=1 pytest tests/unchanged` keeps what they write now; look at the difference.
"""

from __future__ import annotations

import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
from commands import COMMANDS
from kept import EXPECTED, keep, kept, made_on, results, this_machine
from likeness import alike

import adabn_cli

UPDATE = bool(os.environ.get("ADABN_UPDATE_GOLDEN"))  # A fixture takes it away from the commands.


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.usefixtures("one_thread")
def test_a_command_writes_what_it_wrote_before(command, workplace, name):
    if name == "adapt pt2" and numbers(version("torch")) < numbers(made_on()["torch"]):
        pytest.skip("torch opens no .pt2 of a newer one")
    if name == "adapt resumed":
        skip_unless_of_these_versions(Path("given/stopped.partial/request.json"))
        shutil.copytree("given/stopped.partial", "stopped.partial")
    done = command(*COMMANDS[name].split())
    assert done.code == 0, done.err
    found = results(workplace, done.out)
    if UPDATE and found != kept(name):
        keep(name, found)
    before = kept(name)
    assert found.keys() == before.keys()
    same = as_before if this_machine() == made_on() else alike
    assert [file for file in found if not same(file, found[file], before[file])] == []


def as_before(_: str, found: bytes, before: bytes) -> bool:
    return found == before


def numbers(release: str) -> list[int]:
    return [int(x) for x in release.split(".")[:2]]  # 2.13.0+cpu


def skip_unless_of_these_versions(request: Path) -> None:
    journal = json.loads(request.read_text(encoding="utf-8"))
    if json.loads(journal["versions"]) != [adabn_cli.__version__, version("torch")]:
        pytest.skip("a run is gone on with by the versions that began it")


def test_every_command_that_is_kept_is_run():
    assert {name.replace(" ", "_") for name in COMMANDS} == {
        path.name for path in EXPECTED.iterdir() if path.is_dir()
    }
