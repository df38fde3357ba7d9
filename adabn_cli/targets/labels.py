"""A class for every picture, by its source, folder names or a file, or why there is none.

Knows no model and opens no picture. N pictures, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adabn_cli.errors import TargetError
from adabn_cli.targets.class_folders import find_class_folders
from adabn_cli.targets.class_map import read_class_map
from adabn_cli.targets.class_names import Classes, NameTable
from adabn_cli.targets.folder_labels import Wording, assign
from adabn_cli.targets.labels_file import read_labels_file
from adabn_cli.targets.source import Location, Source


@dataclass(frozen=True)
class LabelRequest:
    """Where labels come from and what is known of the classes.

    `root` is where the target's pictures are, for people; `mode` is "auto" (the source's own
    labels, else folder names), "none", or the path of a CSV file; `classes` are the model's, in the
    order of its `n_outputs` outputs. `source` has all pictures, also those that were not drawn.
    """

    root: Location
    mode: str = "auto"
    classes: Sequence[str] | None = None
    n_outputs: int | None = None
    class_map: Path | None = None
    source: Source | None = None

    @property
    def listed(self) -> Mapping[str, str | None]:
        """All pictures of the source, with their own labels."""
        pictures = self.source.pictures if self.source is not None else ()
        return {picture.name: picture.label for picture in pictures}


@dataclass(frozen=True, eq=False)
class Labels:
    """The class of each picture, int64 [N], -1 where it is unknown.

    `source` is None where nothing is labelled; `notes` are sentences for the user, the reason for
    that among them; `classes` are the names that the indices refer to, where they are known.
    """

    indices_N: NDArray[np.int64]
    source: str | None
    notes: tuple[str, ...]
    classes: tuple[str, ...] | None


def read_labels(pictures: Sequence[str], request: LabelRequest) -> Labels:
    """The labels of `pictures`, by their names, with "/" between folders.

    Raises TargetError where labels are there but do not fit the classes: guessing among them would
    make every accuracy wrong.
    """
    if request.mode == "none":
        note = "unlabeled: labels were switched off"
        return _labels([-1] * len(pictures), None, (note,), None)
    classes, notes = _classes(request)
    if request.mode != "auto":
        return _from_file(pictures, request, classes, notes)
    listed = request.listed
    if any(label is not None for label in listed.values()):
        return _of_source(pictures, request, classes, notes)
    folders = find_class_folders(pictures, listed, classes.knows)
    assigned = assign(folders.names, classes, str(request.root))
    indices = [
        -1 if folder is None else assigned.index.get(folder, -1) for folder in folders.of_pictures
    ]
    beside = folders.of_pictures.count(None)
    if assigned.source is not None and beside:
        notes += (f"{beside} pictures lie beside the class folders and have no label",)
    return _labels(indices, assigned.source, notes + assigned.notes, assigned.classes)


def _from_file(
    pictures: Sequence[str], request: LabelRequest, classes: Classes, notes: tuple[str, ...]
) -> Labels:
    file = Path(request.mode)
    if not file.is_file():
        raise TargetError(
            "There is no such file of labels.",
            where=request.mode,
            hint="--labels takes auto, none or a CSV file with the header path,label.",
        )
    read = read_labels_file(file, pictures, request.listed, classes)
    names = classes.names.names if classes.names is not None else None
    return _labels(read.indices, f"labels file {file.name}", notes + read.notes, names)


def _of_source(
    pictures: Sequence[str], request: LabelRequest, classes: Classes, notes: tuple[str, ...]
) -> Labels:
    """The labels that the source has for its pictures, by the rules of folder names."""
    listed, origin = request.listed, request.source.labels_from if request.source else ""
    texts = sorted({label for label in listed.values() if label is not None})
    assigned = assign(texts, classes, str(request.root), Wording("label", origin, counted=True))
    own = [listed.get(picture) for picture in pictures]
    indices = [-1 if label is None else assigned.index.get(label, -1) for label in own]
    if assigned.source is not None and (without := own.count(None)):
        notes += (f"{without} of {len(pictures)} pictures have no label in their source",)
    return _labels(indices, assigned.source, notes + assigned.notes, assigned.classes)


def _labels(
    indices: Sequence[int],
    source: str | None,
    notes: tuple[str, ...],
    classes: tuple[str, ...] | None,
) -> Labels:
    sentences = tuple(f"{note[0].upper()}{note[1:]}." for note in notes)
    return Labels(np.array(indices, dtype=np.int64), source, sentences, classes)


def _classes(request: LabelRequest) -> tuple[Classes, tuple[str, ...]]:
    """What the model and the class map say together, and what is wrong with the model's word."""
    names, count = request.classes, request.n_outputs
    notes: tuple[str, ...] = ()
    if names is not None and count is not None and len(names) != count:
        notes = (f"the model names {len(names)} classes and has {count} outputs: names unused",)
        names = None
    if request.class_map is None:
        return _known(names, count), notes
    where = str(request.class_map)
    read = read_class_map(request.class_map)
    if read.names is not None:
        if count is not None and len(read.names) != count:
            raise TargetError(
                f"The class map names {len(read.names)} classes, the model has {count} outputs.",
                where=where,
                hint="Write one name for each output, in the order of the outputs.",
            )
        return _known(read.names, count), ()
    known = _known(names, count)
    try:
        mapped = {folder: known.index(name) for folder, name in read.pairs}
    except ValueError as error:
        hint = "Give class names of the model, or indices from 0."
        raise TargetError(
            f"The class map cannot be used: {error}.", where=where, hint=hint
        ) from error
    return Classes(known.count, known.names, mapped), notes


def _known(names: Sequence[str] | None, count: int | None) -> Classes:
    if names is None:
        return Classes(count)
    return Classes(len(names), NameTable(names))
