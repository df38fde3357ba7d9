"""Where an ONNX graph can be adapted: BatchNormalization nodes, and layers they were folded into.

Knows ONNX's operators; runs nothing and knows no file. C channels.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from adabn_cli.errors import ModelError
from adabn_cli.model import FixedLayer, Site
from adabn_cli.models.graphs.fold_places import standing_as_folded, told
from adabn_cli.models.onnx.graph import FLOATS, Entry, Graph, Reader, attribute_of, is_op
from adabn_cli.models.onnx.hidden_normalizers import (
    Surroundings,
    WrittenOut,
    named_as_folded,
    operations_of,
    written_out,
)
from adabn_cli.models.onnx.layers import (
    OUTPUT_EPS,
    Candidate,
    find_layers,
    free_name,
    label_of,
    read_at,
)
from adabn_cli.text import first_few

_STATISTICS = {"mean": ("running_mean", 3), "var": ("running_var", 4)}

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


@dataclass(frozen=True, kw_only=True)
class GraphSite:
    """A site and the nodes that are it, by their places in the graph: several if it is reused.

    `inputs` maps a name ("mean", "weight") to the state entry that the nodes read there. `written`
    is the normalizer as arithmetic, where it is that.
    """

    site: Site
    places: tuple[int, ...]
    inputs: Mapping[str, str]
    written: WrittenOut | None = None


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The sites of a graph, what is no site and why, and its entries by key.

    `shared` and `counts` are sentences for people: on layers that share what they normalize by, and
    on how many normalizers are there and how many are folded away.
    """

    sites: Sequence[GraphSite]
    fixed: Sequence[FixedLayer]
    entries: Mapping[str, Entry]
    shared: tuple[str, ...] = ()
    counts: tuple[str, ...] = ()

    @property
    def kept(self) -> int:
        """How many of the sites store statistics."""
        return sum(found.site.kind == "batch_norm" for found in self.sites)


def lay_out(graph: Graph, *, every_layer: bool = False) -> Layout:
    """The sites of a graph: its BatchNormalization nodes, or else its layers at their outputs.

    If there are both, layers that a normalizer seems to be folded into are sites beside the
    nodes; with `every_layer` all that have none behind them. Raises ModelError for a quantized
    graph.
    """
    quantized = next((node for node in graph.nodes if is_op(node, *_QUANTIZED)), None)
    if quantized is not None:
        raise ModelError(
            "The model cannot be adapted. It is quantized, and its statistics are folded into "
            "its weights.",
            where=f"{label_of(quantized)} ({quantized.op_type})",
            hint="Adapt the network before it is quantized.",
        )
    candidates, fixed, counts = _candidates(graph, every_layer)
    owners: dict[Reader, str] = {
        reader: candidate.parameter(name)
        for candidate in candidates
        for name, (_, readers) in candidate.inputs.items()
        for reader in readers
    }
    entries = graph.entries(owners)
    keys = {reader: entry.key for entry in entries.values() for reader in entry.readers}
    sites = [_site(candidate, keys) for candidate in candidates]
    return Layout(
        sites=sites, fixed=fixed, entries=entries, shared=_shared(graph, sites), counts=counts
    )


def _candidates(
    graph: Graph, every_layer: bool
) -> tuple[list[Candidate], list[FixedLayer], tuple[str, ...]]:
    """What can be a site, in the order of the graph; what cannot; and what is to be told."""
    taken: set[str] = set()
    kept, fixed = _batch_norms(graph, taken)
    fixed += _without_statistics(graph)
    around = Surroundings(graph)
    written = _written(around, taken)
    layers, others = find_layers(graph, taken)
    if not kept and not written:
        if layers and not fixed:
            reason = (
                f"is not in the graph: exporters fold it into the layers; {KEEP_NODES}; or give "
                "the checkpoint that was exported: --reference FILE"
            )
            fixed.append(FixedLayer("BatchNormalization", "ONNX", reason))
        return layers, [*fixed, *others], ()
    normalizers = {place for found in kept for place in found.places}
    normalizers |= {found.written.first for found in written if found.written}
    layers = _with_none_behind(around, layers, normalizers)
    folded = [x for x in layers if named_as_folded(graph, graph.nodes[x.places[0]])]
    standing = standing_as_folded(operations_of(graph, normalizers))
    alike = [x for x in layers if x not in folded and x.places[0] in standing]
    counts = _counts(len(kept), len(folded), len(alike), len(written))
    found = [*kept, *written, *(layers if every_layer else [*folded, *alike])]
    return sorted(found, key=lambda x: x.places), fixed, counts


