"""A network's bytes in another format: state dict, safetensors, `.pt2`, ONNX, BatchNorm kept.

Knows what each format takes and holds; writes no file and compares nothing. What is known of
preprocessing, classes and architecture goes along, under the name that reading looks for.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from adabn_cli.errors import ModelError, UsageError
from adabn_cli.files import full_suffix
from adabn_cli.model import Model
from adabn_cli.models.architectures.libraries import LIBRARIES
from adabn_cli.models.graphs.exported import ExportedFile
from adabn_cli.models.live.module import EagerModel, pick_outputs
from adabn_cli.models.onnx.file import require_onnx
from adabn_cli.models.open import OpenedModel
from adabn_cli.preprocessing import Preprocessing

#: The ending of a file -> the format it stands for.
ENDINGS = {
    ".pth": "state dict",
    ".pt": "state dict",
    ".pth.tar": "state dict",
    ".safetensors": "safetensors",
    ".pt2": "exported program",
    ".onnx": "ONNX",
}
_GRAPHS = ("exported program", "ONNX")
_INPUT, _OUTPUT = "images", "logits"


def format_of(path: Path) -> str:
    """The format that a file's ending stands for. Raises UsageError for any other ending."""
    try:
        return ENDINGS[full_suffix(path).lower()]
    except KeyError:
        raise UsageError(
            f"No format is known by the ending {full_suffix(path) or '(none)'}.",
            where=f"-o {path}",
            hint=f"End the file in one of {', '.join(ENDINGS)}.",
        ) from None


def is_graph(kind: str) -> bool:
    """Whether a format holds the network too, made for one size of pictures."""
    return kind in _GRAPHS


def require_convertible(opened: OpenedModel, kind: str, path: Path) -> None:
    """Raises ModelError where this model cannot become a file of that format, with a way to it."""
    source = opened.checkpoint.format
    if source == "onnx":
        raise ModelError(
            "An ONNX graph cannot be converted: its constants have lost the network's names and "
            "shapes.",
            where=str(path),
            hint="Convert the checkpoint that it was exported from: adabn convert CHECKPOINT -o "
            "FILE.",
        )
    if source in ("torchscript", "exported-program") and is_graph(kind):
        raise ModelError(
            "A graph cannot be converted to another graph, only to a state dict.",
            where=str(path),
            hint=f"adabn convert {path.name} -o weights.pth; then convert that, with --arch.",
        )
    others = {site.kind for site in opened.model.sites} - {"batch_norm"}
    if is_graph(kind) and others:
        raise ModelError(
            f"Only BatchNorm stays a layer in a graph; this model adapts by {', '.join(others)}.",
            where=str(path),
            hint="Convert it to .pth or .safetensors, which keep every layer.",
        )
    if kind == "ONNX":
        require_onnx(path)


def in_float32(opened: OpenedModel, path: Path) -> OpenedModel:
    """The same model with its floating values in float32. Raises ModelError for a graph."""
    if not isinstance(opened.model, EagerModel):
        raise ModelError(
            "A graph computes in the precision that it was exported in.",
            where=str(path),
            hint="Leave out --float32, or convert the checkpoint that the graph was made from.",
        )
    return replace(opened, model=replace(opened.model, module=opened.model.module.float()))


def state_of(opened: OpenedModel) -> dict[str, Tensor]:
    """A copy of what a state dict of this network has, on the CPU; nothing shares memory."""
    model, root = opened.model, opened.checkpoint.root
    if isinstance(model, EagerModel):
        entries: Mapping[str, Any] = model.module.state_dict()
    else:
        entries = model.state()
    unsaved = _unsaved_buffers(root) if isinstance(root, ExportedFile) else set()
    return {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in entries.items()
        if isinstance(value, Tensor) and key not in unsaved
    }


def converted(opened: OpenedModel, kind: str, images: Tensor | None) -> bytes:
    """The bytes of a file of that format. `images` are pictures that a graph is made for.

    Raises ModelError where the network cannot be exported.
    """
    size = None if images is None else (images.shape[2], images.shape[3])
    said = _said_of(opened.model, size)
    if kind == "state dict":
        # Under a key of its own, as training scripts do: beside it there is room for what is known.
        return _torch_bytes({"state_dict": state_of(opened), **said})
    if kind == "safetensors":
        return safetensors.torch.save(state_of(opened), {"adabn": json.dumps(said)})
    if not isinstance(opened.model, EagerModel) or images is None:
        raise ModelError("Only a live network with a known input size becomes a graph.")
    write = _program if kind == "exported program" else _onnx
    return _exported(write, opened.model, images, json.dumps(said))


def _unsaved_buffers(file: ExportedFile) -> set[str]:
    """Buffers that the module's own state dict has not."""
    specs = file.program["graph_module"]["signature"]["input_specs"]
    buffers = [spec["buffer"] for spec in specs if "buffer" in spec]
    return {buffer["buffer_name"] for buffer in buffers if not buffer.get("persistent", True)}


def _said_of(model: Model, size: tuple[int, int] | None) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if model.architecture.partition(":")[0] in LIBRARIES:
        said["architecture"] = model.architecture
    if model.preprocessing is not None:
        said["preprocessing"] = _fields(model.preprocessing, size)
    if model.classes:
        said["classes"] = list(model.classes)
    return said


def _fields(preprocessing: Preprocessing, size: tuple[int, int] | None) -> dict[str, Any]:
    fields = asdict(preprocessing) | {"size": size or preprocessing.size}
    del fields["source"]
    borrowed = [name for name in fields.pop("borrowed") if name != "size" or not size]
    fields |= {"borrowed": borrowed} if borrowed else {}
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()
    }


def _torch_bytes(content: object) -> bytes:
    # Into memory: a file's name would become part of its bytes.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


_Write = Callable[[torch.nn.Module, Tensor, str], bytes]


def _exported(write: _Write, model: EagerModel, images: Tensor, said: str) -> bytes:
    """The network as a graph that gives its logits alone, for batches of any size."""
    module = model.module.eval()
    forward = module.forward

    def logits(images: Tensor) -> Any:
        return pick_outputs(forward(images), model.output)

    like = next((x for x in module.parameters() if x.is_floating_point()), torch.empty(0))
    images = images[:2].to(like)
    # On the module itself: one around it would give every entry another name.
    module.forward = logits
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # Of the exporters' own doings.
            return write(module, images, said)
    except Exception as error:
        # An exporter raises whatever the network's code makes it raise.
        first = (str(error).strip().partition("\n")[0] or type(error).__name__)[:200]
        raise ModelError(
            f"The network cannot be exported: {first.rstrip('.')}.",
            where=model.architecture,
            hint="Convert it to .pth or .safetensors, which need no export.",
        ) from error
    finally:
        del module.forward


def _program(module: torch.nn.Module, images: Tensor, said: str) -> bytes:
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(module, (images,), dynamic_shapes=shapes)
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"adabn.json": said})
    return buffer.getvalue()


def _onnx(module: torch.nn.Module, images: Tensor, said: str) -> bytes:
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
