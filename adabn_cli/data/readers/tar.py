"""Tar files, as webdataset writes them: `key.jpg` beside `key.cls` or `key.json`.

They are read where they are and never unpacked; a member's name is text and opens nothing on disk.
"""

from __future__ import annotations

import io
import json
import lzma
import posixpath
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from adabn_cli.data.folder_files import SkippedPicture, is_ignored
from adabn_cli.data.listing import Listing, Location, Picture, Turn
from adabn_cli.data.picture_formats import picture_suffixes
from adabn_cli.data.readers.path_pattern import is_pattern, matches
from adabn_cli.data.readers.reader import Reader
from adabn_cli.data.tables.columns import Columns
from adabn_cli.errors import TargetError
from adabn_cli.text import one_line, valid_text

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

# What a reader of hostile bytes may raise besides OSError.
_BROKEN = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError)
_LABEL_BYTES = 1 << 20
_AT_ONCE = 1 << 20
_LABEL_KEYS = ("label", "cls", "class")


def is_shard(file: Path) -> bool:
    """Whether the name is that of a tar file."""
    return file.name.lower().endswith(SUFFIXES)


def read(location: Location, _: Columns) -> Listing:
    """The pictures of a tar file, of all in a folder, or of those that a pattern matches.

    Names that several shards have begin with the shard's. Raises TargetError for a shard that is
    cut off or no tar file.
    """
    root, files = _files(Path(str(location)))
    shards = [_Shard(file, valid_text(file.relative_to(root))).read() for file in files]
    names = Counter(picture.name for shard in shards for picture in shard.pictures)
    if any(n > 1 for n in names.values()):
        for shard in shards:
            shard.put_name_in_front()
    return Listing(
        kind=f"{len(shards)} tar shard{'s' if len(shards) > 1 else ''}",
        pictures=[picture for shard in shards for picture in shard.pictures],
        skipped=[lost for shard in shards for lost in shard.skipped],
        other_suffixes=sum((shard.others for shard in shards), Counter()),
        labels_from="labels in the shards",
    )


def recognizes(location: Location, _: Columns) -> bool:
    """Whether it is a pattern of tar files, or a folder of them without pictures or folders."""
    path = Path(str(location))
    if not path.is_dir():
        return is_pattern(location) and is_shard(path)
    entries = [entry for entry in path.iterdir() if not is_ignored(entry.name)]
    suffixes = picture_suffixes()
    others = (entry.suffix.lower() in suffixes or entry.is_dir() for entry in entries)
    return any(map(is_shard, entries)) and not any(others)


def _files(path: Path) -> tuple[Path, list[Path]]:
    if path.is_dir():
        return path, sorted(file for file in path.iterdir() if is_shard(file))
    if path.is_file():
        return path.parent, [path]
    return matches(str(path))


class _TarReel:
    """A compressed tar file, which is read from front to back."""

    def __init__(self, file: Path) -> None:
        self.name = str(file)
        self._tar: tarfile.TarFile | None = None

    def open(self, member: tarfile.TarInfo) -> BinaryIO:
        if self._tar is None:
            self._tar = tarfile.open(self.name, "r:*")  # noqa: SIM115 (until it is closed)
        return _contents(self._tar, member)

    def close(self) -> None:
        if self._tar is not None:
            self._tar.close()
            self._tar = None


