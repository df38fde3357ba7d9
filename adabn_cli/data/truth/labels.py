"""A class for every picture, by its own label, folder names or a file, or why there is none.

Knows no model and opens no picture. N pictures, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adabn_cli.data.listing import Listing, Location
from adabn_cli.data.tables.columns import BY_HEADER, Columns
from adabn_cli.data.truth.class_map import known_classes
from adabn_cli.data.truth.class_rules import Assignment, KnownBy, Wording, assign
from adabn_cli.data.truth.classes import Classes, Order
from adabn_cli.data.truth.labels_file import read_labels_file, require_whole
from adabn_cli.data.truth.one_hot import assign_columns
from adabn_cli.text import count


@dataclass(frozen=True)
class LabelRequest:
    """Where labels come from and what is known of the classes.

    `root` is where the target's pictures are, for people; `mode` is "auto" (the pictures' own
    labels, else folder names), "none", or the path of a CSV file; `classes` are the model's, in the
    order of its `n_outputs` outputs. `listing` has all pictures, also those that were not drawn.
    `offset` is the number of the first class and `order` that of the folders, where it was said.
    `columns` is what was said of those of a table.
    """

    root: Location
    mode: str = "auto"
    classes: Sequence[str] | None = None
    n_outputs: int | None = None
    class_map: Path | None = None
    listing: Listing | None = None
    offset: int | None = None
    order: Order | None = None
    columns: Columns = BY_HEADER

    @property
    def listed(self) -> Mapping[str, str | None]:
        """All pictures that are listed, with their own labels."""
        pictures = self.listing.pictures if self.listing is not None else ()
        return {picture.name: picture.label for picture in pictures}


@dataclass(frozen=True, eq=False)
class Labels:
    """The class of each picture, int64 [N], -1 where it is unknown.

    `origin` is None where nothing is labelled; `notes` are sentences for the user, the reason for
    that among them; `classes` are the names that the indices refer to, where they are known.
    `known_by` says how they are classes, None where they are none. `natural` are the labels in
    natural order of the folders, where that is another one and nobody said which it is.
    """

    indices_N: NDArray[np.int64]
    origin: str | None
    notes: tuple[str, ...]
    classes: tuple[str, ...] | None
    known_by: KnownBy | None = None
    natural: Labels | None = None

    def unlabelled(self) -> Labels:
        """The same pictures without any label."""
        return Labels(np.full_like(self.indices_N, -1), None, self.notes, None)


def read_labels(pictures: Sequence[str], request: LabelRequest) -> Labels:
    """The labels of `pictures`, by their names, with "/" between folders.

    Raises TargetError where labels are there but do not fit the classes: guessing among them would
    make every accuracy wrong.
    """
    if request.mode == "none":
        note = "unlabeled: labels were switched off"
        return _labels([-1] * len(pictures), None, (note,), None)
    said = Classes(offset=request.offset, order=request.order)
    classes, notes = known_classes(request.classes, request.n_outputs, request.class_map, said)
    if request.mode != "auto":
        return _from_file(pictures, request, classes, notes)
    listed = request.listed
    if any(label is not None for label in listed.values()):
        return _of_pictures(pictures, request, classes, notes)
    folders = find_class_folders(pictures, listed, classes.knows)
    assigned = assign(folders.names, classes, str(request.root))
    beside = folders.of_pictures.count(None)
    if assigned.origin is not None and beside:
        notes += (f"{count(beside, 'picture')} next to the class folders: no label",)
    return _assigned(folders.of_pictures, assigned, notes)


def _from_file(
    pictures: Sequence[str], request: LabelRequest, classes: Classes, notes: tuple[str, ...]
) -> Labels:
    file = Path(request.mode)
    read = read_labels_file(file, pictures, request.listed, classes, request.columns)
    counted = f", counted from {classes.offset}" if classes.offset and read.counted else ""
    origin = f"labels file {file.name}{counted}"
    known_by: KnownBy = "number" if read.counted else "name"
    return _labels(read.indices, origin, notes + read.notes, read.classes, known_by)


def _of_pictures(
    pictures: Sequence[str], request: LabelRequest, classes: Classes, notes: tuple[str, ...]
) -> Labels:
    """The labels that pictures have of their own, by the rules of folder names."""
    listed, origin = request.listed, request.listing.labels_from if request.listing else ""
    texts = sorted({label for label in listed.values() if label is not None})
    where = str(request.root)
    columns = request.listing.one_hot if request.listing else ()
    if columns:
        assigned = assign_columns(columns, texts, classes, f"one-hot {origin}", where)
    else:
        require_whole(texts, classes, where)
        assigned = assign(texts, classes, where, Wording("label", origin, counted=True))
    own = [listed.get(picture) for picture in pictures]
    if assigned.origin is not None and (without := own.count(None)):
        notes += (f"{without} of {len(pictures)} pictures have no label in their source",)
    return _assigned(own, assigned, notes)


def _assigned(own: Sequence[str | None], assigned: Assignment, notes: tuple[str, ...]) -> Labels:
    """The labels of pictures by the folder, or label, that each has of its own."""
    labels = _labels(
        [-1 if text is None else assigned.index.get(text, -1) for text in own],
        assigned.origin,
        notes + assigned.notes,
        assigned.classes,
        assigned.known_by,
    )
    if assigned.natural is None:
        return labels
    return replace(labels, natural=_assigned(own, assigned.natural, notes))


def _labels(
    indices: Sequence[int],
    origin: str | None,
    notes: tuple[str, ...],
    classes: tuple[str, ...] | None,
    known_by: KnownBy | None = None,
) -> Labels:
    sentences = tuple(f"{note[0].upper()}{note[1:]}." for note in notes)
    indices_N = np.array(indices, dtype=np.int64)
    return Labels(indices_N, origin, sentences, classes, known_by if origin else None)


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

    `listed` are all pictures of the target, `pictures` among them.
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
