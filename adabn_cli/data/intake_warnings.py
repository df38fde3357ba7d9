"""What of a target is worth a warning: files that were left out, folders that look like targets.

Told by names alone; opens nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from adabn_cli.data.picture_formats import DICOM_SUFFIXES
from adabn_cli.text import counted, first_few, one_line

#: Pictures and videos of kinds that nothing here decodes: telephones, cameras, editors, scanners.
_OTHER_KINDS = {
    *(".heic", ".heif", ".hif", ".jxl", ".jxr"),
    *(".cr2", ".cr3", ".crw", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2", ".raw"),
    *(".psd", ".psb", ".xcf", ".exr", ".hdr", ".tga", ".dds", ".svg", ".ico", ".eps", ".j2k"),
    *(".fits", ".nii", ".nrrd", ".mha", ".svs", ".ndpi", ".mrxs", ".czi", ".lif"),
    *(".wmv", ".flv", ".3gp", ".mts", ".m2ts", ".ts", ".ogv", ".vob"),
}
#: What lies beside pictures, often one for each, and is none.
_SIDECARS = {
    *(".txt", ".json", ".jsonl", ".csv", ".tsv", ".parquet", ".xml", ".yaml", ".yml", ".toml"),
    *(".cls", ".md", ".html", ".log", ".ini", ".cfg", ".py", ".ipynb", ".db", ".pdf"),
    *(".zip", ".tar", ".gz"),
}
#: Of files that are neither picture nor sidecar: a few happen, a tenth is a part of the data.
_LARGE_SHARE = 0.1
#: A sub-folder with fewer pictures is a folder of pictures, not a target of its own.
_PICTURES_OF_A_TARGET = 8


def left_out_warning(others: Mapping[str, int], taken: Counter[str], pictures: int) -> str | None:
    """What is said of files left out, counted by suffix; None where they are what one expects.

    `taken` are the suffixes of the pictures that were taken, `pictures` how many there are.
    """
    unread = {suffix: n for suffix, n in others.items() if suffix in _OTHER_KINDS}
    strange = {suffix: n for suffix, n in others.items() if suffix not in _SIDECARS}
    nameless = others.get("", 0) and any(taken[suffix] for suffix in DICOM_SUFFIXES)
    many = sum(strange.values()) > _LARGE_SHARE * (pictures + sum(strange.values()))
    if not (unread or nameless or many):
        return None
    n = sum(others.values())
    told = f"{n:,} {'file was' if n == 1 else 'files were'} left out, by suffix: {counted(others)}."
    if nameless:
        told += " DICOM files without a suffix are not taken: name them .dcm."
    if unread:
        told += f" {', '.join(sorted(unread))} cannot be read: convert them, for example to .png."
    return told


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
