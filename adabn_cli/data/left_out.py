"""Which of the files that a source left out are worth a warning. Opens none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from adabn_cli.data.picture_formats import DICOM_SUFFIXES
from adabn_cli.text import counted

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


def warning_of(others: Mapping[str, int], taken: Counter[str], pictures: int) -> str | None:
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
