"""The pictures below a folder, in a fixed order. Tells them by suffix and opens none.

Hidden files and folders and `__MACOSX` are ignored. Links to folders are followed, but never into
a folder that is being listed already.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from adabn_cli.data.picture_formats import picture_suffixes
from adabn_cli.text import valid_text


@dataclass(frozen=True)
class PictureFile:
    """A file that looks like a picture: its name for people, and where to open it."""

    name: str
    file: Path


@dataclass(frozen=True)
class SkippedPicture:
    """A picture, or a folder of them, that could not be read, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class FolderFiles:
    """What lies below a folder; `other_suffixes` counts the files that are no pictures."""

    pictures: tuple[PictureFile, ...]
    skipped: tuple[SkippedPicture, ...]
    other_suffixes: Counter[str]


@dataclass
class _Walk:
    suffixes: frozenset[str]
    pictures: list[PictureFile] = field(default_factory=list)
    skipped: list[SkippedPicture] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    def folder(self, folder: Path, prefix: str, above: frozenset[tuple[int, int]]) -> None:
        """Adds all that lies below `folder`; raises OSError where it cannot be listed."""
        here = _identity(folder)
        if here in above:  # A link back to where we came from: these pictures are listed already.
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                if not is_ignored(entry.name):
                    self._entry(entry, prefix, above | {here})

    def _entry(
        self, entry: os.DirEntry[str], prefix: str, above: frozenset[tuple[int, int]]
    ) -> None:
        path = Path(entry.path)
        name = prefix + valid_text(entry.name)
        if _is_folder(entry):
            try:
                self.folder(path, name + "/", above)
            except OSError as error:
                self.skipped.append(SkippedPicture(name + "/", f"folder: {_cause(error)}"))
            return
        suffix = path.suffix.lower()
        if suffix not in self.suffixes:
            self.others[suffix] += 1
        elif reason := _why_no_file(path):
            self.skipped.append(SkippedPicture(name, reason))
        else:
            self.pictures.append(PictureFile(name, path))


def files_below(root: Path, suffixes: frozenset[str] | None = None) -> FolderFiles:
    """Every picture below `root`, sorted by name, and what had to be left out.

    `suffixes` are those of the files that are taken, by default those of pictures.

    Raises OSError where `root` itself cannot be listed.
    """
    walk = _Walk(suffixes if suffixes is not None else picture_suffixes())
    walk.folder(root, "", frozenset())
    return FolderFiles(
        tuple(sorted(walk.pictures, key=lambda picture: picture.name)),
        tuple(sorted(walk.skipped, key=lambda picture: picture.path)),
        walk.others,
    )


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def is_ignored(name: str) -> bool:
    """Whether a file or folder of that name is left out: hidden ones, and what macOS adds."""
    return name.startswith(".") or name == "__MACOSX"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link that leads round in a circle.
        return False


def _why_no_file(path: Path) -> str:
    """Why this is no file to open, empty where it is one: a pipe would block for ever."""
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        return _cause(error)
    return "" if regular else "neither a file nor a folder"


def _cause(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)
