"""The layers of an ONNX graph that can be sites at their output, and what a site is called.

Knows ONNX's operators; runs nothing and knows no file. C channels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import TYPE_CHECKING

from adabn_cli.model import FixedLayer
from adabn_cli.models.onnx.graph import FLOATS, Graph, Reader, attribute_of, is_op
from adabn_cli.models.onnx.hidden_normalizers import WrittenOut

if TYPE_CHECKING:
    from onnx import NodeProto

# A layer without a normalizer has no eps; this one keeps the divergence of a dead channel finite.
OUTPUT_EPS = 1e-8

_LAYER = {"weight": ("weight", 1), "bias": ("bias", 2)}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Nodes that can be a site, and the inputs that are its own: name -> (ending, readers)."""

    name: str
    kind: str
    places: tuple[int, ...]
    channels: int
    eps: float
    inputs: Mapping[str, tuple[str, tuple[Reader, ...]]]
    written: WrittenOut | None = None

    def parameter(self, name: str) -> str:
        """What an input is called if it needs a name of its own, as torch would call it."""
        return f"{self.name}.{self.inputs[name][0]}"


def read_at(
    places: Sequence[int], table: Mapping[str, tuple[str, int]]
) -> dict[str, tuple[str, tuple[Reader, ...]]]:
    """The inputs of a table, name -> (ending, index), as nodes at these places read them."""
    return {
        name: (ending, tuple((place, index) for place in places))
        for name, (ending, index) in table.items()
    }


def label_of(node: NodeProto) -> str:
    """What the graph calls a node."""
    return node.name or next(iter(node.output), node.op_type)


def free_name(node: NodeProto, endings: Mapping[str, str], taken: set[str]) -> str:
    """What torch calls the layer, where a parameter's name tells it; else what the graph does."""
    own = [
        name.removesuffix(ending)
        for name, ending in endings.items()
        if name.endswith(ending) and name != ending
    ]
    label = label_of(node)
    names = chain(own, [label], (f"{label}_{n}" for n in count(2)))
    name = next(name for name in names if name not in taken)
    taken.add(name)
    return name


def find_layers(graph: Graph, taken: set[str]) -> tuple[list[Candidate], list[FixedLayer]]:
    """Convolutions and linear layers as sites at their output, and those that cannot be one.

    No site gets a name that is `taken`; theirs are added.
    """
    candidates: list[Candidate] = []
    fixed: list[FixedLayer] = []
    layers = {place: node for place, node in enumerate(graph.nodes) if _is_layer(graph, node)}
    uses = Counter(node.input[1] for node in layers.values())
    for place, node in layers.items():
        name = free_name(node, {node.input[1]: ".weight"}, taken)
        channels = output_channels(graph, node)
        problem = None
        if place >= graph.top:
            problem = "is in a branch or a loop, which may run for some pictures only"
        elif channels is None:
            problem = "has a weight or a bias that is computed in the graph, or no bias"
        elif uses[node.input[1]] > 1:
            problem = "shares its weight with another layer, whose output would change too"
        if problem or channels is None:
            fixed.append(FixedLayer(name, node.op_type, problem or ""))
        else:
            inputs = read_at([place], _LAYER)
            candidates.append(
                Candidate(
                    name=name,
                    kind="affine",
                    places=(place,),
                    channels=channels,
                    eps=OUTPUT_EPS,
                    inputs=inputs,
                )
            )
    return candidates, fixed


def _is_layer(graph: Graph, node: NodeProto) -> bool:
    """Whether a node multiplies by a weight; a MatMul of two computed values is none."""
    if is_op(node, "MatMul"):
        return graph.tensor(node.input[1]) is not None
    return is_op(node, "Conv", "ConvTranspose", "Gemm")


def output_channels(graph: Graph, node: NodeProto) -> int | None:
    """Output channels of a layer whose weight and bias, one number a channel, are in the file."""
    if len(node.input) < 3 or not node.input[2]:
        return None
    weight, bias = graph.tensor(node.input[1]), graph.tensor(node.input[2])
    if weight is None or bias is None or {weight.data_type, bias.data_type} - set(FLOATS):
        return None
    axis = output_axis(node)
    channels = weight.dims[axis] * (groups_of(node) if is_op(node, "ConvTranspose") else 1)
    values = 1
    for size in bias.dims:
        values *= size
    return channels if values == channels else None


def output_axis(node: NodeProto) -> int:
    """The axis of a layer's weight along which its output channels lie, within a group."""
    if is_op(node, "Gemm"):
        transposed = attribute_of(node, "transB")
        return 0 if transposed is not None and transposed.i else 1
    return 1 if is_op(node, "ConvTranspose") else 0


def groups_of(node: NodeProto) -> int:
    """How many groups a convolution works in."""
    group = attribute_of(node, "group")
    return 1 if group is None else int(group.i)
