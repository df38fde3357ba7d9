"""Exported programs (`.pt2`): a network as a graph of torch's operators, with its tensors."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from adabn_cli.models.checkpoint import Asked, Checkpoint
from adabn_cli.models.format import GraphFormat, Start
from adabn_cli.models.graphs.exported_file import read_exported


class ExportedProgram(GraphFormat):
    """What torch.export.save writes."""

    name = "exported-program"
    called = "exported program"
    endings = (".pt2",)
    is_zip = True

    def recognizes(self, start: Start) -> bool:
        """By the folder of programs in the archive."""
        inside = start.inside
        return "archive_format" in inside or any(name.startswith("models/") for name in inside)

    def read(self, path: Path, sha256: str, asked: Asked) -> Checkpoint:
        """The program as data: nothing of it is run or unpickled."""
        file = read_exported(path)
        return replace(self.opened(file, path, sha256, asked), places=file.places)

    def state_of(self, checkpoint: Checkpoint, entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Without the buffers that the module's own state dict does not have."""
        unsaved = checkpoint.root.unsaved_buffers
        return {key: value for key, value in entries.items() if key not in unsaved}

    def exported(self, module: nn.Module, images: Tensor, said: str) -> bytes:
        """By torch.export, for batches of any size."""
        shapes = ({0: torch.export.Dim.DYNAMIC},)
        program = torch.export.export(module, (images,), dynamic_shapes=shapes)
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files={"adabn.json": said})
        return buffer.getvalue()
