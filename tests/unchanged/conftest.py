"""A folder with pictures and what is given, in which commands run as users run them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # For what lies beside this file: no package holds the tests.


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures, laid out once."""
    from pictures import lay_out

    folder = tmp_path_factory.mktemp("pictures")
    lay_out(folder)
    return folder


@pytest.fixture
def workplace(in_an_empty_folder: None, pictures: Path, tmp_path: Path) -> Path:
    """The current folder: links to the pictures and to given/, and what a stopped run left."""
    for path in (*pictures.iterdir(), HERE / "given"):
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The order of float sums follows threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
