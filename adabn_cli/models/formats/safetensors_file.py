"""safetensors: one set of weights, and texts by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from adabn_cli.models.architectures.weights import clean_keys
from adabn_cli.models.containers.safetensors_file import read_safetensors
from adabn_cli.models.format import Asked, Checkpoint, Format, Start
from adabn_cli.models.metadata import read_metadata


class Safetensors(Format):
    """A header in JSON, then the bytes of the tensors."""

    name = called = "safetensors"
    endings = (".safetensors",)

    def recognizes(self, start: Start) -> bool:
        """By the JSON after the header's length."""
        head = start.head
        return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32

    def read(self, path: Path, sha256: str, asked: Asked) -> Checkpoint:
        """Its tensors, and what its header says beside them."""
        file = read_safetensors(path)
        asked.require_no_choice("A safetensors file holds one set of weights.", path)
        entries, stripped = clean_keys(file.entries)
        return Checkpoint(
            format=self,
            file=path,
            sha256=sha256,
            asked=asked,
            entries=entries,
            metadata=read_metadata(file.metadata),
            places=clean_keys(file.places)[0],
            stripped=stripped,
        )

    def written(self, state: Mapping[str, Tensor], said: Mapping[str, Any]) -> bytes:
        """The state dict, with what is known as JSON in one text of the header."""
        return safetensors.torch.save(dict(state), {"adabn": json.dumps(said)})
