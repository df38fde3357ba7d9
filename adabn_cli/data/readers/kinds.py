"""Which kind of target a path is, and its pictures. Opens no picture.

Told by the path alone: a URL, a folder, a file by its suffix, a pattern; `--target-format` says it
where that fails.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path

from adabn_cli.data.folder_files import is_ignored
from adabn_cli.data.listing import Listing, Location, PathList
from adabn_cli.data.picture_formats import picture_suffixes
from adabn_cli.data.readers import video
from adabn_cli.data.readers.folder_metadata import has_metadata
from adabn_cli.data.readers.tar import SUFFIXES, is_shard
from adabn_cli.data.tables.columns import BY_HEADER, Columns
from adabn_cli.errors import TargetError, UsageError
from adabn_cli.text import one_line

#: What `--target-format` takes -> the module whose `read(location)` gives the pictures; of
#: a `TABLE` or `LIST` it takes what was said of the columns too.
READERS = {
    "folder": "adabn_cli.data.readers.folder",
    "imagefolder": "adabn_cli.data.readers.folder_metadata",
    "list": "adabn_cli.data.readers.path_list",
    "glob": "adabn_cli.data.readers.path_pattern",
    "csv": "adabn_cli.data.readers.manifest",
    "tsv": "adabn_cli.data.readers.manifest",
    "parquet": "adabn_cli.data.readers.parquet",
    "remote": "adabn_cli.data.readers.remote",
    "video": "adabn_cli.data.readers.video",
    "tar": "adabn_cli.data.readers.tar",
}

TABLES = frozenset({"csv", "tsv", "parquet", "imagefolder"})
LIST = "list"

_SUFFIXES = {
    ".txt": "list",
    ".lst": "list",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    **dict.fromkeys(sorted(video.SUFFIXES), "video"),
}


def list_pictures(
    location: Location,
    kind: str | None = None,
    stride: int = 1,
    columns: Columns = BY_HEADER,
) -> Listing:
    """All pictures there, sorted by name; of videos every frame whose number `stride` divides.

    Raises TargetError where there is none, or it cannot be read; UsageError for a `kind`
    that is none.
    """
    try:
        kind = kind_of(location, kind, columns)
        module = import_module(READERS[kind])
        listed = kind == LIST or kind in TABLES
        listing: Listing = module.read(location, *([columns] if listed else []))
    except OSError as error:
        raise TargetError(
            f"The pictures cannot be read: {error.strerror or error}.",
            where=str(location),
            hint="Check the path and its permissions.",
        ) from error
    if not listing.pictures and not listing.skipped:
        raise _no_picture(listing, location)
    if stride == 1:
        return listing
    taken = (one for one in listing.pictures if one.frame is None or one.frame % stride == 0)
    return replace(listing, pictures=tuple(taken))


def kind_of(location: Location, said: str | None = None, columns: Columns = BY_HEADER) -> str:
    """What the location is, one of `READERS`: as it was said, or as the path tells.

    Raises UsageError for what is none, TargetError where the path does not tell.
    """
    if said is not None:
        if said not in READERS:
            raise UsageError(
                f"--target-format {said} is unknown.", hint=f"It takes {', '.join(READERS)}."
            )
        return said
    if isinstance(location, PathList):
        return LIST
    text, path = str(location), Path(location)
    if "://" in text:
        return "remote"
    if path.is_file():
        return _kind_of_file(path)
    if not path.is_dir() and any(letter in text for letter in "*?[{"):
        return "tar" if is_shard(path) else "glob"
    return _kind_of_folder(path, columns)


def _kind_of_file(file: Path) -> str:
    kind = "tar" if is_shard(file) else _SUFFIXES.get(file.suffix.lower())
    if kind is None:
        raise TargetError(
            "This is a file, not a folder or a list of pictures.",
            where=str(file),
            hint=f"Give a folder, or a file of a known kind: {' '.join([*_SUFFIXES, *SUFFIXES])}.",
        )
    return kind


def _kind_of_folder(folder: Path, columns: Columns) -> str:
    if not folder.is_dir():
        return "folder"  # Which says in the system's words why it cannot be read.
    if _holds_shards_alone(folder):
        return "tar"
    return "imagefolder" if has_metadata(folder, columns) else "folder"


def _holds_shards_alone(folder: Path) -> bool:
    """Whether there are tar files in a folder and neither pictures nor folders."""
    entries = [entry for entry in folder.iterdir() if not is_ignored(entry.name)]
    suffixes = picture_suffixes()
    others = (entry.suffix.lower() in suffixes or entry.is_dir() for entry in entries)
    return any(map(is_shard, entries)) and not any(others)


def _no_picture(listing: Listing, location: Location) -> TargetError:
    others = sorted(listing.other_suffixes.items(), key=lambda item: (-item[1], item[0]))[:3]
    seen = ", ".join(f"{count} {one_line(suffix) or 'without suffix'}" for suffix, count in others)
    return TargetError(
        f"There is no picture here ({listing.kind}{f'; files: {seen}' if seen else ''}).",
        where=str(location),
        hint=f"Give pictures. Suffixes: {' '.join(sorted(picture_suffixes()))}.",
    )
