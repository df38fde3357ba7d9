"""What every reader gives: a list of pictures, each with how to open it. Opens none.

They may lie in a folder, shards, a video or a bucket; whoever decodes does not know which.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Protocol

from adabn_cli.data.folder_files import SkippedPicture
from adabn_cli.errors import TargetError
from adabn_cli.text import one_line


@dataclass(frozen=True)
class PathList:
    """Paths of pictures that were handed over, on stdin for example; relative ones to `folder`."""

    paths: tuple[str, ...]
    folder: Path
    name: str = "-"

    def __str__(self) -> str:
        return self.name


#: Where pictures are: a path, a pattern or a URL as it was written, or a list of paths.
Location = str | Path | PathList


def files_of(*locations: Location | None) -> tuple[Path, ...]:
    """The files and folders that are named there; what lists, patterns and files name is not."""
    return tuple(
        Path(place)
        for place in locations
        if place is not None and not isinstance(place, PathList) and "://" not in str(place)
    )


class Reel(Protocol):
    """A file that can only be read from front to back; `name` orders it among others."""

    name: str

    def close(self) -> None:
        """Lets go of the file; the next picture opens it anew."""


@dataclass(frozen=True)
class Turn:
    """When a picture comes on its reel: pictures of one reel are opened in this order."""

    reel: Reel
    position: int


@dataclass(frozen=True)
class Picture:
    """A picture to be: its name for people, how to open its bytes, its label where it has one.

    `open` may raise anything: it is told as the reason why this picture cannot be read. Pictures
    with a `turn` are opened in turn, on one thread; others in any order, on several. `frame` is its
    number where it is one of a video's. `file` on this machine is where it lies, alone or in a
    container.
    """

    name: str
    open: Callable[[], BinaryIO]
    _: KW_ONLY
    label: str | None = None
    turn: Turn | None = None
    frame: int | None = None
    file: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Listing:
    """All pictures of a target, as a reader found them.

    `kind` is what it turned out to be ("3 tar shards"), `labels_from` where those of its pictures
    that have a label have it from, `other_suffixes` counts files that are no pictures. `one_hot`
    are the columns that the labels are the names of, in their order, if they are. `notes` say how
    it was read. `is_folder` if the pictures' names are paths below a folder on this machine.
    `told_by` are other files that were read, of labels for one.
    """

    kind: str
    pictures: Sequence[Picture]
    skipped: Sequence[SkippedPicture] = ()
    other_suffixes: Counter[str] = field(default_factory=Counter)
    labels_from: str = ""
    one_hot: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    is_folder: bool = False
    told_by: tuple[Path, ...] = ()

    @property
    def files(self) -> set[Path]:
        """The files on this machine that it was read from."""
        files = {picture.file for picture in self.pictures if picture.file is not None}
        return {*files, *self.told_by}


def in_order(listing: Listing) -> Listing:
    """The listing sorted by names, so that all readers give the same pictures in the same order.

    Raises TargetError where two pictures have the same name.
    """
    pictures = tuple(sorted(listing.pictures, key=lambda picture: picture.name))
    for first, second in pairwise(pictures):
        if first.name == second.name:
            raise TargetError(
                f"{one_line(first.name)} is listed twice.",
                where=listing.kind,
                hint="List every picture once: it would count twice in the statistics.",
            )
    skipped = tuple(sorted(listing.skipped, key=lambda picture: picture.path))
    return replace(listing, pictures=pictures, skipped=skipped)


def opener(file: Path) -> Callable[[], BinaryIO]:
    """How to open a file on disk."""
    return lambda: file.open("rb")


def reading_order(pictures: Iterable[Picture]) -> list[Picture]:
    """Sorted by name, and behind them those that have a turn, reel by reel."""

    def when(picture: Picture) -> tuple[str, int, str]:
        turn = picture.turn
        return (turn.reel.name, turn.position, "") if turn else ("", 0, picture.name)

    return sorted(pictures, key=when)


def in_turn(pictures: Iterable[Picture]) -> Iterator[Callable[[], BinaryIO]]:
    """How to open each, from any thread: those of a reel are opened here, as they are asked for.

    They have to come in their `reading_order`. One reel at a time is open.
    """
    reel: Reel | None = None
    try:
        for picture in pictures:
            turn = picture.turn
            if turn is None:
                yield picture.open
                continue
            if reel is not None and turn.reel is not reel:
                reel.close()
            reel = turn.reel
            yield _opened(picture)
    finally:
        if reel is not None:
            reel.close()


def _opened(picture: Picture) -> Callable[[], BinaryIO]:
    try:
        stream = picture.open()
    except Exception as error:
        failed = error  # Told by whoever opens it, as the reason for this picture.

        def fail() -> BinaryIO:
            raise failed

        return fail
    return lambda: stream
