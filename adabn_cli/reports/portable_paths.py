"""A record whose absolute paths are relative to its run, for renderings that are committed.

They are the same then on every machine that did the same work. Knows the record alone, no disk.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from adabn_cli.record import Record


def portable(record: Record) -> Record:
    """The record with the paths of model, target, profile, baseline and run made relative.

    To the run's folder; where that is not known in full, their names alone are left.
    """
    folder = record.run.folder
    shown = {path: _shown(path, folder) for path in _paths(record) if PurePath(path).is_absolute()}
    if not shown:
        return record
    longest = sorted(shown, key=len, reverse=True)
    known = re.compile(rf"(?<![\w./-])(?:{'|'.join(map(re.escape, longest))})(?![\w-])")
    return Record.model_validate(_replaced(record.model_dump(), known, shown))


def _paths(record: Record) -> set[str]:
    profile, held_out, baseline = record.method.profile, record.held_out, record.baseline
    known = {
        *(record.model.path, record.target.path, record.run.folder),
        profile.path if profile else None,
        held_out.path if held_out else None,
        baseline.path if baseline else None,
        record.model.architecture.rpartition(":")[0],  # Of --arch FILE:NAME.
    }
    return {path for path in known if path}


def _shown(path: str, folder: str | None) -> str:
    if path == folder:
        return PurePath(path).name
    if folder is not None and PurePath(folder).is_absolute():
        return os.path.relpath(path, folder)
    return f"…/{PurePath(path).name}"


def _replaced(value: Any, known: re.Pattern[str], shown: Mapping[str, str]) -> Any:
    """Every text in it with the known paths as they are shown."""
    if isinstance(value, str):
        return known.sub(lambda found: shown[found[0]], value)
    if isinstance(value, dict):
        return {key: _replaced(one, known, shown) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(one, known, shown) for one in value]
    return value
