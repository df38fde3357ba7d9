"""Where in an ONNX graph a normalizer may be hidden: folded into a convolution, or written out.

Knows names that exporters give, operators around a convolution, and Mul and Add by constants; knows
no site. C channels.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adabn_cli.models.graphs.fold_places import Operation, Role
from adabn_cli.models.onnx.file import as_torch
from adabn_cli.models.onnx.graph import FLOATS, Graph, is_op

if TYPE_CHECKING:
    from onnx import NodeProto

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_ACTIVATIONS = (
    *("Relu", "LeakyRelu", "PRelu", "Clip", "Elu", "Selu", "Celu", "Gelu"),
    *("HardSwish", "HardSigmoid", "Mish", "Softplus", "Tanh"),
)
_ROLES: dict[Role, tuple[str, ...]] = {
    "activation": _ACTIVATIONS,
    "gate": ("Sigmoid",),
    "product": ("Mul",),
    "pool": ("GlobalAveragePool", "GlobalMaxPool", "ReduceMean"),
    "passed": (*_CONVOLUTIONS, "Reshape", "Identity"),
}

#: What a written-out normalizer stands behind. Behind a division or a layer that normalizes, Mul
#: and Add by constants are the gamma and beta of a LayerNorm or GroupNorm.
_SOURCES = (
    *(*_CONVOLUTIONS, "Gemm", "MatMul", "Concat", "Sum", "Sigmoid", "Dropout"),
    *(*_ACTIVATIONS, "MaxPool", "AveragePool", "GlobalAveragePool", "Flatten"),
)
_LINEAR = ("Gemm", "MatMul")


@dataclass(frozen=True, kw_only=True)
class WrittenOut:
    """A normalizer written as arithmetic by constants: `y = factor_C x + shift_C`, float64.

    The values behind the node at `last` are y. The factor's constant is input `factor_input` of the
    node at `factor_place`, the shift's input `shift_input` of the last; if `divides`, that one
    divides, where `subtracts`, it is taken away. `first` is where x comes in.
    """

    first: int
    factor_place: int
    factor_input: int
    divides: bool
    last: int
    shift_input: int
    subtracts: bool
    factor_C: Tensor
    shift_C: Tensor


@dataclass
class Surroundings:
    """Who makes and who takes each value of a graph's own nodes."""

    graph: Graph
    makers: dict[str, int] = field(default_factory=dict)
    takers: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for place, node in enumerate(self.graph.nodes):
            for name in filter(None, node.input):
                self.takers.setdefault(name, []).append(place)
            if place < self.graph.top:
                self.makers.update(dict.fromkeys(filter(None, node.output), place))
        for item in self.graph.proto.output:
            self.takers.setdefault(item.name, []).append(-1)  # The caller.

    def places_behind(self, node: NodeProto) -> list[int]:
        """The places of the nodes that take what a node gives."""
        return [place for place in self.takers.get(node.output[0], ()) if place >= 0]

    def maker(self, name: str) -> NodeProto | None:
        """The node that gives a value."""
        place = self.makers.get(name)
        return None if place is None else self.graph.nodes[place]


def named_as_folded(graph: Graph, node: NodeProto) -> bool:
    """Whether a layer's weight or bias has a name that exporters give to what they folded."""
    if not is_op(node, *_CONVOLUTIONS) or len(node.input) < 3:
        return False
    weight, bias = node.input[1:3]
    if weight.startswith("onnx::") or bias == f"{weight}_bias":
        return True
    # torch up to 1.9, and the onnx optimizer: numbers, where other parameters have names.
    return weight.isdigit() and not any(
        name.isdigit()
        for other in graph.nodes
        if is_op(other, "BatchNormalization")
        for name in other.input[1:3]
    )


def operations_of(graph: Graph, normalizers: Collection[int]) -> list[Operation]:
    """What part each of the graph's own nodes plays."""
    return [
        Operation(
            "normalizer" if place in normalizers else _role(node),
            [name for name in node.input if name],
            [name for name in node.output if name],
        )
        for place, node in enumerate(graph.nodes[: graph.top])
    ]


