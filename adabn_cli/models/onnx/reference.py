"""The layers of a folded ONNX graph as sites, told by the checkpoint from before it was folded.

A fold leaves `W_folded = W s` with `s = gamma / sqrt(var + eps)`, one factor an output channel. Of
trained weights no other pair fits, so names do not matter. C output channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from adabn_cli.adaptation.rules import FoldedSite, Unfolded
from adabn_cli.errors import ModelError, UsageError
from adabn_cli.model import FixedLayer
from adabn_cli.models.checkpoint import Checkpoint
from adabn_cli.models.graphs.model import stored_sites
from adabn_cli.models.onnx.file import OnnxFile, as_torch
from adabn_cli.models.onnx.folding import rows_by_output
from adabn_cli.models.onnx.graph import FLOATS, Graph
from adabn_cli.models.onnx.sites import GraphSite, Layout, lay_out
from adabn_cli.text import first_few

# float16 rounds by 5e-4, float32 by 6e-8; the nearest of other weights are off by about 1.
_ROUNDING = 1e-2

# A state dict does not tell eps. torch's own first, then timm's and TensorFlow's.
_EPS = (1e-5, 1e-3, 1e-4, 1e-6, 2e-5, 1e-8, 1e-2)


@dataclass(frozen=True, kw_only=True)
class StoredNormalizer:
    """A BatchNorm layer as a checkpoint stores it, [C] each, float64."""

    gamma_C: Tensor
    beta_C: Tensor
    mean_C: Tensor
    var_C: Tensor


@dataclass(frozen=True)
class Reference:
    """The unfolded checkpoint: all of its floating tensors, and its normalizers by name."""

    path: Path
    tensors: Mapping[str, Tensor]
    normalizers: Mapping[str, StoredNormalizer]


@dataclass(frozen=True)
class FoldedLayer:
    """A layer into which a normalizer may be folded; `by_output` makes a weight of its [C, *].

    Without `by_output` it is a normalizer written out: `weight` [C] are its factors.
    """

    weight: Tensor
    bias_C: Tensor
    by_output: Callable[[Tensor], Tensor] | None


def reference_of(checkpoint: Checkpoint) -> Reference:
    """The unfolded model in a file of any format. No architecture is needed, only its tensors.

    Raises UsageError if code was named for a file that holds no whole network, ModelError if it
    stores no BatchNorm statistics.
    """
    path, module = checkpoint.path, checkpoint.module
    if checkpoint.asked.code is not None and module is None:
        raise UsageError(
            "Of this reference only the tensors are read.",
            where=str(path),
            hint="Leave out --arch.",
        )
    if isinstance(checkpoint.root, OnnxFile):
        graph = Graph(proto=checkpoint.root.proto.graph)
        tensors = {x: as_torch(t) for x, t in graph.tensors.items() if t.data_type in FLOATS}
        normalizers = dict(_of_graph(graph))
    else:
        tensors = dict(checkpoint.entries if module is None else module.state_dict())
        normalizers = dict(_of_entries(tensors))
    if not normalizers:
        raise ModelError(
            "The reference stores no BatchNorm statistics.",
            where=str(path),
            hint="Give the checkpoint that was exported, from before BatchNorm was folded in.",
        )
    return Reference(path=path, tensors=tensors, normalizers=normalizers)


def _of_graph(graph: Graph) -> Iterator[tuple[str, StoredNormalizer]]:
    for found in lay_out(graph).sites:
        stored = [graph.tensor(name) for name in graph.nodes[found.places[0]].input[1:5]]
        if found.site.kind == "batch_norm":
            gamma_C, beta_C, mean_C, var_C = (as_torch(x).double() for x in stored if x is not None)
            yield (
                found.site.name,
                StoredNormalizer(gamma_C=gamma_C, beta_C=beta_C, mean_C=mean_C, var_C=var_C),
            )


def _of_entries(entries: Mapping[str, Tensor]) -> Iterator[tuple[str, StoredNormalizer]]:
    for site in stored_sites(entries, {})[0]:
        if site.kind == "batch_norm":
            prefix = site.keys["mean"].removesuffix("running_mean")
            mean_C, var_C = (entries[site.keys[x]].double().flatten() for x in ("mean", "var"))
            gamma_C = entries.get(f"{prefix}weight", torch.ones_like(mean_C)).double().flatten()
            beta_C = entries.get(f"{prefix}bias", torch.zeros_like(mean_C)).double().flatten()
            yield (
                site.name,
                StoredNormalizer(gamma_C=gamma_C, beta_C=beta_C, mean_C=mean_C, var_C=var_C),
            )


def with_reference(layout: Layout, graph: Graph, reference: Reference) -> Layout:
    """The layout with those layers alone that the reference tells, beside nodes that are kept.

    Its counts say how they were told. Raises UsageError if the graph has its normalizers,
    ModelError if none is told.
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
    told = _unfold(layers, replace(reference, normalizers=missing))
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


