"""ONNX: a network as a graph of ONNX's operators, its tensors in the file or in data files."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from adabn_cli.models.checkpoint import Asked, Checkpoint
from adabn_cli.models.format import FileModel, GraphFormat, GraphOptions, Start
from adabn_cli.models.onnx.file import read_onnx, require_onnx
from adabn_cli.models.onnx.model import OnnxModel
from adabn_cli.models.onnx.reference import reference_of
from adabn_cli.models.onnx.sessions import best_device

_INPUT, _OUTPUT = "images", "logits"


class Onnx(GraphFormat):
    """A protobuf message; it has no checksums, and onnxruntime runs it."""

    name = "onnx"
    called = "ONNX"
    endings = (".onnx",)
    takes_input_and_reference = True
    stays = (
        "An ONNX graph cannot be converted: its constants have lost the network's names and shapes."
    )

    def recognizes(self, start: Start) -> bool:
        """ModelProto begins with field 1, the IR version; then a producer's name, or a graph."""
        head = start.head
        fields = (b"\x12", b"\x3a", b"\x1a", b"B")
        return head[:1] == b"\x08" and b"\x00" < head[1:2] < b"\x40" and head[2:3] in fields

    def read(self, path: Path, sha256: str, asked: Asked) -> Checkpoint:
        """The graph with its data loaded. Nothing is run."""
        file = read_onnx(path, sha256)
        opened = self.opened(file, path, sha256, asked)
        metadata = opened.metadata.noting(*file.notes)
        return replace(opened, metadata=metadata, data_files=file.data_paths)

    def beside(self, checkpoint: Checkpoint, path: Path) -> tuple[Path, ...]:
        """Its data files."""
        files: tuple[Path, ...] = checkpoint.root.beside(path)
        return files

    def model(
        self, checkpoint: Checkpoint, options: GraphOptions
    ) -> tuple[FileModel, tuple[str, ...]]:
        """The graph, run in stages that end at the sites."""
        before = options.reference
        model = OnnxModel(
            checkpoint.root,
            checkpoint.metadata,
            output=options.output,
            device=options.device,
            input_name=options.input_name,
            reference=None if before is None else reference_of(before),
        )
        return model, model.notes

    def best_device(self, device: torch.device) -> torch.device:
        """The CPU if the installed onnxruntime knows no other."""
        return best_device(device)

    def require_library(self, path: Path) -> None:
        """The onnx library."""
        require_onnx(path)

    def exported(self, module: nn.Module, images: Tensor, said: str) -> bytes:
        """By tracing, with BatchNorm kept, for batches of any size."""
        import onnx

        buffer = io.BytesIO()
        torch.onnx.export(
            module,
            (images,),
            buffer,  # type: ignore[arg-type] # The exporter by tracing takes it; typed for the other.
            dynamo=False,  # The other one takes a library more, and two files.
            # Either of the two would fold BatchNorm into the convolutions.
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            input_names=[_INPUT],
            output_names=[_OUTPUT],
            dynamic_axes={_INPUT: {0: "batch"}, _OUTPUT: {0: "batch"}},
        )
        proto = onnx.load_from_string(buffer.getvalue())
        item = proto.metadata_props.add()
        item.key, item.value = "adabn", said
        return bytes(proto.SerializeToString())
