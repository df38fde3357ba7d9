"""Who may look into whom, read from the imports: docs/architecture.md as a table that is held."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "adabn_cli"

SPEECH = {"errors", "printable"}
WORDS = SPEECH | {"batch", "files", "histogram", "model", "moments", "outputs"}
WORDS |= {"process_group", "ranks"}
RULES = {"adaptation", "fingerprint", "normalizers", "packs", "profiles"}
PARTS = {"checkpoints", "engines", "measures", "targets"}

#: Room -> the rooms that it may import from, besides itself.
MAY_LOOK_INTO: dict[str, set[str]] = {
    **{word: set() for word in WORDS | {"record", "torchvision_import"}},
    "files": SPEECH,
    "histogram": {"moments"},
    "process_group": {"errors"},
    "model": {"moments", "outputs"},
    "batch": {"outputs"},
    "normalizers": WORDS,
    "fingerprint": WORDS,
    "profiles": WORDS | {"fingerprint"},
    "adaptation": WORDS | {"normalizers", "profiles"},
    "packs": WORDS | {"fingerprint"},
    "checkpoints": WORDS | {"normalizers", "torchvision_import"},
    "targets": SPEECH | {"batch", "model", "outputs", "ranks"},
    "engines": WORDS | {"adaptation"},
    "measures": SPEECH | {"moments", "outputs", "ranks"},
    "workflows": WORDS | RULES | PARTS | {"record"},
    "renderers": SPEECH | {"record"},
    "cli": WORDS | RULES | PARTS | {"record", "renderers", "workflows"},
    "__init__": {"normalizers", "profiles", "record", "torchvision_import", "workflows"},
    "__main__": {"cli"},
    "pytest_plugin": {"cli", "record", "renderers", "workflows"} | SPEECH,
}
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def room_of(file: Path) -> str:
    return file.with_suffix("").parts[0]


def nodes(file: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse((PACKAGE / file).read_text(encoding="utf-8")))


def imports(file: Path) -> set[str]:
    """Dotted names of all that a file imports, inside functions and for types too."""
    found = set()
    for node in nodes(file):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are written out"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms_seen(file: Path) -> set[str]:
    parts = [name.split(".") for name in imports(file)]
    seen = {names[1] for names in parts if names[0] == "adabn_cli" and len(names) > 1}
    return seen & MAY_LOOK_INTO.keys() - {room_of(file)}


def outside(file: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(file)} - {"adabn_cli"}


def test_every_room_is_in_the_table() -> None:
    assert {room_of(file) for file in FILES} == MAY_LOOK_INTO.keys()


def test_every_room_is_in_the_wheel() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    rooms = {file.parent.name for file in FILES if file.parent.name}
    packages = {
        name.removeprefix("adabn_cli.") for name in project["tool"]["setuptools"]["packages"]
    }
    assert packages == rooms | {"adabn_cli", "sample_data"}


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_go_down_only(file: Path) -> None:
    assert rooms_seen(file) <= MAY_LOOK_INTO[room_of(file)]


def test_parts_are_blind_to_each_other() -> None:
    assert not any(MAY_LOOK_INTO[part] & PARTS for part in PARTS)


def test_words_renderers_and_the_door_do_without_torch() -> None:
    torch_free = SPEECH | {"record", "renderers", "cli", "pytest_plugin", "__init__", "__main__"}
    heavy = {"torch", "torchvision", "timm", "numpy", "scipy"}
    assert not [file for file in FILES if room_of(file) in torch_free and outside(file) & heavy]


def test_only_the_door_and_the_renderers_make_text_for_people() -> None:
    def prints(node: ast.AST) -> bool:
        return isinstance(node, ast.Name) and node.id == "print"

    quiet = [file for file in FILES if room_of(file) not in ("cli", "renderers")]
    assert not [file for file in quiet if any(map(prints, nodes(file)))]
    assert not [file for file in quiet if outside(file) & {"rich", "typer", "logging"}]


def test_labels_reach_measures_and_workflows_only() -> None:
    blind = WORDS | RULES | {"engines"}
    for file in FILES:
        if room_of(file) in blind:
            names = {getattr(node, "id", getattr(node, "arg", None)) for node in nodes(file)}
            assert not [name for name in names if name and "label" in name], file
        if room_of(file) not in ("workflows", "targets"):
            assert not [name for name in imports(file) if "targets.labels" in name], file


@pytest.mark.parametrize(
    "table", ["checkpoints.FORMATS", "normalizers.NORMALIZERS", "engines.ENGINES"]
)
def test_extension_tables_name_modules_of_their_own_room(table: str) -> None:
    room, name = table.split(".")
    entries = getattr(importlib.import_module(f"adabn_cli.{room}"), name)
    for module in entries.values():
        assert module.startswith(f"adabn_cli.{room}.")
        importlib.import_module(module)


def test_the_door_opens_without_torch() -> None:
    script = "import sys, adabn_cli.cli.app; print({'torch', 'numpy', 'scipy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"
