"""How scale and shift of a site's output become part of the constants of its nodes, in float64.

Knows ONNX's operators; knows no file and no session. C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from adabn_cli.models.onnx.graph import Graph, attribute_of, is_op
from adabn_cli.models.onnx.layers import groups_of, output_axis
from adabn_cli.models.onnx.sites import GraphSite

if TYPE_CHECKING:
    from onnx import NodeProto


def folded(graph: Graph, found: GraphSite, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weight and bias of a site at an output, by entry, in their own dtype.

    Nothing if scale and shift are 1 and 0.
    """
    scale_C, shift_C = (state[found.site.keys[role]] for role in ("scale", "shift"))
    if not ((scale_C != 1).any() or (shift_C != 0).any()):
        return {}
    weight, bias = (state[found.inputs[name]] for name in ("weight", "bias"))
    node, written = graph.nodes[found.places[0]], found.written
    if written is not None:
        factor_C = scale_C.reciprocal() if written.divides else scale_C
        new_weight = weight.double() * factor_C.reshape(weight.shape)
        shift_C = -shift_C if written.subtracts else shift_C
    else:
        new_weight = _scaled(node, weight, scale_C)
        beta = attribute_of(node, "beta") if is_op(node, "Gemm") else None
        shift_C = shift_C / (1.0 if beta is None else beta.f)
    new_bias = bias.double() * scale_C.reshape(bias.shape) + shift_C.reshape(bias.shape)
    return {
        found.inputs["weight"]: new_weight.to(weight.dtype),
        found.inputs["bias"]: new_bias.to(bias.dtype),
    }


def rows_by_output(node: NodeProto) -> Callable[[Tensor], Tensor]:
    """Makes a weight of the node's shape a matrix with a row for each output channel."""

    def rows(weight: Tensor) -> Tensor:
        if not is_op(node, "ConvTranspose"):
            return weight.movedim(output_axis(node), 0).flatten(1)
        # [in, out / groups, *]: the inputs of a group lead to the outputs of that group.
        grouped = weight.reshape(groups_of(node), -1, *weight.shape[1:])
        return grouped.movedim(2, 1).flatten(0, 1).flatten(1)

    return rows


def _scaled(node: NodeProto, weight: Tensor, scale_C: Tensor) -> Tensor:
    """The weight with each output channel scaled, in float64."""
    wide, axis = weight.double(), output_axis(node)
    if not is_op(node, "ConvTranspose"):
        shape = [1] * wide.dim()
        shape[axis] = -1
        return wide * scale_C.reshape(shape)
    # [in, out / groups, *]: the inputs of a group lead to the outputs of that group.
    grouped = wide.reshape(groups_of(node), -1, *wide.shape[1:])
    scale = scale_C.reshape(len(grouped), 1, -1, *[1] * (wide.dim() - 2))
    return (grouped * scale).reshape(wide.shape)
