"""The layers of a folded ONNX graph as sites, where a reference says what was folded into them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from adabn_cli.checkpoints.folded_layers import FoldedLayer, Reference, unfold
from adabn_cli.checkpoints.onnx_file import as_torch
from adabn_cli.checkpoints.onnx_graph import Graph, is_op
from adabn_cli.checkpoints.onnx_sites import GraphSite, Layout, groups_of, output_axis
from adabn_cli.errors import UsageError
from adabn_cli.model import FixedLayer
from adabn_cli.normalizers.folded_batch_norm import FoldedSite, Unfolded
from adabn_cli.printable import first_few

if TYPE_CHECKING:
    from onnx import NodeProto


def with_reference(layout: Layout, graph: Graph, reference: Reference) -> tuple[Layout, str]:
    """The layout with those layers alone as sites, and a sentence on how they were told.

    Raises UsageError where the graph has its normalizers, ModelError where none is told.
    """
    if any(found.site.kind != "affine" for found in layout.sites):
        raise UsageError(
            "The graph stores statistics of its own, so it needs no reference.",
            hint="Leave out --reference.",
        )
    layers = {found.site.name: _layer(layout, graph, found) for found in layout.sites}
    told = unfold(layers, reference)
    sites = [
        replace(found, site=_as_folded(found, told[found.site.name][1]))
        for found in layout.sites
        if found.site.name in told
    ]
    others = [
        FixedLayer(
            found.site.name,
            graph.nodes[found.places[0]].op_type,
            "has no BatchNorm of the reference folded in",
        )
        for found in layout.sites
        if found.site.name not in told
    ]
    lost = reference.normalizers.keys() - {other for other, _ in told.values()}
    note = (
        f"{len(told)} of the graph's {len(layers)} layers are told to be folded BatchNorm by the "
        f"weights of {reference.path}"
    )
    if lost:
        note += f"; {len(lost)} of its BatchNorm layers are not found: {first_few(sorted(lost), 3)}"
    return replace(layout, sites=sites, fixed=[*layout.fixed, *others]), f"{note}."


def _layer(layout: Layout, graph: Graph, found: GraphSite) -> FoldedLayer:
    weight, bias = (
        as_torch(graph.tensors[layout.entries[found.inputs[name]].root])
        for name in ("weight", "bias")
    )
    return FoldedLayer(weight, bias, _by_output(graph.nodes[found.places[0]]))


def _by_output(node: NodeProto) -> Callable[[Tensor], Tensor]:
    """Makes a weight of the node's shape a matrix with a row for each output channel."""

    def rows(weight: Tensor) -> Tensor:
        if not is_op(node, "ConvTranspose"):
            return weight.movedim(output_axis(node), 0).flatten(1)
        # [in, out / groups, *]: the inputs of a group lead to the outputs of that group.
        grouped = weight.reshape(groups_of(node), -1, *weight.shape[1:])
        return grouped.movedim(2, 1).flatten(0, 1).flatten(1)

    return rows


def _as_folded(found: GraphSite, unfolded: Unfolded) -> FoldedSite:
    site = found.site
    # Divergences take one eps a site; the normalizer's own differs by channel behind the fold.
    eps = float(unfolded.eps_C[unfolded.gamma_C != 0].median()) if unfolded.gamma_C.any() else 0.0
    return FoldedSite(
        site.name,
        "folded_batch_norm",
        site.channels,
        max(eps, site.eps),
        site.keys,
        unfolded=unfolded,
    )
