"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import adabn_cli  # noqa: F401 - its import hook has to be there before a test imports torchvision

PROJECT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Finished:
    """What a command came to: its exit code, stdout and stderr."""

    code: int
    out: str
    err: str


sys.path.insert(0, str(Path(__file__).parent))  # For what lies beside this file.


# A shell that starts the tests in the background has them ignore Ctrl-C, and their children too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# pytest-xdist tells its workers how wide its own terminal is; what the tests print into is none.
os.environ.pop("COLUMNS", None)


@pytest.fixture(scope="session")
def project() -> Path:
    """The project's root."""
    return PROJECT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real digits and third-party checkpoints that lie beside the project; skips without them."""
    folder = PROJECT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside the project")
    return folder


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """The sample data that ships with the project."""
    return PROJECT / "sample_data"


@pytest.fixture
def in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Commands see no settings of this machine, and write into a folder of the test's own."""
    for name in [*os.environ]:
        if name.startswith("ADABN_") or name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "CI"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    """Runs a command line in this process."""
    from adabn_cli.cli.boundary import run

    def finished(*arguments: object) -> Finished:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return Finished(code, told.out, told.err)

    return finished