def _unfold(
    layers: Mapping[str, FoldedLayer], reference: Reference
) -> dict[str, tuple[str, Unfolded]]:
    """For each layer that a normalizer is folded into: the normalizer's name, and what it was.

    If several fit, the bias decides, then the order. Raises ModelError if no layer is told.
    """
    found: dict[str, tuple[str, Unfolded]] = {}
    free = dict(reference.normalizers)
    for name, layer in layers.items():
        fits = [
            (_bias_error(layer, stored, unfolded, bias_C), other, unfolded)
            for factor_C, bias_C in _factors(layer, reference.tensors)
            for other, stored in free.items()
            if (unfolded := _fitting(stored, factor_C)) is not None
        ]
        if fits:
            _, other, unfolded = min(fits, key=lambda fit: fit[0])
            found[name] = other, unfolded
            del free[other]
    if not found:
        raise ModelError(
            "The reference belongs to other weights: folded, none of its "
            f"{len(reference.normalizers)} BatchNorm layers gives a layer of the model.",
            where=str(reference.path),
            hint="Give the checkpoint that was exported; --weights ema|model chooses among several "
            "in one file.",
        )
    return found


def _factors(
    layer: FoldedLayer, tensors: Mapping[str, Tensor]
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The factors [C] by which the layer's weight is one of the reference's, and that one's bias.

    A channel that is all 0 there has no factor: NaN.
    """
    if layer.by_output is None:
        yield layer.weight.double(), None
        return
    folded_CK = layer.by_output(layer.weight.double())
    size_C = folded_CK.abs().amax(1)
    for key, tensor in tensors.items():
        forms = [tensor, tensor.mT] if tensor.dim() == 2 else [tensor]
        for form in forms:
            if form.shape != layer.weight.shape or not form.is_floating_point():
                continue
            plain_CK = layer.by_output(form.double())
            square_C = (plain_CK**2).sum(1)
            factor_C = (folded_CK * plain_CK).sum(1) / square_C
            off_C = (folded_CK - factor_C.nan_to_num()[:, None] * plain_CK).abs().amax(1)
            if bool((off_C <= _ROUNDING * size_C).all()):
                bias = tensors.get(f"{key.removesuffix('weight')}bias")
                yield factor_C, None if bias is None else bias.double().flatten()
                break


def _fitting(stored: StoredNormalizer, factor_C: Tensor) -> Unfolded | None:
    """The normalizer with the eps by which its factors are these; None if they never are."""
    if stored.gamma_C.shape != factor_C.shape:
        return None
    known_C = factor_C.isfinite()
    best: tuple[float, Unfolded] | None = None
    for eps in _EPS:
        wanted_C = stored.gamma_C / (stored.var_C + eps).sqrt()
        off_C = (factor_C - wanted_C).abs()[known_C]
        if bool((off_C <= _ROUNDING * wanted_C.abs()[known_C]).all()):
            error = float((off_C**2).sum())
            if best is None or error < best[0]:
                best = error, Unfolded(stored.gamma_C, stored.beta_C, stored.var_C, eps)
    return None if best is None else best[1]


def _bias_error(
    layer: FoldedLayer, stored: StoredNormalizer, unfolded: Unfolded, bias_C: Tensor | None
) -> float:
    """How far the folded bias is from the one that this normalizer would have left."""
    factor_C = unfolded.gamma_C / (unfolded.var_C + unfolded.eps).sqrt()
    plain_C = torch.zeros_like(factor_C) if bias_C is None else bias_C
    wanted_C = stored.beta_C + (plain_C - stored.mean_C) * factor_C
    return float((layer.bias_C.double().flatten() - wanted_C).abs().amax())