def _role(node: NodeProto) -> Role:
    if is_op(node, *_CONVOLUTIONS) and len(node.input) > 2:
        return "convolution"
    return next((role for role, ops in _ROLES.items() if is_op(node, *ops)), "other")


def written_out(around: Surroundings) -> Iterator[WrittenOut]:
    """The places where a value is multiplied and shifted by constants, one number a channel."""
    graph = around.graph
    for place, node in enumerate(graph.nodes[: graph.top]):
        last = _step(graph, node) if is_op(node, "Add", "Sub") else None
        if last is None or (made := around.makers.get(last.value)) is None:
            continue
        factor_node = graph.nodes[made]
        factor = _step(graph, factor_node) if is_op(factor_node, "Mul", "Div") else None
        if factor is None or len(around.takers[last.value]) > 1:
            continue
        chain = [(made, factor), (place, last)]
        while (more := _before(around, chain[0][1].value)) is not None:
            chain.insert(0, more)
        shapes = {step.constant.shape for _, step in chain}
        if len({step.constant.numel() for _, step in chain}) > 1 or not _fits(
            around, chain[0][1].value, shapes
        ):
            continue
        factor_C, shift_C = _composed([step for _, step in chain])
        yield WrittenOut(
            first=chain[0][0],
            factor_place=made,
            factor_input=factor.constant_input,
            divides=factor.op == "Div",
            last=place,
            shift_input=last.constant_input,
            subtracts=last.op == "Sub",
            factor_C=factor_C,
            shift_C=shift_C,
        )


@dataclass(frozen=True, kw_only=True)
class _Step:
    """Arithmetic of a value and a constant."""

    op: str
    value: str
    constant_input: int
    constant: Tensor


def _step(graph: Graph, node: NodeProto) -> _Step | None:
    """What a node does to a value by a constant; None if it does something else."""
    if not is_op(node, "Add", "Sub", "Mul", "Div") or len(node.input) != 2:
        return None
    for index in (1, 0) if is_op(node, "Add", "Mul") else (1,):
        found, other = graph.tensor(node.input[index]), node.input[1 - index]
        if found is not None and found.data_type in FLOATS and graph.tensor(other) is None:
            constant = as_torch(found)
            if constant.numel() > 1:
                return _Step(op=node.op_type, value=other, constant_input=index, constant=constant)
    return None


def _before(around: Surroundings, value: str) -> tuple[int, _Step] | None:
    """The step that gives a value, where nothing else takes that."""
    place = around.makers.get(value)
    if place is None or len(around.takers[value]) > 1:
        return None
    step = _step(around.graph, around.graph.nodes[place])
    return None if step is None else (place, step)


def _fits(around: Surroundings, value: str, shapes: Collection[torch.Size]) -> bool:
    """Whether constants of these shapes are one number for each channel of a value."""
    maker = around.maker(value)
    if maker is None:
        return False
    residual = is_op(maker, "Add") and _step(around.graph, maker) is None
    if not (residual or is_op(maker, *_SOURCES)):
        return False
    if all(len(shape) > 2 and shape.numel() == shape[-3] for shape in shapes):
        return True
    # [C] or [1, C] lies along the last axis, which is that of the channels in a matrix alone.
    return is_op(maker, *_LINEAR) and all(shape.numel() == shape[-1] for shape in shapes)


def _composed(steps: Collection[_Step]) -> tuple[Tensor, Tensor]:
    """The factor and the shift that the steps come to, float64 [C]."""
    factor_C, shift_C = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for step in steps:
        constant_C = step.constant.double().flatten()
        if step.op in ("Mul", "Div"):
            constant_C = constant_C if step.op == "Mul" else 1 / constant_C
            factor_C, shift_C = factor_C * constant_C, shift_C * constant_C
        else:
            shift_C = shift_C + (constant_C if step.op == "Add" else -constant_C)
            factor_C = factor_C.expand_as(shift_C)
    return factor_C, shift_C
