"""Exported programs (`.pt2`): a network as a graph of torch's operators, with its tensors."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from adabn_cli.models.format import (
    Asked,
    Checkpoint,
    FileModel,
    GraphFormat,
    GraphOptions,
    Start,
)
from adabn_cli.models.graphs.exported import read_exported
from adabn_cli.models.graphs.model import GraphModel
from adabn_cli.models.metadata import read_metadata


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
        asked.require_no_choice("The file holds one network, with one set of weights.", path)
        return Checkpoint(
            format=self,
            file=path,
            sha256=sha256,
            asked=asked,
            entries=file.entries,
            metadata=read_metadata(file.metadata),
            root=file,
            places=file.places,
        )

    def model(
        self, checkpoint: Checkpoint, options: GraphOptions
    ) -> tuple[FileModel, tuple[str, ...]]:
        """The network, run operator by operator."""
        network = checkpoint.root.network(options.device)
        model = GraphModel(network, checkpoint.metadata, checkpoint.write, options.output)
        return model, network.notes

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
