"""Pictures that arrive in a folder while it is watched. Opens none, and knows no clock.

A file has arrived once it was the same in two looks: the same size, the same time of change. One
that is still being written waits for the next look. One that changes later arrives again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from adabn_cli.data.folder_files import PictureFile, SkippedPicture, files_below
from adabn_cli.errors import TargetError

#: Size and time of the last change, or why a file cannot be read.
_Stamp = tuple[int, int] | str


class Arrivals:
    """What is new below a folder since the last look. Holds the names of what is there.

    `left_out` counts by suffix the files that were there at the last look and are no pictures.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.left_out: Mapping[str, int] = {}
        self._waiting: dict[str, _Stamp] = {}
        self._taken: dict[str, _Stamp] = {}

    def look(self) -> list[PictureFile | SkippedPicture]:
        """What has arrived, sorted by name. Raises TargetError where the folder is not there."""
        try:
            listing = files_below(self._folder)
        except OSError as error:
            raise TargetError(
                f"The watched folder cannot be read: {error.strerror}.",
                where=str(self._folder),
                hint="Give a folder that is there for as long as it is watched.",
            ) from error
        self.left_out = listing.other_suffixes
        there: dict[str, PictureFile | SkippedPicture] = {
            **{found.name: found for found in listing.pictures},
            **{skipped.path: skipped for skipped in listing.skipped},
        }
        if not any(name.endswith("/") for name in there):
            # Below a folder that cannot be listed just now nothing is known to be gone.
            self._taken = {name: self._taken[name] for name in self._taken.keys() & there.keys()}
        waited, self._waiting = self._waiting, {}
        arrived = []
        for name in sorted(there):
            stamp = _stamp(there[name])
            if stamp is None or stamp == self._taken.get(name):
                continue
            if waited.get(name) == stamp:
                self._taken[name] = stamp
                arrived.append(there[name])
            else:
                self._waiting[name] = stamp
        return arrived


def _stamp(found: PictureFile | SkippedPicture) -> _Stamp | None:
    """What tells one state of a file from another; None where it is gone meanwhile."""
    if isinstance(found, SkippedPicture):
        return found.reason
    try:
        status = found.file.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
