"""Python code that the command line names, as package.module:CALLABLE or path/to/file.py:CALLABLE.

Knows modules and files; knows no network and no checkpoint, and imports nothing that one names.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType

from adabn_cli.errors import UsageError

_FORMS = "package.module:CALLABLE or path/to/file.py:CALLABLE"
_SHOWN = 3
_LOADED_AS = "_adabn_arch_"


@dataclass(frozen=True)
class NamedCode:
    """A callable in a module or in a file, imported when it is first asked for.

    Raises UsageError if it cannot be imported, and if there is no such callable in it.
    """

    where: str
    callee: str

    @property
    def spec(self) -> str:
        """As --arch names it."""
        return f"{self.where}:{self.callee}"

    @cached_property
    def module(self) -> ModuleType:
        """The module, run once."""
        try:
            if self.where.endswith(".py"):
                return _module_of_file(Path(self.where))
            with imports_from(Path.cwd()):
                return importlib.import_module(self.where)
        except (Exception, SystemExit) as error:  # The user's own code runs here.
            reason = " ".join(str(error).split())
            raise UsageError(
                f"{self.where} cannot be imported: {type(error).__name__}: {reason}.",
                where=f"--arch {self.spec}",
                hint=_cure(error, self.where),
            ) from error

    @cached_property
    def callable(self) -> Callable[..., object]:
        """The class or function."""
        found = getattr(self.module, self.callee, None)
        if callable(found):
            return found  # type: ignore[no-any-return]
        names = [key for key, value in vars(self.module).items() if callable(value)]
        near = difflib.get_close_matches(self.callee, names, _SHOWN)
        raise UsageError(
            f'There is no callable "{self.callee}" in '
            f"{self.module.__name__.removeprefix(_LOADED_AS)}.",
            where=f"--arch {self.spec}",
            hint=f"Did you mean {', '.join(near)}?" if near else "Name a class or function in it.",
        )


def _cure(error: BaseException, where: str) -> str:
    """What to do about an error of importing."""
    missing = (getattr(error, "name", None) or "").partition(".")[0]
    if isinstance(error, FileNotFoundError) or (missing and missing == where.partition(".")[0]):
        return f"Write --arch as {_FORMS}; both are looked for from the current folder."
    if isinstance(error, ModuleNotFoundError) and missing:
        return f"Install {missing}, or run adabn in the folder that holds it."
    if isinstance(error, SystemExit):
        return 'Put what it does as a program under if __name__ == "__main__":.'
    return "Mend that code: it has to be importable by itself."


@contextmanager
def imports_from(folder: Path, *, first: bool = False) -> Iterator[None]:
    """Lets imports find what is in `folder`: before all else, or if nothing else has it."""
    before = list(sys.path)
    sys.path.insert(0 if first else len(sys.path), str(folder))
    try:
        yield
    finally:
        sys.path[:] = before


def _module_of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError("there is no such file")
    folder = path.resolve().parent
    with imports_from(folder, first=True), imports_from(Path.cwd()):
        levels = _levels_up(path)
        return _part_of_package(path.resolve(), levels) if levels else _alone(path)


def _alone(path: Path) -> ModuleType:
    name = f"{_LOADED_AS}{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Dataclasses look their module up while they are made.
    spec.loader.exec_module(module)
    return module


def _levels_up(path: Path) -> int:
    """How many folders up the file's own relative imports reach: 1 for `from .blocks import X`."""
    tree = ast.parse(path.read_bytes(), filename=str(path))
    return max(
        (node.level for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)), default=0
    )


def _part_of_package(path: Path, levels: int) -> ModuleType:
    """The file as the module that its package has it as; the package runs too."""
    root = path.parents[levels - 1]
    while (root / "__init__.py").is_file() and (root.parent / "__init__.py").is_file():
        root = root.parent
    name = ".".join(path.relative_to(root.parent).with_suffix("").parts)
    with imports_from(root.parent, first=True):
        importlib.invalidate_caches()
        module = importlib.import_module(name)
    if module.__file__ is None or not path.samefile(module.__file__):
        raise ImportError(f"another package is called {root.name} too: {module.__file__}")
    return module
