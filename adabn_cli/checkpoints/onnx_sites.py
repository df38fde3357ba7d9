"""Where an ONNX graph can be adapted: BatchNormalization nodes, or layers they were folded into.

Knows ONNX's operators; runs nothing and knows no file. C channels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import TYPE_CHECKING

from adabn_cli.checkpoints.onnx_graph import FLOATS, Entry, Graph, Reader, attribute_of, is_op
from adabn_cli.errors import ModelError
from adabn_cli.model import FixedLayer, Site

if TYPE_CHECKING:
    from onnx import NodeProto

# A layer without a normalizer has no eps; this one keeps the divergence of a dead channel finite.
_OUTPUT_EPS = 1e-8

_STATISTICS = {"mean": ("running_mean", 3), "var": ("running_var", 4)}
_LAYER = {"weight": ("weight", 1), "bias": ("bias", 2)}

#: How to export with the nodes kept; both were tried with torch 2.13.
KEEP_NODES = (
    "torch.onnx.export(model.eval(), ..., dynamo=True, optimize=False) or "
    "(..., dynamo=False, do_constant_folding=False) keeps them"
)
_EACH_PICTURE = "normalizes each picture by itself; it stores no statistics"
_NOTHING_STORED = (
    "InstanceNormalization",
    "LayerNormalization",
    "GroupNormalization",
    "RMSNormalization",
    "MeanVarianceNormalization",
    "LRN",
)
_QUANTIZED = (
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
)


@dataclass(frozen=True)
class GraphSite:
    """A site and the nodes that are it, by their places in the graph: several where it is reused.

    `inputs` maps a name ("mean", "weight") to the state entry that the nodes read there.
    """

    site: Site
    places: tuple[int, ...]
    inputs: Mapping[str, str]


@dataclass(frozen=True)
class Layout:
    """The sites of a graph, what is no site and why, and its entries by key."""

    sites: Sequence[GraphSite]
    fixed: Sequence[FixedLayer]
    entries: Mapping[str, Entry]


@dataclass(frozen=True)
class _Candidate:
    """Nodes that can be a site, and the inputs that are its own: name -> (ending, index)."""

    name: str
    kind: str
    places: tuple[int, ...]
    channels: int
    eps: float
    inputs: Mapping[str, tuple[str, int]]

    def parameter(self, name: str) -> str:
        """What an input is called where it needs a name of its own, as torch would call it."""
        return f"{self.name}.{self.inputs[name][0]}"


def lay_out(graph: Graph) -> Layout:
    """The sites of a graph: its BatchNormalization nodes, or else its layers at their outputs.

    Raises ModelError for a quantized graph.
    """
    quantized = next((node for node in graph.nodes if is_op(node, *_QUANTIZED)), None)
    if quantized is not None:
        raise ModelError(
            "The model cannot be adapted. It is quantized, and its statistics are folded into "
            "its weights.",
            where=f"{_label(quantized)} ({quantized.op_type})",
            hint="Adapt the network before it is quantized.",
        )
    candidates, fixed = _batch_norms(graph)
    fixed += _without_statistics(graph)
    if not candidates:
        candidates, others = _layers(graph)
        if candidates and not fixed:
            reason = (
                f"is not in the graph: exporters fold it into the layers; {KEEP_NODES}; or give "
                "the checkpoint that was exported: --reference FILE"
            )
            fixed.append(FixedLayer("BatchNormalization", "ONNX", reason))
        fixed += others
    else:
        fixed += _folded_beside(graph)
    owners: dict[Reader, str] = {
        (place, index): candidate.parameter(name)
        for candidate in candidates
        for name, (_, index) in candidate.inputs.items()
        for place in candidate.places
    }
    entries = graph.entries(owners)
    keys = {reader: entry.key for entry in entries.values() for reader in entry.readers}
    sites = [_site(candidate, keys) for candidate in candidates]
    return Layout(sites, fixed, entries)


def _site(candidate: _Candidate, keys: Mapping[Reader, str]) -> GraphSite:
    inputs = {
        name: keys[candidate.places[0], index] for name, (_, index) in candidate.inputs.items()
    }
    roles: Mapping[str, str] = inputs
    if candidate.kind == "affine":
        roles = {role: f"{candidate.name}.output_{role}" for role in ("scale", "shift")}
    site = Site(candidate.name, candidate.kind, candidate.channels, candidate.eps, roles)
    return GraphSite(site, candidate.places, inputs)


def _batch_norms(graph: Graph) -> tuple[list[_Candidate], list[FixedLayer]]:
    """BatchNormalization nodes with their parameters in the file, and those that cannot be."""
    found: dict[tuple[str, ...], list[int]] = {}
    fixed: list[FixedLayer] = []
    for place, node in enumerate(graph.nodes):
        if not is_op(node, "BatchNormalization"):
            continue
        if problem := _problem(graph, place):
            fixed.append(FixedLayer(_label(node), node.op_type, problem))
        else:
            # The same layer, used again, reads the same four parameters.
            found.setdefault(tuple(node.input[1:5]), []).append(place)
    candidates: list[_Candidate] = []
    taken: set[str] = set()
    for parameters, places in found.items():
        node = graph.nodes[places[0]]
        scale, bias, mean, var = parameters
        endings = {mean: ".running_mean", var: ".running_var", scale: ".weight", bias: ".bias"}
        name = _free_name(node, endings, taken)
        variance = graph.tensor(var)
        channels = 0 if variance is None else variance.dims[0]
        epsilon = attribute_of(node, "epsilon")
        # The attribute is a float32: 9.99999974e-06 is a 1e-5 that was rounded.
        eps = float(f"{1e-5 if epsilon is None else epsilon.f:.7g}")
        candidates.append(_Candidate(name, "batch_norm", tuple(places), channels, eps, _STATISTICS))
    return candidates, fixed


def _problem(graph: Graph, place: int) -> str | None:
    """Why a BatchNormalization node is no site; None where it is one."""
    node = graph.nodes[place]
    if place >= graph.top:
        return "is in a branch or a loop, which may run for some pictures only"
    training = attribute_of(node, "training_mode")
    if (training is not None and training.i) or sum(map(bool, node.output)) > 1:
        return (
            "is in training mode: it normalizes by each batch, also when deployed; export the "
            "model in eval mode"
        )
    spatial = attribute_of(node, "spatial")
    if spatial is not None and not spatial.i:
        return "has statistics for each position"
    tensors = [graph.tensor(name) for name in node.input[1:5]]
    stored = [tensor for tensor in tensors if tensor is not None]
    if len(stored) < 4 or any(tensor.data_type not in FLOATS for tensor in stored):
        return "has parameters that are computed in the graph"
    if any(len(tensor.dims) != 1 or tensor.dims[0] != stored[0].dims[0] for tensor in stored):
        return "has parameters of different sizes"
    return None


def _without_statistics(graph: Graph) -> list[FixedLayer]:
    return [
        FixedLayer(_label(node), node.op_type, _EACH_PICTURE)
        for node in graph.nodes
        if is_op(node, *_NOTHING_STORED)
    ]


def _folded_beside(graph: Graph) -> list[FixedLayer]:
    """That some normalizers are folded, by the names that exporters give to what they folded."""
    places = sum(
        is_op(node, "Conv", "ConvTranspose")
        and len(node.input) > 2
        and (node.input[1].startswith("onnx::") or node.input[2].endswith(".weight_bias"))
        for node in graph.nodes
    )
    reason = f"is folded into a convolution in {places} places; {KEEP_NODES}"
    return [FixedLayer("BatchNormalization", "ONNX", reason)] if places else []


def _layers(graph: Graph) -> tuple[list[_Candidate], list[FixedLayer]]:
    """Convolutions and linear layers as sites at their output, and those that cannot be one."""
    candidates: list[_Candidate] = []
    fixed: list[FixedLayer] = []
    taken: set[str] = set()
    layers = {place: node for place, node in enumerate(graph.nodes) if _is_layer(graph, node)}
    uses = Counter(node.input[1] for node in layers.values())
    for place, node in layers.items():
        name = _free_name(node, {node.input[1]: ".weight"}, taken)
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
            candidates.append(_Candidate(name, "affine", (place,), channels, _OUTPUT_EPS, _LAYER))
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


def _label(node: NodeProto) -> str:
    return node.name or next(iter(node.output), node.op_type)


def _free_name(node: NodeProto, endings: Mapping[str, str], taken: set[str]) -> str:
    """What torch calls the layer, where a parameter's name tells it; else what the graph does."""
    own = [
        name.removesuffix(ending)
        for name, ending in endings.items()
        if name.endswith(ending) and name != ending
    ]
    label = _label(node)
    names = chain(own, [label], (f"{label}_{n}" for n in count(2)))
    name = next(name for name in names if name not in taken)
    taken.add(name)
    return name
