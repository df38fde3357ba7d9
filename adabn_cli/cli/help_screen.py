"""Typer's renderer of help, imported without the parts of Rich that ours never draws with."""

from __future__ import annotations

import sys
from collections.abc import Collection
from importlib import import_module
from types import ModuleType

# Typer imports them for help written in Markdown and for its own tracebacks, which are off. They
# bring a Markdown parser and a syntax highlighter: 80 of the 225 ms that `adabn --help` takes.
_NEVER_DRAWN = {"rich.markdown": "Markdown", "rich.traceback": "Traceback"}


def import_renderer(arguments: Collection[str]) -> None:
    """Imports it where the arguments ask for help; changes nothing where it is there already."""
    if (arguments and not {"-h", "--help"} & set(arguments)) or "typer.rich_utils" in sys.modules:
        return
    absent = [name for name in _NEVER_DRAWN if name not in sys.modules]
    for name in absent:
        stand_in = ModuleType(name)
        setattr(stand_in, _NEVER_DRAWN[name], type(_NEVER_DRAWN[name], (), {}))
        sys.modules[name] = stand_in
    try:
        import_module("typer.rich_utils")
    finally:
        for name in absent:
            del sys.modules[name]
