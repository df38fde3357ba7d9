"""Builds every architecture of torchvision and timm without memory, and writes down its shapes.

    python scripts/build_architecture_index.py

Takes some minutes on one core. Run it when a library has new architectures.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import adabn_cli
from adabn_cli.models.architectures.index import FILE_NAME, Entry, document_of
from adabn_cli.models.architectures.libraries import LIBRARIES, Library, probe


def main() -> None:
    """Writes the index beside the module that reads it."""
    warnings.simplefilter("ignore")  # Builders warn of their own deprecations.
    entries = [entry for library in LIBRARIES.values() for entry in _entries(library)]
    document = document_of({name: version(name) for name in LIBRARIES}, entries)
    path = Path(adabn_cli.__file__).parent / "models" / "architectures" / FILE_NAME
    path.write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{len(entries)} architectures, {path.stat().st_size} bytes")


def _entries(library: Library) -> Iterator[Entry]:
    for name in library.indexed_names():
        parts = list(library.optional_parts(name))
        for present in (True, False) if parts else (True,):
            try:
                shapes, free = probe(library, name, dict.fromkeys(parts, present))
            except (TypeError, RuntimeError, ValueError, AssertionError) as error:
                print(f"left out: {library.package}:{name}: {error}", file=sys.stderr)
                continue
            yield Entry(f"{library.package}:{name}", shapes, frozenset(free))


if __name__ == "__main__":
    main()
