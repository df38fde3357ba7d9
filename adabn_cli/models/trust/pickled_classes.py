"""Where a trusted pickle's classes are found: where it names them, or in code the user named.

Saved again, they are named as the file named them, so that what loaded it loads the copy too.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from types import FunctionType, ModuleType
from typing import Any, ClassVar

from adabn_cli.errors import ModelError
from adabn_cli.models.trust.named_code import NamedCode

_SCRIPT = "__main__"


def looking_in(code: NamedCode | None, where: str) -> ModuleType:
    """`pickle`, as torch takes it, that looks in `code` for what is not there otherwise.

    What a script saved names `__main__`, which is another program here: that is looked up in `code`
    first. Loading raises ModelError for a class that is nowhere; what was found is saved under the
    name that the file has for it.
    """
    named: dict[int, tuple[str, str]] = {}

    def found_in_code(module: str, name: str) -> Any:
        found = _held(code, name)
        if found is not None:
            named[id(found)] = module, name
        return found

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str, /) -> Any:
            if module == _SCRIPT and (found := found_in_code(module, name)) is not None:
                return found
            try:
                return super().find_class(module, name)
            except (ImportError, AttributeError) as error:
                if (found := found_in_code(module, name)) is not None:
                    return found
                raise _not_found(module, name, error, where) from error

    looking = ModuleType("pickle")
    vars(looking).update(vars(pickle), Unpickler=Unpickler, Pickler=_naming(named))
    return looking


def _naming(named: Mapping[int, tuple[str, str]]) -> type[pickle._Pickler]:
    """A pickler that writes these objects, by their id, as globals of these modules and names."""

    # The one in C has no say in how a global is named.
    class Pickler(pickle._Pickler):
        def save_global(self, obj: Any, name: str | None = None) -> None:
            if id(obj) not in named:
                super().save_global(obj, name)  # type: ignore[misc]
                return
            names = "\n".join(named[id(obj)]).encode()
            self.write(pickle.GLOBAL + names + b"\n")  # type: ignore[attr-defined]
            self.memoize(obj)  # type: ignore[attr-defined]

        dispatch: ClassVar[dict[Any, Any]] = {
            **pickle._Pickler.dispatch,
            FunctionType: save_global,
        }

    return Pickler


def _held(code: NamedCode | None, name: str) -> Any:
    """The class of that name in the user's code; None if it has none."""
    held: Any = None if code is None else code.module
    for part in name.split("."):
        held = getattr(held, part, None)
    return held


def _not_found(module: str, name: str, error: Exception, where: str) -> ModelError:
    script = "--arch path/to/script.py:" + name.partition(".")[0]
    missing = (getattr(error, "name", None) or module).partition(".")[0]
    if module == _SCRIPT:
        cure = f"Name the script that defines it: {script}."
    elif isinstance(error, ModuleNotFoundError):
        cure = f"Run adabn in the folder that holds {missing}, install it, or give {script}."
    else:
        cure = f"Install the version of {missing} that it was saved with, or give {script}."
    return ModelError(
        f"The pickle needs {module}.{name}, which is not here: {error}.", where=where, hint=cure
    )
