"""Who may look into whom, read from the imports: docs/architecture.md as a table that is held."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "adabn_cli"

SPEECH = {"errors", "text"}
WORDS = SPEECH | {"dependence", "files", "machine", "model", "moments"}
WORDS |= {"preprocessing", "process_group", "ranks", "tensor_file", "version"}
METHOD = {"adaptation", "adaptation.engines", "adaptation.rules"}
PARTS = {"adaptation.engines", "data", "measures", "models"}

#: Room -> the rooms that it may import from, besides itself.
MAY_LOOK_INTO: dict[str, set[str]] = {
    **{word: set() for word in WORDS | {"torchvision_import"}},
    "files": SPEECH,
    "machine": {"errors"},
    "preprocessing": {"errors"},
    "tensor_file": {"errors"},
    "process_group": {"errors"},
    "model": {"moments", "preprocessing"},
    "record": {"errors", "files"},
    "normalizers": {"errors", "moments"},
    "adaptation.rules": {"model", "moments"},
    "adaptation": WORDS | {"adaptation.rules"},
    "adaptation.engines": WORDS | {"adaptation"},
    "models": WORDS | {"adaptation.rules", "torchvision_import"},
    "data": SPEECH | {"dependence", "model", "preprocessing", "ranks"},
    "measures": SPEECH | {"model", "moments", "ranks"},
    "jobs": WORDS | METHOD | PARTS | {"record"},
    "gates": SPEECH | {"measures", "record"},
    "reports": SPEECH | {"record"},
    "cli": WORDS | METHOD | PARTS | {"gates", "jobs", "record", "reports"},
    "__init__": {"adaptation", "jobs", "normalizers", "record", "torchvision_import", "version"},
    "__main__": {"cli"},
    "pytest_plugin": {"cli", "gates", "jobs", "record", "reports"} | SPEECH,
}

#: Inside a room, its folders from the bottom up: each may import from those before it only.
FOLDERS = {
    "cli": ("option_groups", "commands"),
    "data": ("tables", "readers", "truth"),
    "jobs": ("checks", "method", "results", "shards", "adapt", "live", "watch"),
    "models": (
        "trust",
        "containers",
        "architectures",
        "folders",
        "live",
        "graphs",
        "onnx",
        "formats",
    ),
    "reports": ("words", "terminal", "html"),
}
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def room_of(file: Path) -> str:
    return room_named(file.with_suffix("").parts)


def room_named(parts: Sequence[str]) -> str:
    """The smallest room of the table that a dotted name lies in; "" for none."""
    names = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    return next((name for name in names if name in MAY_LOOK_INTO), "")


def nodes(file: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse((PACKAGE / file).read_text(encoding="utf-8")))


def imports(file: Path, *, for_types: bool = True) -> set[str]:
    """Dotted names of all that a file imports, inside functions too, and perhaps for types."""
    tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
    left_out = () if for_types else [node for node in tree.body if is_for_types(node)]
    tree.body = [node for node in tree.body if node not in left_out]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are written out"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def module_of(file: Path) -> str:
    return ".".join(("adabn_cli", *file.with_suffix("").parts)).removesuffix(".__init__")


def rooms_seen(file: Path) -> set[str]:
    parts = [name.split(".") for name in imports(file)]
    seen = {room_named(names[1:]) for names in parts if names[0] == "adabn_cli"}
    return seen - {room_of(file), ""}


def outside(file: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(file)} - {"adabn_cli"}


def test_every_room_is_in_the_table() -> None:
    assert {room_of(file) for file in FILES} == MAY_LOOK_INTO.keys()


def test_every_room_is_in_the_wheel() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    rooms = {".".join(("adabn_cli", *file.parent.parts)) for file in FILES}
    packages = set(project["tool"]["setuptools"]["packages"])
    assert packages == rooms | {"adabn_cli.sample_data"}


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_go_down_only(file: Path) -> None:
    assert rooms_seen(file) <= MAY_LOOK_INTO[room_of(file)]


def test_no_module_needs_one_that_needs_it() -> None:
    modules = {module_of(file) for file in FILES}
    graph = {}
    for file in FILES:
        own = module_of(file)
        names = imports(file, for_types=False)
        found = {name if name in modules else name.rpartition(".")[0] for name in names}
        # Whoever imports a.b.c runs a.b first, unless it is inside a.b itself.
        packages = {package for name in found for package in above(name)} - {*above(own)}
        graph[own] = (found | packages) - {own}
    list(TopologicalSorter(graph).static_order())  # Raises CycleError, which names the cycle.


def above(module: str) -> list[str]:
    """The packages that a module is in."""
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


@pytest.mark.parametrize("room", FOLDERS)
def test_folders_of_a_room_import_from_those_below(room: str) -> None:
    order = FOLDERS[room]
    folders = {path.name for path in (PACKAGE / room).iterdir() if list(path.glob("*.py"))}
    assert set(order) == folders
    for file in FILES:
        if file.parts[0] == room and len(file.parts) > 2:
            names = [name.split(".") for name in imports(file)]
            seen = {parts[2] for parts in names if parts[:2] == ["adabn_cli", room]} & folders
            below = order[: order.index(file.parts[1]) + 1]
            assert seen <= set(below), file


def test_files_and_folders_are_small() -> None:
    for file in FILES:
        lines = (PACKAGE / file).read_text(encoding="utf-8").count("\n")
        assert lines <= 350, f"{file} has {lines} lines"
    for folder in {file.parent for file in FILES}:
        count = sum(file.parent == folder for file in FILES)
        assert count <= 16, f"{folder} has {count} files"


def test_no_file_only_forwards() -> None:
    for file in FILES:
        tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
        kinds = {type(node) for node in tree.body if not is_for_types(node)}
        if file.name != "__init__.py":
            assert kinds - {ast.Import, ast.ImportFrom, ast.Expr}, file


def test_parts_are_blind_to_each_other() -> None:
    assert not any(MAY_LOOK_INTO[part] & PARTS for part in PARTS)


def test_words_reports_and_the_door_do_without_torch() -> None:
    torch_free = SPEECH | {"cli", "gates", "record", "reports"}
    torch_free |= {"__init__", "__main__", "pytest_plugin"}
    heavy = {"torch", "torchvision", "timm", "numpy", "scipy"}
    assert not [file for file in FILES if room_of(file) in torch_free and outside(file) & heavy]


def test_only_the_door_and_the_reports_make_text_for_people() -> None:
    def prints(node: ast.AST) -> bool:
        return isinstance(node, ast.Name) and node.id == "print"

    quiet = [file for file in FILES if room_of(file) not in ("cli", "reports")]
    assert not [file for file in quiet if any(map(prints, nodes(file)))]
    assert not [file for file in quiet if outside(file) & {"rich", "typer", "logging"}]


def test_labels_reach_measures_and_jobs_only() -> None:
    blind = WORDS | METHOD | {"normalizers"}
    for file in FILES:
        if room_of(file) in blind:
            names = {getattr(node, "id", getattr(node, "arg", None)) for node in nodes(file)}
            assert not [name for name in names if name and "label" in name], file
        if room_of(file) not in ("jobs", "data"):
            assert not [name for name in imports(file) if "data.truth.labels" in name], file


@pytest.mark.parametrize("table", ["adaptation.engines.ENGINES"])
def test_extension_tables_name_modules_of_their_own_room(table: str) -> None:
    room, _, name = table.rpartition(".")
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
