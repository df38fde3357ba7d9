"""Which folder stands for a picture's class. What a class is called it has to ask."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ClassFolders:
    """The folder of every picture, None where it lies beside them, and all folders, sorted.

    `names` are also those of which no picture was drawn or readable: the classes must not depend
    on that.
    """

    names: tuple[str, ...]
    of_pictures: tuple[str | None, ...]


def find_class_folders(
    pictures: Sequence[str], listed: Collection[str], is_class: Callable[[str], bool]
) -> ClassFolders:
    """The folders at the top; below it where a single folder holds nothing but other folders.

    `listed` are all pictures of the source, `pictures` among them.
    """
    every = [name.split("/") for name in {*listed, *pictures}]
    depth = 0
    while True:
        names = {path[depth] for path in every if len(path) > depth + 1}
        wrapper = (
            len(names) == 1
            and not any(is_class(name) for name in names)
            and all(len(path) > depth + 2 for path in every)
        )
        if not wrapper:
            paths = [picture.split("/") for picture in pictures]
            here = (path[depth] if len(path) > depth + 1 else None for path in paths)
            return ClassFolders(tuple(sorted(names)), tuple(here))
        depth += 1
