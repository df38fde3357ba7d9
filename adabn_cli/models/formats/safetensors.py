"""safetensors: one set of weights, and texts by name.

Values are read by the safetensors library, and their places from the header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from adabn_cli.errors import ModelError
from adabn_cli.models.architectures.weights import clean_keys
from adabn_cli.models.checkpoint import Asked, Checkpoint
from adabn_cli.models.containers.byte_patch import ByteSpan, TensorPlace
from adabn_cli.models.format import Format, Start
from adabn_cli.models.metadata import read_metadata


class Safetensors(Format):
    """A header in JSON with every tensor's dtype, shape and place, then the tensors' bytes."""

    name = called = "safetensors"
    endings = (".safetensors",)

    def recognizes(self, start: Start) -> bool:
        """By the JSON after the header's length."""
        head = start.head
        return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32

    def read(self, path: Path, sha256: str, asked: Asked) -> Checkpoint:
        """Its tensors, and what its header says beside them."""
        try:
            tensors = safetensors.torch.load_file(path, device="cpu")
            with path.open("rb") as file:
                header_bytes = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(header_bytes))
        except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
            raise ModelError(
                f"The safetensors file is damaged: {error}.",
                where=str(path),
                hint="Copy or download it again and compare the sizes.",
            ) from error
        asked.require_no_choice("A safetensors file holds one set of weights.", path)
        metadata = read_metadata(header.pop("__metadata__", {}))
        first = 8 + header_bytes
        places = {key: _place(header[key], first, tensor) for key, tensor in tensors.items()}
        entries, stripped = clean_keys(tensors)
        return Checkpoint(
            format=self,
            file=path,
            sha256=sha256,
            asked=asked,
            entries=entries,
            metadata=metadata,
            places=clean_keys(places)[0],
            stripped=stripped,
        )

    def written(self, state: Mapping[str, Tensor], said: Mapping[str, Any]) -> bytes:
        """The state dict, with what is known as JSON in one text of the header."""
        return safetensors.torch.save(dict(state), {"adabn": json.dumps(said)})


def _place(said: Mapping[str, Any], first: int, tensor: Tensor) -> TensorPlace:
    """Where a tensor lies, by its part of the header; `first` is the byte after that."""
    start, end = said["data_offsets"]
    return TensorPlace.in_one_piece(
        ByteSpan(first + start, end - start), tensor.dtype, tuple(tensor.shape)
    )
