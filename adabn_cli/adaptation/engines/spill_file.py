"""Bytes put away in a temporary file, and fetched back. Knows no tensor and no batch."""

from __future__ import annotations

import os
import tempfile
from bisect import bisect
from pathlib import Path

from adabn_cli.errors import InputError, UsageError

# One call writes no more than 2 GiB on Linux.
_AT_ONCE = 1 << 30


class SpillError(InputError):
    """What waits cannot be kept on disk."""


def free_bytes(folder: Path) -> int:
    """How much can be written to a folder's disk. Raises UsageError where it is no folder."""
    try:
        disk = os.statvfs(folder)
    except OSError as error:
        raise UsageError(
            f"The folder for spilling cannot be used: {error.strerror}.",
            where=str(folder),
            hint="Give --spill-dir a folder that exists.",
        ) from error
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(
            "The folder for spilling cannot be written to.",
            where=str(folder),
            hint="Give --spill-dir another folder.",
        )
    return disk.f_bavail * disk.f_frsize


class SpillFile:
    """A file without a name: it goes with the process, however that ends.

    A place is (offset, size); freed places are used again, the first that is large enough.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._free: list[tuple[int, int]] = []  # By offset, never side by side.
        self._end = 0
        try:
            self._file = tempfile.TemporaryFile(prefix="adabn-", dir=folder, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise self._failed(error) from error

    @property
    def used_bytes(self) -> int:
        """The size that the file has grown to."""
        return self._end

    def write(self, content: memoryview) -> tuple[int, int]:
        """Keeps the bytes; returns their place. Raises SpillError where the disk is full."""
        offset, size = place = self._take(len(content))
        done = 0
        try:
            while done < size:
                part = content[done : done + _AT_ONCE]
                done += os.pwrite(self._file.fileno(), part, offset + done)
        except OSError as error:
            self.release(place)
            raise self._failed(error) from error
        return place

    def read(self, place: tuple[int, int], into: memoryview) -> None:
        """Fills `into` with the bytes at a place. Raises SpillError where the disk fails."""
        offset, size = place
        done = 0
        try:
            while done < size:
                part = into[done : done + _AT_ONCE]
                got = os.preadv(self._file.fileno(), [part], offset + done)
                if not got:
                    raise OSError(None, "the file is shorter than what was written")
                done += got
        except OSError as error:
            raise self._failed(error) from error

    def release(self, place: tuple[int, int]) -> None:
        """Makes a place free again; neighbours become one."""
        index = bisect(self._free, place)
        start, end = place[0], sum(place)
        if index < len(self._free) and self._free[index][0] == end:
            end = sum(self._free.pop(index))
        if index and sum(self._free[index - 1]) == start:
            index -= 1
            start = self._free.pop(index)[0]
        self._free.insert(index, (start, end - start))

    def close(self) -> None:
        """Lets go of the file, and so of its bytes on disk."""
        self._file.close()

    def _take(self, size: int) -> tuple[int, int]:
        for index, (offset, room) in enumerate(self._free):
            if room >= size:
                rest = [(offset + size, room - size)] if room > size else []
                self._free[index : index + 1] = rest
                return offset, size
        self._end += size
        return self._end - size, size

    def _failed(self, error: OSError) -> SpillError:
        return SpillError(
            f"What waits cannot be kept on disk: {error.strerror}.",
            where=str(self._folder),
            hint="Give --spill-dir a folder on a larger disk, a larger --memory, or fewer pictures "
            "with --max-images.",
        )
