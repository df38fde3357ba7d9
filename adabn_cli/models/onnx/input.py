"""How pictures enter an ONNX graph: which input takes them, in which layout and batch size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adabn_cli.errors import ModelError, UsageError
from adabn_cli.model import InputSize
from adabn_cli.models.onnx.graph import FLOATS, Graph, is_op
from adabn_cli.models.onnx.stages import Stage


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """The input that takes pictures. `batch`, `channels` and `size` are None if they are free.

    `channels_last` is whether it takes [N, H, W, C].
    """

    name: str
    dtype: np.dtype[Any]
    batch: int | None
    channels: int | None
    size: InputSize
    channels_last: bool

    def pieces(self, images: Tensor) -> Iterator[tuple[NDArray[Any], int]]:
        """Images [n, C, H, W] as the graph takes them, and how many rows of each are real.

        A graph of a fixed batch gets pieces of that size, the last one filled up with its last
        picture. Raises ModelError for pictures of another size than the graph takes.
        """
        for given, fixed in zip(images.shape[2:], self.size, strict=True):
            if fixed not in (None, given):
                height, width = self.size
                raise ModelError(
                    f"The model takes pictures of {height} x {width} pixels (height, width), not "
                    f"{images.shape[2]} x {images.shape[3]}.",
                    hint=f"Give --img-size {height},{width}.",
                )
        array = images.detach().cpu().numpy().astype(self.dtype, copy=False)
        if self.channels_last:
            array = array.transpose(0, 2, 3, 1)
        step = self.batch or len(array)
        for start in range(0, len(array), step):
            piece, rows = array[start : start + step], min(step, len(array) - start)
            if rows < step:
                piece = np.concatenate([piece, np.repeat(piece[-1:], step - rows, axis=0)])
            yield np.ascontiguousarray(piece), rows


def image_input(graph: Graph, name: str | None) -> ImageInput:
    """The named input, or the one that has to be given.

    Raises UsageError for a name that no input has, ModelError if that cannot be a picture or
    none is named and there are several.
    """
    from onnx import helper

    inputs = [item for item in graph.proto.input if item.name not in graph.tensors]
    if name is not None:
        inputs = [item for item in inputs if item.name == name]
        if not inputs:
            raise UsageError(
                f"--input {name}: The graph has no input of that name.",
                hint=f"It has: {listed(graph)}.",
            )
    if len(inputs) != 1:
        raise ModelError(
            f"The graph has {len(inputs)} inputs to be given, not one: {listed(graph)}.",
            hint="Name the one that takes pictures: --input NAME. Or export it with everything but "
            "the picture as a constant.",
        )
    kind = inputs[0].type.tensor_type
    sizes = [item.dim_value if item.dim_value > 0 else None for item in kind.shape.dim]
    sizes = sizes if kind.HasField("shape") else [None] * 4
    if kind.elem_type not in FLOATS or len(sizes) != 4:
        raise ModelError(
            f"The graph's input is not a batch of pictures: {len(sizes)} dimensions of "
            f"{_dtype_name(kind.elem_type)}.",
            where=inputs[0].name,
            hint="Export it with an input [N, C, H, W] of floating values.",
        )
    channels_last = sizes[3] in (1, 3) and sizes[1] not in (1, 3)
    batch, channels, *size = [sizes[0], sizes[3], *sizes[1:3]] if channels_last else sizes
    return ImageInput(
        name=inputs[0].name,
        dtype=np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type)),
        batch=batch,
        channels=channels or _first_channels(graph),
        size=(size[0], size[1]),
        channels_last=channels_last,
    )


def listed(graph: Graph) -> str:
    """The inputs that have to be given, each with its type and sizes."""
    told = []
    for item in graph.proto.input:
        if item.name not in graph.tensors:
            kind = item.type.tensor_type
            sizes = [str(x.dim_value or x.dim_param or "?") for x in kind.shape.dim]
            told.append(f"{item.name} ({_dtype_name(kind.elem_type)} [{', '.join(sizes)}])")
    return ", ".join(told)


def require_no_other_input(graph: Graph, image: str, stages: Sequence[Stage]) -> None:
    """Raises ModelError if what is run needs an input beside the picture that has no default."""
    others = {item.name for item in graph.proto.input} - graph.tensors.keys() - {image}
    if needed := sorted(others & {name for stage in stages for name in stage.takes}):
        raise ModelError(
            f"The graph needs more than pictures: {', '.join(needed)} has to be given too.",
            where=f"its inputs: {listed(graph)}",
            hint="Export it with everything but the picture as a constant, or choose an --output "
            "that needs the picture alone.",
        )


def _dtype_name(elem_type: int) -> str:
    from onnx import helper

    return str(helper.tensor_dtype_to_string(elem_type)).removeprefix("TensorProto.")


def _first_channels(graph: Graph) -> int | None:
    """Channels that the first convolution takes."""
    for node in graph.nodes:
        weight = graph.tensor(node.input[1]) if is_op(node, "Conv") else None
        if weight is not None:
            group = next((item.i for item in node.attribute if item.name == "group"), 1)
            return int(weight.dims[1]) * int(group)
    return None
