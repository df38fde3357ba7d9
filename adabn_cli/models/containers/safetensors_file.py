"""The safetensors container: a JSON header with every tensor's dtype, shape and place.

Reads values through the safetensors library, and places from the header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from adabn_cli.errors import ModelError
from adabn_cli.models.containers.byte_patch import ByteSpan, TensorPlace


@dataclass(frozen=True)
class SafetensorsFile:
    """Tensors, their places and the header's own metadata."""

    entries: Mapping[str, Tensor]
    places: Mapping[str, TensorPlace]
    metadata: Mapping[str, str]


def read_safetensors(path: Path) -> SafetensorsFile:
    """The content of a safetensors file; raises ModelError where it is damaged or cut off."""
    try:
        entries = safetensors.torch.load_file(path, device="cpu")
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(header_bytes))
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"The safetensors file is damaged: {error}.",
            where=str(path),
            hint="Copy or download it again and compare the sizes.",
        ) from error
    metadata = header.pop("__metadata__", {})
    start = 8 + header_bytes
    places = {key: _place(header[key]["data_offsets"], start, entries[key]) for key in entries}
    return SafetensorsFile(entries, places, metadata)


def _place(offsets: tuple[int, int], start: int, tensor: Tensor) -> TensorPlace:
    shape = tuple(tensor.shape)
    strides = tuple(accumulate(reversed((*shape[1:], 1)), mul))[::-1] if shape else ()
    span = ByteSpan(start + offsets[0], offsets[1] - offsets[0])
    return TensorPlace(storage=span, dtype=tensor.dtype, shape=shape, strides=strides, offset=0)
