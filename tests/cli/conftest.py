"""A run of the sample data that tests of commands share, and commands run in this process."""

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


Command = Callable[..., Finished]


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*os.environ]:
        if name.startswith("ADABN_") or name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "CI"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command line in this process."""

    def finished(*arguments: object) -> Finished:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return Finished(code, told.out, told.err)

    return finished


@pytest.fixture(scope="session")
def sample_model(sample_data: Path) -> Path:
    return sample_data / "digits_bn.pt"


@pytest.fixture(scope="session")
def sample_run(
    sample_data: Path, sample_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The sample model adapted to all of the sample target, verified."""
    folder = tmp_path_factory.mktemp("sample") / "run"
    target = sample_data / "target"
    assert run(["adapt", str(sample_model), "-t", str(target), "-o", str(folder), "--verify"]) == 0
    return folder


@pytest.fixture(scope="session")
def few_pictures(sample_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures of each class, in class folders."""
    folder = tmp_path_factory.mktemp("few") / "digits"
    for source in sorted((sample_data / "target").iterdir()):
        (folder / source.name).mkdir(parents=True)
        for picture in sorted(source.iterdir())[:4]:
            (folder / source.name / picture.name).write_bytes(picture.read_bytes())
    return folder
