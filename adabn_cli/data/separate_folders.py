"""Whether a folder holds several targets, as one of each camera, that were pooled into one.

Told by names alone; opens nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from adabn_cli.text import first_few, one_line

#: A sub-folder with fewer pictures is a folder of pictures, not a target of its own.
_PICTURES_OF_A_TARGET = 8


def pooling_warning(
    pictures: Sequence[str], classes: Sequence[str] | None, outputs: int | None, name: str
) -> str | None:
    """What is said of the target called `name`, whose pictures have these paths and no labels.

    None if its sub-folders look like classes, or are too few or too small to be targets: if one of
    them is called like a class, or there are as many as the model has `outputs`. If it tells no
    classes apart, any folder may be one, and only names that differ by a number are told.
    """
    paths = [picture.split("/") for picture in pictures]
    if any(len(path) < 2 for path in paths):
        return None
    folders: dict[str, list[list[str]]] = {}
    for path in paths:
        folders.setdefault(path[0], []).append(path)
    is_class = {one.casefold() for one in classes or ()}
    if len(folders) in (0, 1, outputs) or any(folder.casefold() in is_class for folder in folders):
        return None
    alike = len({folder.strip("0123456789") for folder in folders}) == 1
    if not (alike or outputs) or not all(map(_is_target, folders.values())):
        return None
    return (
        f"{one_line(name)} holds {len(folders):,} folders that look like separate targets "
        f"({first_few(sorted(folders), 4)}); they were pooled into one run. Adapt to each by "
        "itself, one run per folder, unless they are one domain."
    )


def _is_target(paths: Sequence[Sequence[str]]) -> bool:
    """Whether pictures below one folder have class folders, or are many."""
    below = {path[1] for path in paths if len(path) > 2}
    return len(below) > 1 or len(paths) >= _PICTURES_OF_A_TARGET
