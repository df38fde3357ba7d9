"""Which folder stands for a picture's class. What a class is called it has to ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from adabn_cli.targets.listing import picture_folders


@dataclass(frozen=True)
class ClassFolders:
    """The folder of every picture, None where it lies beside them, and all folders, sorted.

    `names` are also those on disk of which no picture was drawn or readable: the classes must not
    depend on that.
    """

    names: tuple[str, ...]
    of_pictures: tuple[str | None, ...]


def find_class_folders(
    pictures: Sequence[str], root: Path, is_class: Callable[[str], bool]
) -> ClassFolders:
    """The folders at the top; below it where a single folder holds nothing but other folders."""
    paths = [picture.split("/") for picture in pictures]
    depth = 0
    while True:
        above = paths[0][:depth] if paths else []
        here = [path[depth] if len(path) > depth + 1 else None for path in paths]
        names = {name for name in here if name is not None}
        names |= picture_folders(root.joinpath(*above))
        wrapper = (
            len(names) == 1
            and not any(is_class(name) for name in names)
            and all(len(path) > depth + 2 for path in paths)
        )
        if not wrapper:
            return ClassFolders(tuple(sorted(names)), tuple(here))
        depth += 1
