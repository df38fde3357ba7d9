"""Writes a file that differs from another only in the values of some tensors.

Knows bytes, strides and dtypes; knows no container but through `renew_checksums`. The file appears
whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from adabn_cli.errors import IN_FLOAT32, ModelError
from adabn_cli.files import appearing

_CHUNK = 1 << 20


@dataclass(frozen=True)
class ByteSpan:
    """Bytes [start, start + length) of a file."""

    start: int
    length: int

    @property
    def end(self) -> int:
        """One past the last byte."""
        return self.start + self.length


@dataclass(frozen=True, kw_only=True)
class TensorPlace:
    """Where a tensor lies in a file: in the bytes of its storage, with strides in elements."""

    storage: ByteSpan
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int

    @classmethod
    def in_one_piece(
        cls, storage: ByteSpan, dtype: torch.dtype, shape: Sequence[int]
    ) -> TensorPlace:
        """Where a tensor lies that fills its storage, the last dimension innermost."""
        strides = tuple(accumulate(reversed((*shape[1:], 1)), mul))[::-1] if shape else ()
        return cls(storage=storage, dtype=dtype, shape=tuple(shape), strides=strides, offset=0)

    @property
    def span(self) -> ByteSpan:
        """The bytes from the tensor's first to its last element."""
        if 0 in self.shape:
            return ByteSpan(self.storage.start, 0)
        reach = sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))
        size = self.dtype.itemsize
        return ByteSpan(self.storage.start + self.offset * size, (reach + 1) * size)

    @property
    def fits(self) -> bool:
        """Whether all elements lie within the storage."""
        return self.span.end <= self.storage.end


#: Renews the checksums that cover the given spans; returns the spans that it wrote.
RenewChecksums = Callable[[BinaryIO, BinaryIO, Sequence[ByteSpan]], list[ByteSpan]]


def patch(
    source: Path,
    target: Path,
    edits: Mapping[str, tuple[TensorPlace, Tensor]],
    *,
    sha256: str,
    renew_checksums: RenewChecksums | None = None,
) -> None:
    """Writes `target`: the bytes of `source` with the edited tensors' values replaced.

    Raises ModelError if `source` is no longer the file of that `sha256`, where two edits of the
    same memory disagree, or if any other byte differs afterwards.
    """
    with appearing(target) as temporary:
        copy_of(source, temporary, sha256)
        with temporary.open("r+b") as file, source.open("rb") as original:
            for place, value in edits.values():
                _put(file, place, value)
            written = [place.span for place, _ in edits.values()]
            if renew_checksums is not None:
                written += renew_checksums(original, file, written)
            _verify(original, file, edits, written)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cast_as_stored(key: str, value: Tensor, dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
    """The value in the dtype and shape that a file stores.

    Raises ModelError for another number of elements, and if the dtype cannot hold a value
    (float16 ends at 65504: a variance can lie beyond it).
    """
    count = 1
    for n in shape:
        count *= n
    if value.numel() != count:
        raise ModelError(
            f"{value.numel()} values are given for an entry of {count}.",
            where=key,
            hint="Adapt the same model that the values were measured on.",
        )
    stored = value.detach().cpu().to(dtype).reshape(tuple(shape))
    if dtype.is_floating_point and bool((value.isfinite().sum() != stored.isfinite().sum()).item()):
        raise ModelError(
            f"A value is too large for the {str(dtype).removeprefix('torch.')} of the checkpoint.",
            where=key,
            hint=IN_FLOAT32,
        )
    return stored


def copy_of(source: Path, target: Path, sha256: str) -> None:
    """Copies a file; raises ModelError if it is no longer the one of that hash."""
    digest = hashlib.sha256()
    with source.open("rb") as old, target.open("wb") as new:
        while chunk := old.read(_CHUNK):
            digest.update(chunk)
            new.write(chunk)
    if digest.hexdigest() != sha256:
        raise ModelError(
            "The checkpoint has changed since it was opened.", where=str(source), hint="Run again."
        )


def _put(file: BinaryIO, place: TensorPlace, value: Tensor) -> None:
    """Writes a value through the tensor's strides; bytes between its elements stay."""
    if place.span.length == 0:
        return
    buffer = _read(file, place.span)
    _view(buffer, place).copy_(value)
    file.seek(place.span.start)
    file.write(buffer)


def _read(file: BinaryIO, span: ByteSpan) -> bytearray:
    file.seek(span.start)
    return bytearray(file.read(span.length))


def _view(buffer: bytearray, place: TensorPlace) -> Tensor:
    # From bytes, not elements: torch.frombuffer knows no float8.
    return torch.frombuffer(buffer, dtype=torch.uint8).view(place.dtype).as_strided(
        place.shape, place.strides, 0
    )  # fmt: skip


def _verify(
    original: BinaryIO,
    file: BinaryIO,
    edits: Mapping[str, tuple[TensorPlace, Tensor]],
    written: Sequence[ByteSpan],
) -> None:
    """Raises ModelError unless every edit reads back and every other byte is as it was."""
    for key, (place, value) in edits.items():
        if place.span.length and not _same(_view(_read(file, place.span), place), value):
            raise ModelError(
                "Two entries share their memory in the checkpoint but were given other values.",
                where=key,
                hint="Leave one of the two layers out with --layers.",
            )
    end = max(file.seek(0, os.SEEK_END), original.seek(0, os.SEEK_END))
    position = 0
    for span in [*sorted(written, key=lambda span: span.start), ByteSpan(end, 0)]:
        while position < span.start:
            size = min(_CHUNK, span.start - position)
            if _read(original, ByteSpan(position, size)) != _read(file, ByteSpan(position, size)):
                raise ModelError(
                    "The copy of the checkpoint differs where nothing was written.",
                    where=f"byte {position}",
                    hint="Check the disk and run again.",
                )
            position += size
        position = max(position, span.end)


def _same(left: Tensor, right: Tensor) -> bool:
    """Equal to the bit, whatever the values are."""
    bytes_left, bytes_right = (x.contiguous().view(-1).view(torch.uint8) for x in (left, right))
    return torch.equal(bytes_left, bytes_right)
