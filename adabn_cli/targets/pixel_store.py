"""Decoded pictures, kept for every pass: in memory, or on disk where they are many.

Knows pixels only, no file name and no label. Shapes: N pictures of [H, W, C] bytes.
"""

from __future__ import annotations

import math
import tempfile
from contextlib import suppress
from types import TracebackType
from typing import BinaryIO, cast

import numpy as np
import torch
from torch import Tensor

from adabn_cli.errors import TargetError
from adabn_cli.targets.framing import Pixels

MEMORY_BYTES = 1 << 30


class PixelStore:
    """Takes at most `pictures` pictures of one shape, one after the other.

    Beyond `MEMORY_BYTES` they are written to a temporary file that is deleted already and goes
    with the process, however it ends.
    """

    def __init__(self, pictures: int, shape: tuple[int, int, int]) -> None:
        self._count = 0
        self._shape = shape
        self._file: BinaryIO | None = None
        self._memory_NHWC = np.empty((0, *shape), np.uint8)
        if pictures * math.prod(shape) > MEMORY_BYTES:
            self._file = cast(BinaryIO, tempfile.TemporaryFile(prefix="adabn-"))  # noqa: SIM115
        else:
            self._memory_NHWC = np.empty((pictures, *shape), np.uint8)

    def __enter__(self) -> PixelStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            # On a full disk closing fails as writing did, and would hide that error.
            with suppress(OSError):
                self._file.close()

    def append(self, pixels_HWC: Pixels) -> None:
        """Keeps one more picture. Raises TargetError where the disk is full."""
        if self._file is None:
            self._memory_NHWC[self._count] = pixels_HWC
        else:
            # Written, not mapped: a full disk is an OSError here and a SIGBUS in a mapping.
            try:
                self._file.write(pixels_HWC.data)
            except OSError as error:
                raise _no_space(error) from error
        self._count += 1

    def pixels(self) -> Tensor:
        """All pictures so far, uint8 [N, H, W, C]; stays valid after the store is closed."""
        if self._file is None:
            return torch.from_numpy(self._memory_NHWC[: self._count])
        try:
            self._file.flush()
        except OSError as error:
            raise _no_space(error) from error
        # Mode "c" never writes to the file; torch warns of arrays that are not writable.
        shape = (self._count, *self._shape)
        return torch.from_numpy(np.memmap(self._file, np.uint8, mode="c", shape=shape))


def _no_space(error: OSError) -> TargetError:
    return TargetError(
        f"The decoded pictures cannot be kept on disk: {error.strerror}.",
        where=tempfile.gettempdir(),
        hint="Set TMPDIR to a larger disk, or use fewer pictures with --max-images.",
    )
