"""The ranges in pyproject.toml are those that `make test-oldest` and `test-newest` run with."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


def declared(project: Path) -> Iterator[Requirement]:
    metadata = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    extras = metadata["optional-dependencies"]
    lists = [metadata["dependencies"], *(extras[name] for name in extras.keys() - {"dev"})]
    for text in (text for texts in lists for text in texts):
        requirement = Requirement(text)
        if requirement.name != metadata["name"]:
            yield requirement


def pinned(file: Path) -> dict[str, Version]:
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    pairs = (line.split("==") for line in lines)
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def test_the_oldest_versions_are_the_lower_bounds(project: Path) -> None:
    oldest = pinned(project / "constraints-oldest.txt")
    for requirement in declared(project):
        (bound,) = requirement.specifier
        assert bound.operator == ">=", requirement
        assert oldest[canonicalize_name(requirement.name)] == Version(bound.version), requirement


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-newest.txt"])
def test_every_requirement_is_pinned_within_its_range(project: Path, name: str) -> None:
    versions = pinned(project / name)
    for requirement in declared(project):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)])
