"""Commands run in this process."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from adabn_cli.cli.boundary import run


@dataclass(frozen=True)
class Finished:
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*os.environ]:
        if name.startswith("ADABN_") or name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "CI"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    """Runs a command line in this process."""

    def finished(*arguments: object) -> Finished:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return Finished(code, told.out, told.err)

    return finished
