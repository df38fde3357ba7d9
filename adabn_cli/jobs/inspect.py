"""What is in a model file. Changes nothing and executes nothing that the file names.

A network that is known without that runs on one empty picture: how it is used is not in its file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict

import torch
from torch import Tensor

from adabn_cli.adaptation.rules import RULES, STORED
from adabn_cli.errors import InputError, UnsafeError
from adabn_cli.jobs.checks.believing import broken_entries, unlearned_sites
from adabn_cli.jobs.checks.probing import channels_taken, in_stretches
from adabn_cli.jobs.preprocessing import borrowed_note
from adabn_cli.model import Conduct, Model, Site
from adabn_cli.models.architectures.key_views import is_of_further_split
from adabn_cli.models.checkpoint import Checkpoint
from adabn_cli.models.open import ModelRequest, OpenedModel, open_model
from adabn_cli.models.open_checkpoint import (
    file_with_weights,
    kind_of,
    open_checkpoint,
    unsafe_imports,
)
from adabn_cli.preprocessing import Preprocessing
from adabn_cli.record import FixedLayerPart, InspectedSite, Inspection, PreprocessingPart

# Height and width of a picture that most networks run on, where nothing says theirs.
_SIZE = (64, 64)


def inspect(request: ModelRequest) -> Inspection:
    """Format, architecture, sites, preprocessing and classes, each with where it is known from.

    Where no architecture is known the sites are read off the names of the entries. Raises
    InputError for a file of no known format; one that would run code is described, not loaded.
    """
    path = request.path
    kind, imports = kind_of(path), tuple(unsafe_imports(path))
    size = file_with_weights(path).stat().st_size
    base = Inspection(path=str(path), format=kind, bytes=size, unsafe_imports=imports)
    try:
        checkpoint = open_checkpoint(
            path,
            trust_pickle=request.trust_pickle,
            weights=request.weights,
            code=request.code,
        )
    except UnsafeError:
        return base
    base = base.model_copy(update=_contents(checkpoint))
    try:
        return base.model_copy(update=_network(open_model(request, checkpoint)))
    except InputError as error:
        if request.arch is not None:
            raise
        sites = sites_by_name(checkpoint.entries)
        return base.model_copy(
            update={
                "architecture_problem": f"{error.what} {error.hint}",
                "sites": sites,
                **_doubts([_stored_site(site) for site in sites], checkpoint.entries),
            }
        )


def _contents(checkpoint: Checkpoint) -> dict[str, object]:
    metadata = checkpoint.metadata
    tensors = checkpoint.entries or (checkpoint.module.state_dict() if checkpoint.module else {})
    return {
        "sha256": checkpoint.sha256,
        "weights": checkpoint.weights,
        "tensors": len(tensors),
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
        "preprocessing": _preprocessing_part(metadata.preprocessing),
        "classes": metadata.classes,
        "classes_source": metadata.classes_source or None,
        "notes": metadata.notes,
    }


def _network(opened: OpenedModel) -> dict[str, object]:
    model = opened.model
    channels = _channels(model)
    return {
        "architecture": model.architecture,
        "architecture_source": model.architecture_source,
        "sites": tuple(
            InspectedSite(
                name=site.name,
                kind=site.kind,
                channels=site.channels,
                eps=None if RULES[site.kind].needs_profile else site.eps,
                rule=RULES[site.kind].says,
            )
            for site in model.sites
        ),
        "fixed_layers": tuple(FixedLayerPart(**asdict(layer)) for layer in model.fixed),
        "input_channels": channels,
        "input_size": model.input_size if all(model.input_size) else None,
        "preprocessing": _preprocessing_part(model.preprocessing),
        "classes": tuple(model.classes) if model.classes else None,
        "classes_source": opened.classes_source,
        "notes": (*opened.notes, *borrowed_note(model.preprocessing)),
        **_doubts(model.sites, model.state()),
    }


def _channels(model: Model) -> int | None:
    """Channels that the model takes, by running it; its sites come into the order of use.

    Those of the layer that is defined first where it does not run: its size may not be known.
    """
    known = model.preprocessing
    size = known.size if known else _SIZE
    channels = channels_taken(model, size, known.channels if known else None)
    if channels is None:
        return model.input_channels
    # Where it fails behind its first layer the sites stay in the order of definition.
    with suppress(Exception):
        model.settle(Conduct(order=in_stretches(model, torch.zeros(1, channels, *size))[1]))
    return channels


def _doubts(sites: Sequence[Site], entries: Mapping[str, Tensor]) -> dict[str, object]:
    """What cannot be believed of the entries."""
    return {
        "broken_entries": tuple(broken_entries(sites, entries)),
        "unlearned_sites": unlearned_sites(sites, entries),
    }


def _stored_site(site: InspectedSite) -> Site:
    """The site of these names; of no kind that stores statistics it has no entries."""
    held = RULES[site.kind].holds
    keys = {role: f"{site.name}.{name}" for role, name in held.items()}
    return Site(site.name, site.kind, site.channels, 0.0, keys)


def _preprocessing_part(preprocessing: Preprocessing | None) -> PreprocessingPart | None:
    return PreprocessingPart(**asdict(preprocessing)) if preprocessing else None


def sites_by_name(entries: Mapping[str, Tensor]) -> tuple[InspectedSite, ...]:
    """The sites in a state dict, told by the names and sizes of its entries alone."""
    sites: dict[str, InspectedSite] = {}
    for kind, known in STORED.items():
        first, *others = known.holds.values()
        for key, tensor in entries.items():
            name = key.removesuffix(f".{first}")
            if name == key or name in sites or is_of_further_split(name):
                continue
            if not others and _stored_beside(name, first, entries):
                continue
            beside = [entries.get(f"{name}.{other}") for other in others]
            if all(other is not None and other.numel() == tensor.numel() for other in beside):
                channels = tensor.numel()
                rule = known.says
                sites[name] = InspectedSite(
                    name=name, kind=kind, channels=channels, eps=None, rule=rule
                )
    return tuple(sites.values()) or tuple(_weight_normalized(entries))


def _weight_normalized(entries: Mapping[str, Tensor]) -> Iterator[InspectedSite]:
    """Layers under Weight Norm, of either form, that have a bias."""
    for key, g in entries.items():
        for ending in (".weight_g", ".parametrizations.weight.original0"):
            name = key.removesuffix(ending)
            if name != key and f"{name}.bias" in entries:
                rule = RULES["weight_norm"].says
                yield InspectedSite(
                    name=name, kind="weight_norm", channels=g.numel(), eps=None, rule=rule
                )


def _stored_beside(name: str, held: str, entries: Mapping[str, Tensor]) -> bool:
    """Whether the layer stores more than one statistic and what is learned or counted."""
    plain = {f"{name}.{entry}" for entry in (held, "weight", "bias", "num_batches_tracked")}
    return any(key.startswith(f"{name}.") and key not in plain for key in entries)
