"""What differs between formats is said by a format: nobody compares their names.

A kind of thing that is listed in one place (formats, engines) is told apart by its properties.
Whoever compares its name with a text would have to be found again when one is added.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from adabn_cli.adaptation.engines import ENGINES
from adabn_cli.models.architectures.libraries import LIBRARIES
from adabn_cli.models.folders.known import FOLDERS
from adabn_cli.models.formats.known import FORMATS

PACKAGE = Path(__file__).resolve().parents[1] / "adabn_cli"

#: What is listed -> the names that nobody compares.
NAMES = {
    "engines": {*ENGINES},
    "formats": {name for known in FORMATS for name in (known.name, known.called) if name},
    "model folders": {kind.name for kind in FOLDERS},
    "libraries of architectures": {*LIBRARIES},
}
#: Where the list itself has the names as keys.
LISTS = {"engines": "adaptation/engines/__init__.py"}


def compared(node: ast.AST) -> Iterator[ast.AST]:
    """What a node of the syntax compares, or looks up by."""
    if isinstance(node, ast.Compare):
        yield from (node.left, *node.comparators)
    elif isinstance(node, ast.MatchValue):
        yield node.value
    elif isinstance(node, ast.Dict):
        yield from filter(None, node.keys)
    elif isinstance(node, ast.Subscript):
        yield node.slice


def texts(node: ast.AST) -> set[object]:
    """The texts that a node is, or holds in a tuple, a list or a set."""
    inner = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else [node]
    return {item.value for item in inner if isinstance(item, ast.Constant)}


def comparisons(source: str, names: set[str]) -> list[int]:
    """The lines that compare something with one of the names."""
    return [
        getattr(node, "lineno", getattr(part, "lineno", 0))
        for node in ast.walk(ast.parse(source))
        for part in compared(node)
        if texts(part) & names
    ]


@pytest.mark.parametrize("listed", NAMES)
def test_no_name_is_compared(listed: str) -> None:
    found = [
        f"{file.relative_to(PACKAGE)}:{line}"
        for file in sorted(PACKAGE.rglob("*.py"))
        if file != PACKAGE / LISTS.get(listed, "")
        for line in comparisons(file.read_text(encoding="utf-8"), NAMES[listed])
    ]
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        'x.format == "onnx"',
        'x in ("onnx", "other")',
        'match x:\n    case "onnx":\n        pass',
        'TABLE = {"onnx": 1}',
        'TABLE["onnx"]',
    ],
)
def test_a_comparison_is_found_in_every_form(source: str) -> None:
    assert comparisons(source, {"onnx"}) == [2 if source.startswith("match") else 1]
