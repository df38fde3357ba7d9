"""A run of the sample data that tests of commands share."""

from __future__ import annotations

from pathlib import Path

import pytest

from adabn_cli.cli.boundary import run


@pytest.fixture(autouse=True)
def _alone(in_an_empty_folder: None) -> None:
    """Every command here runs so."""


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
