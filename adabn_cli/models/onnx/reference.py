"""The layers of a folded ONNX graph as sites, where a reference says what was folded into them."""

from __future__ import annotations

from dataclasses import replace

import torch

from adabn_cli.adaptation.rules import FoldedSite, Unfolded
from adabn_cli.errors import UsageError
from adabn_cli.model import FixedLayer
from adabn_cli.models.onnx.file import as_torch
from adabn_cli.models.onnx.folded_layers import FoldedLayer, Reference, unfold
from adabn_cli.models.onnx.folding import rows_by_output
from adabn_cli.models.onnx.graph import Graph
from adabn_cli.models.onnx.sites import GraphSite, Layout
from adabn_cli.text import first_few


def with_reference(layout: Layout, graph: Graph, reference: Reference) -> Layout:
    """The layout with those layers alone that the reference tells, beside nodes that are kept.

    Its counts say how they were told. Raises UsageError where the graph has its normalizers,
    ModelError where none is told.
    """
    at_output = [found for found in layout.sites if found.site.kind == "affine"]
    layers = {found.site.name: _layer(layout, graph, found) for found in at_output}
    kept = _kept_of(layout, graph, reference)
    missing = {x: y for x, y in reference.normalizers.items() if x not in kept}
    if layout.kept and not missing:
        raise UsageError(
            "The graph stores statistics of its own, so it needs no reference.",
            hint="Leave out --reference.",
        )
    told = unfold(layers, replace(reference, normalizers=missing))
    found_by_name = {found.site.name: found for found in at_output}
    others = [
        FixedLayer(
            name,
            graph.nodes[found.places[0]].op_type,
            "has no BatchNorm of the reference folded in",
        )
        for name, found in found_by_name.items()
        if name not in told
    ]
    sites = [
        replace(found, site=_as_folded(found, told[found.site.name][1]))
        if found.site.name in told
        else found
        for found in layout.sites
        if found.site.kind != "affine" or found.site.name in told
    ]
    lost = missing.keys() - {other for other, _ in told.values()}
    note = (
        f"{len(told)} of the graph's {len(layers)} layers are told to be folded BatchNorm by the "
        f"weights of {reference.path}"
    )
    if layout.kept:
        note = f"{layout.kept} BatchNorm kept, {len(told)} folded into layers: {note}"
    if lost:
        note += f"; {len(lost)} of its BatchNorm layers are not found: {first_few(sorted(lost), 3)}"
    fixed = [*layout.fixed, *others]
    return replace(layout, sites=sites, fixed=fixed, counts=(f"{note}.",))


def _kept_of(layout: Layout, graph: Graph, reference: Reference) -> set[str]:
    """The normalizers of the reference that are nodes of the graph: by gamma, beta and name.

    Their statistics, which may have been adapted, decide between several of the same.
    """
    kept: set[str] = set()
    for found in layout.sites:
        if found.site.kind != "batch_norm":
            continue
        tensors = [graph.tensor(name) for name in graph.nodes[found.places[0]].input[1:4]]
        gamma_C, beta_C, mean_C = (as_torch(x).double() for x in tensors if x is not None)
        alike = {
            name: (name != found.site.name, float((stored.mean_C - mean_C).abs().max()))
            for name, stored in reference.normalizers.items()
            if name not in kept
            and stored.gamma_C.shape == gamma_C.shape
            and torch.allclose(stored.gamma_C, gamma_C, rtol=1e-3, atol=1e-6)
            and torch.allclose(stored.beta_C, beta_C, rtol=1e-3, atol=1e-6)
        }
        if alike:
            kept.add(min(alike, key=lambda name: alike[name]))
    return kept


def _layer(layout: Layout, graph: Graph, found: GraphSite) -> FoldedLayer:
    written = found.written
    if written is not None:
        return FoldedLayer(written.factor_C, written.shift_C, by_output=None)
    weight, bias = (
        as_torch(graph.tensors[layout.entries[found.inputs[name]].root])
        for name in ("weight", "bias")
    )
    return FoldedLayer(weight, bias, rows_by_output(graph.nodes[found.places[0]]))


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
