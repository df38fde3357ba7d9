"""Decoded pictures, kept for every pass: in memory, or on disk where they are many.

Knows pixels only, no file name and no label. Shapes: N pictures of [H, W, C] bytes.
"""

from __future__ import annotations

import math
import os
import tempfile
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from adabn_cli.data.framing import Pixels
from adabn_cli.errors import TargetError

MEMORY_BYTES = 1 << 30

# One call reads no more than 2 GiB on Linux.
_AT_ONCE = 1 << 30


@dataclass(frozen=True)
class Keeping:
    """Up to how many bytes pictures are kept in memory, and the folder for the file of more."""

    memory_bytes: int = MEMORY_BYTES
    folder: Path | None = None


class StoredPixels(Protocol):
    """Decoded pictures, uint8 [N, H, W, C], of which some are taken at a time."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice | Tensor, /) -> Tensor: ...


class PixelStore:
    """Takes at most `pictures` pictures of one shape, one after the other.

    Those too many for memory are written to a temporary file that is deleted already and goes with
    the process, however it ends. Raises TargetError where there is no such file to be had.
    """

    def __init__(
        self, pictures: int, shape: tuple[int, int, int], keeping: Keeping | None = None
    ) -> None:
        keeping = keeping or Keeping(MEMORY_BYTES)
        self._count = 0
        self._shape = shape
        self._memory_bytes = keeping.memory_bytes
        self._folder = keeping.folder or Path(tempfile.gettempdir())
        self._file: BinaryIO | None = None
        self._memory_NHWC = np.empty((0, *shape), np.uint8)
        self.make_room(pictures)

    def close(self) -> None:
        """Takes no more; the pictures that were given out stay valid."""
        if self._file is not None:
            # On a full disk closing fails as writing did, and would hide that error.
            with suppress(OSError):
                self._file.close()

    def make_room(self, pictures: int) -> None:
        """Takes at most so many from now on, those that it has included; none of these is lost."""
        if self._file is not None:
            return
        kept_nHWC, self._count = self._memory_NHWC[: self._count], 0
        if pictures * math.prod(self._shape) > self._memory_bytes:
            try:
                file = tempfile.TemporaryFile(prefix="adabn-", dir=self._folder)  # noqa: SIM115
            except OSError as error:
                raise self._no_space(error) from error
            self._file = cast(BinaryIO, file)
            pictures = 0
        self._memory_NHWC = np.empty((pictures, *self._shape), np.uint8)
        for pixels_HWC in kept_nHWC:
            self.append(pixels_HWC)

    def append(self, pixels_HWC: Pixels) -> None:
        """Keeps one more picture. Raises TargetError where the disk is full."""
        if self._file is None:
            self._memory_NHWC[self._count] = pixels_HWC
        else:
            # Written, not mapped: a full disk is an OSError here and a SIGBUS in a mapping.
            try:
                self._file.write(pixels_HWC.data)
            except OSError as error:
                raise self._no_space(error) from error
        self._count += 1

    def pixels(self) -> StoredPixels:
        """All pictures so far; stays valid after the store takes more, or is closed."""
        if self._file is None:
            return torch.from_numpy(self._memory_NHWC[: self._count])
        try:
            self._file.flush()
        except OSError as error:
            raise self._no_space(error) from error
        return _PixelsOnDisk(self._file.fileno(), (self._count, *self._shape))

    def _no_space(self, error: OSError) -> TargetError:
        return TargetError(
            f"The decoded pictures cannot be kept on disk: {error.strerror}.",
            where=str(self._folder),
            hint="Give --spill-dir a folder on a larger disk (or set TMPDIR), or use fewer "
            "pictures with --max-images.",
        )


@dataclass(frozen=True, eq=False)
class InRows:
    """Stored pictures in another order: the first is that in row `rows_N[0]`, and so on."""

    stored: StoredPixels
    rows_N: Tensor

    def __len__(self) -> int:
        return len(self.rows_N)

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        return self.stored[self.rows_N[rows]]


class _PixelsOnDisk:
    """Pictures in a file, of which as many are in memory as were asked for.

    Read, not mapped: pages of a mapping count as the process's memory, and grow with the pictures.
    """

    def __init__(self, file: int, shape: tuple[int, int, int, int]) -> None:
        self._file, self._shape = os.dup(file), shape
        weakref.finalize(self, os.close, self._file)

    def __len__(self) -> int:
        return self._shape[0]

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        chosen = range(len(self))[rows] if isinstance(rows, slice) else rows.tolist()
        pixels_nHWC = np.empty((len(chosen), *self._shape[1:]), np.uint8)
        if isinstance(chosen, range) and chosen.step == 1 and chosen:
            self._read(chosen.start, pixels_nHWC)
        else:
            for place, row in enumerate(chosen):
                self._read(row, pixels_nHWC[place : place + 1])
        return torch.from_numpy(pixels_nHWC)

    def _read(self, first: int, into_nHWC: Pixels) -> None:
        """Fills the array with the pictures from `first` on. Raises TargetError on a bad disk."""
        flat, done = into_nHWC.reshape(-1).data, 0
        offset = first * math.prod(self._shape[1:])
        while done < len(flat):
            got = os.preadv(self._file, [flat[done : done + _AT_ONCE]], offset + done)
            if not got:
                raise TargetError(
                    "The decoded pictures that were kept on disk are no longer there.",
                    hint="Give the command again, with another --spill-dir.",
                )
            done += got
