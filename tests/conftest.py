"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

import adabn_cli  # noqa: F401 - its import hook has to be there before a test imports torchvision

PROJECT = Path(__file__).resolve().parents[1]

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