@dataclass
class _Shard:
    """What is in a tar file."""

    file: Path
    name: str
    pictures: list[Picture] = field(default_factory=list)
    skipped: list[SkippedPicture] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    def read(self) -> _Shard:
        """Reads the headers and labels to the end; raises TargetError where there is none."""
        try:
            with _opened(self.file) as tar:
                self._take(tar)
        except TargetError:
            raise
        except _BROKEN as error:
            raise self._broken(one_line(str(error)) or type(error).__name__) from error
        return self

    def put_name_in_front(self) -> None:
        """Makes the names of pictures unlike those of other shards."""
        self.pictures = [
            replace(picture, name=f"{self.name}/{picture.name}") for picture in self.pictures
        ]

    def _take(self, tar: tarfile.TarFile) -> None:
        members: dict[str, tarfile.TarInfo] = {}
        labels: dict[str, str | None] = {}
        for member in tar:
            name = valid_text(posixpath.normpath("/" + member.name)).lstrip("/")
            if member.isdir() or any(map(is_ignored, name.split("/"))):
                continue
            stem, suffix = posixpath.splitext(name)[0], posixpath.splitext(name)[1].lower()
            if suffix in (".cls", ".json") and member.isreg() and member.size <= _LABEL_BYTES:
                label = self._label(_contents(tar, member).read(), suffix, name)
                labels[stem] = label if label is not None else labels.get(stem)
            members[name] = member  # A later one of the same name replaces it, as in unpacking.
        self._require_end(tar)
        reel = None if _is_plain(tar) else _TarReel(self.file)
        names = set(_pictures_among(members))
        for name, member in members.items():
            if name not in names:
                self.others[posixpath.splitext(name)[1].lower()] += 1
            elif not member.isreg() or member.issparse():
                self.skipped.append(SkippedPicture(name, "neither a file nor a folder"))
            else:
                # x.0.png has a label of its own in x.0.cls, or shares that of x.
                label = labels.get(posixpath.splitext(name)[0], labels.get(_key(name)))
                self.pictures.append(self._picture(name, member, label, reel))

    def _picture(
        self, name: str, member: tarfile.TarInfo, label: str | None, reel: _TarReel | None
    ) -> Picture:
        if reel is not None:
            turn = Turn(reel, member.offset_data)
            reeled = partial(reel.open, member)
            return Picture(name, reeled, label=label, turn=turn, file=self.file)
        cut = partial(_cut, self.file, member.offset_data, member.size)
        return Picture(name, cut, label=label, file=self.file)

    def _label(self, content: bytes, suffix: str, name: str) -> str | None:
        try:
            text = content.decode("utf-8").strip()
            label = json.loads(text) if suffix == ".json" else text
        except (ValueError, RecursionError) as error:
            raise self._broken(f"{one_line(name)} is no {suffix.removeprefix('.')}") from error
        if isinstance(label, dict):
            label = next((label[key] for key in _LABEL_KEYS if key in label), None)
        known = isinstance(label, str | int) and not isinstance(label, bool)
        return (str(label) or None) if known else None

    def _require_end(self, tar: tarfile.TarFile) -> None:
        # tarfile takes a missing end, and a header that is cut off, for the end.
        stream = tar.fileobj
        if stream is not None:
            stream.seek(tar.offset)
            if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise self._broken("it ends without the mark of a tar file's end")
            while not _is_plain(tar) and stream.read(_AT_ONCE):
                continue  # To the checksum of what was compressed.

    def _broken(self, reason: str) -> TargetError:
        return TargetError(
            f"The shard cannot be read to its end: {reason.rstrip('.')}.",
            where=str(self.file),
            hint="It is cut off or damaged: copy it again, or leave it out.",
        )


def _opened(file: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(file, "r:")
    except tarfile.ReadError:
        return tarfile.open(file, "r:*")


def _is_plain(tar: tarfile.TarFile) -> bool:
    """Whether any of its bytes can be read without those in front."""
    return isinstance(tar.fileobj, io.BufferedReader)


def _contents(tar: tarfile.TarFile, member: tarfile.TarInfo) -> BinaryIO:
    stream = tar.extractfile(member)
    return io.BytesIO(stream.read() if stream is not None else b"")


def _cut(file: Path, offset: int, size: int) -> BinaryIO:
    with file.open("rb") as stream:
        stream.seek(offset)
        return io.BytesIO(stream.read(size))


def _key(name: str) -> str:
    """The name up to the first dot behind its folders: what webdataset calls a sample's key."""
    folder, file = posixpath.split(name)
    return posixpath.join(folder, file.partition(".")[0])


def _pictures_among(names: Iterable[str]) -> Iterator[str]:
    """Pictures; not `key.mask.png` where there is a `key.jpg`, of whose sample it is a part."""
    pictures = [name for name in names if posixpath.splitext(name)[1].lower() in picture_suffixes()]
    whole = {_key(name) for name in pictures if _key(name) == posixpath.splitext(name)[0]}
    for name in pictures:
        if _key(name) == posixpath.splitext(name)[0] or _key(name) not in whole:
            yield name


READER = Reader(name="tar", suffixes=SUFFIXES, recognizes=recognizes, read=read)