def _site(candidate: Candidate, keys: Mapping[Reader, str]) -> GraphSite:
    inputs = {name: keys[readers[0]] for name, (_, readers) in candidate.inputs.items()}
    roles: Mapping[str, str] = inputs
    if candidate.kind == "affine":
        roles = {role: f"{candidate.name}.output_{role}" for role in ("scale", "shift")}
    site = Site(candidate.name, candidate.kind, candidate.channels, candidate.eps, roles)
    return GraphSite(site=site, places=candidate.places, inputs=inputs, written=candidate.written)


def _batch_norms(graph: Graph, taken: set[str]) -> tuple[list[Candidate], list[FixedLayer]]:
    """BatchNormalization nodes with their parameters in the file, and those that cannot be."""
    found: dict[tuple[str, ...], list[int]] = {}
    fixed: list[FixedLayer] = []
    for place, node in enumerate(graph.nodes):
        if not is_op(node, "BatchNormalization"):
            continue
        if problem := _problem(graph, place):
            fixed.append(FixedLayer(label_of(node), node.op_type, problem))
        else:
            # The same layer, used again, reads the same four parameters.
            found.setdefault(tuple(node.input[1:5]), []).append(place)
    candidates: list[Candidate] = []
    for parameters, places in found.items():
        node = graph.nodes[places[0]]
        scale, bias, mean, var = parameters
        endings = {mean: ".running_mean", var: ".running_var", scale: ".weight", bias: ".bias"}
        name = free_name(node, endings, taken)
        variance = graph.tensor(var)
        channels = 0 if variance is None else variance.dims[0]
        epsilon = attribute_of(node, "epsilon")
        # The attribute is a float32: 9.99999974e-06 is a 1e-5 that was rounded.
        eps = float(f"{1e-5 if epsilon is None else epsilon.f:.7g}")
        inputs = read_at(places, _STATISTICS)
        candidates.append(
            Candidate(
                name=name,
                kind="batch_norm",
                places=tuple(places),
                channels=channels,
                eps=eps,
                inputs=inputs,
            )
        )
    return candidates, fixed


def _problem(graph: Graph, place: int) -> str | None:
    """Why a BatchNormalization node is no site; None if it is one."""
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
        FixedLayer(label_of(node), node.op_type, _EACH_PICTURE)
        for node in graph.nodes
        if is_op(node, *_NOTHING_STORED)
    ]


def _shared(graph: Graph, sites: Sequence[GraphSite]) -> tuple[str, ...]:
    """Which nodes share what they normalize by, and what is made of that; a sentence each."""
    by_mean: dict[str | None, list[str]] = {}
    notes: list[str] = []
    for found in sites:
        if found.site.kind != "batch_norm":
            continue
        if len(found.places) > 1:
            nodes = [label_of(graph.nodes[place]) for place in found.places]
            notes.append(
                f"{len(nodes)} BatchNormalization nodes read the same four parameters: "
                f"{first_few(nodes, 4)}. They are one layer, {found.site.name}, used "
                f"{len(nodes)} times."
            )
        mean = graph.root(graph.nodes[found.places[0]].input[_STATISTICS["mean"][1]])
        by_mean.setdefault(mean, []).append(found.site.name)
    for names in by_mean.values():
        if len(names) > 1:
            notes.append(
                f"{len(names)} BatchNorm layers share one tensor of means: {first_few(names, 4)}. "
                "Each gets statistics of its own."
            )
    return tuple(notes)


def _written(around: Surroundings, taken: set[str]) -> list[Candidate]:
    """Normalizers that are written as arithmetic by constants, as sites behind it."""
    candidates: list[Candidate] = []
    for found in written_out(around):
        name = free_name(around.graph.nodes[found.last], {}, taken)
        inputs = {
            "weight": ("weight", ((found.factor_place, found.factor_input),)),
            "bias": ("bias", ((found.last, found.shift_input),)),
        }
        channels, places = len(found.factor_C), (found.last,)
        candidates.append(
            Candidate(
                name=name,
                kind="affine",
                places=places,
                channels=channels,
                eps=OUTPUT_EPS,
                inputs=inputs,
                written=found,
            )
        )
    return candidates


def _with_none_behind(
    around: Surroundings, layers: Sequence[Candidate], normalizers: Collection[int]
) -> list[Candidate]:
    """The layers without a normalizer at their output, behind which nothing is left to match."""
    nodes, places = around.graph.nodes, set(normalizers)
    return [
        layer
        for layer in layers
        if not places.intersection(around.places_behind(nodes[layer.places[0]]))
    ]


def _counts(kept: int, sure: int, maybe: int, written: int) -> tuple[str, ...]:
    """What of a graph's normalizers is there and what is not; nothing if all of them are."""
    counts = [f"{kept} BatchNorm kept"] if kept else []
    counts += [f"{sure} folded into convolutions"] if sure else []
    counts += [f"{written} written as Mul and Add by constants"] if written else []
    if not (sure or maybe or written):
        return ()
    return (told(counts, maybe), *([f"Exported again, {KEEP_NODES}."] if sure else []))
