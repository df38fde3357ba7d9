"""Plain English: phrases that are hard to read do not come back, on pages or in what is printed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PAGES = [
    PROJECT / "README.md",
    PROJECT / "CONTRIBUTING.md",
    *sorted((PROJECT / "docs").glob("*.md")),
]
CODE = [
    file
    for file in sorted((PROJECT / "adabn_cli").rglob("*.py"))
    if "cli/" not in str(file.relative_to(PROJECT / "adabn_cli"))
]

#: A phrase as a pattern -> what is said instead.
PHRASES = {
    r"held against|holds? (it|them|both|the run) against": "compared with",
    r"(is|are) told by": "is recognized from",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bbehind (it|a|the|every|each)\b": "after",
    r"\bbeside (a|the|its|it|them|those)\b": "next to",
    r"\b[Ww]here (there (is|are)|nobody|one fails) ": "if",
    r"(?<!here )\b(is|are) no (class|file|folder|model|number|pack|picture|tensor)(e?s)?\b": "not",
    r"\bone (row|line|file|case|test|object) a\b|\ba (row|line|file|command|gate|test) a\b": "per",
}

#: Printed sentences that are part of `run.json`, whose bytes do not change, and names of data.
KEPT = ("beside the model",)


def printed(file: Path) -> Iterator[str]:
    """The string literals of a file that a person may read: no docstring, no single word."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in docstrings and " " in node.value:
            yield node.value


def found(text: str) -> list[str]:
    for kept in KEPT:
        text = text.replace(kept, "")
    return [
        f"{match[0]!r}: say {better!r}"
        for phrase, better in PHRASES.items()
        for match in re.finditer(phrase, text)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_in_plain_english(page: Path) -> None:
    assert not found(page.read_text(encoding="utf-8"))


def test_what_is_printed_is_in_plain_english() -> None:
    assert not [
        f"{file.relative_to(PROJECT)}: {text!r}: {problem}"
        for file in CODE
        for text in printed(file)
        for problem in found(text)
    ]
