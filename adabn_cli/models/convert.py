"""A network's bytes in another format, with BatchNorm kept.

Writes no file and compares nothing. What is known of
preprocessing, classes and architecture goes along, under the name that reading looks for.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adabn_cli.errors import ModelError
from adabn_cli.model import Model
from adabn_cli.models.architectures.libraries import LIBRARIES
from adabn_cli.models.checkpoint import state_of_module
from adabn_cli.models.format import Format, GraphFormat
from adabn_cli.models.live.module import EagerModel, pick_outputs
from adabn_cli.models.open import OpenedModel
from adabn_cli.preprocessing import Preprocessing


def require_convertible(opened: OpenedModel, to: Format, path: Path) -> None:
    """Raises ModelError if this model cannot become a file of that format, with a way to it."""
    source = opened.checkpoint.format
    if source.stays:
        raise ModelError(
            source.stays,
            where=str(path),
            hint="Convert the checkpoint that it was exported from: adabn convert CHECKPOINT -o "
            "FILE.",
        )
    if source.is_graph and to.is_graph:
        raise ModelError(
            "A graph cannot be converted to another graph, only to a state dict.",
            where=str(path),
            hint=f"adabn convert {path.name} -o weights.pth; then convert that, with --arch.",
        )
    others = {site.kind for site in opened.model.sites} - {"batch_norm"}
    if to.is_graph and others:
        raise ModelError(
            f"Only BatchNorm stays a layer in a graph; this model adapts by {', '.join(others)}.",
            where=str(path),
            hint="Convert it to .pth or .safetensors, which keep every layer.",
        )
    to.require_library(path)


def in_float32(opened: OpenedModel, path: Path) -> OpenedModel:
    """The same model with its floating values in float32. Raises ModelError for a graph."""
    if not isinstance(opened.model, EagerModel):
        raise ModelError(
            "A graph computes in the precision that it was exported in.",
            where=str(path),
            hint="Leave out --float32, or convert the checkpoint that the graph was made from.",
        )
    return replace(opened, model=replace(opened.model, module=opened.model.module.float()))


def state_of(opened: OpenedModel) -> dict[str, Tensor]:
    """A copy of what a state dict of this network has, on the CPU; nothing shares memory."""
    model, checkpoint = opened.model, opened.checkpoint
    entries = model.state()
    if isinstance(model, EagerModel):
        entries = state_of_module(model.module)
    return {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in checkpoint.format.state_of(checkpoint, entries).items()
    }


def converted(opened: OpenedModel, to: Format, images: Tensor | None) -> bytes:
    """The bytes of a file of that format. `images` are pictures that a graph is made for.

    Raises ModelError if the network cannot be exported.
    """
    size = None if images is None else (images.shape[2], images.shape[3])
    said = _said_of(opened.model, size)
    if not isinstance(to, GraphFormat):
        return to.written(state_of(opened), said)
    if not isinstance(opened.model, EagerModel) or images is None:
        raise ModelError("Only a live network with a known input size becomes a graph.")
    return _exported(to, opened.model, images, json.dumps(said))


def _said_of(model: Model, size: tuple[int, int] | None) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if model.architecture.partition(":")[0] in LIBRARIES:
        said["architecture"] = model.architecture
    if model.preprocessing is not None:
        said["preprocessing"] = _fields(model.preprocessing, size)
    if model.classes:
        said["classes"] = list(model.classes)
    return said


def _fields(preprocessing: Preprocessing, size: tuple[int, int] | None) -> dict[str, Any]:
    fields = asdict(preprocessing) | {"size": size or preprocessing.size}
    del fields["source"]
    borrowed = [name for name in fields.pop("borrowed") if name != "size" or not size]
    fields |= {"borrowed": borrowed} if borrowed else {}
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()
    }


def _exported(to: GraphFormat, model: EagerModel, images: Tensor, said: str) -> bytes:
    """The network as a graph that gives its logits alone, for batches of any size."""
    module = model.module.eval()
    forward = module.forward

    def logits(images: Tensor) -> Any:
        return pick_outputs(forward(images), model.output)

    like = next((x for x in module.parameters() if x.is_floating_point()), torch.empty(0))
    images = images[:2].to(like)
    # On the module itself: one around it would give every entry another name.
    module.forward = logits
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # Of the exporters' own doings.
            return to.exported(module, images, said)
    except Exception as error:
        # An exporter raises whatever the network's code makes it raise.
        first = (str(error).strip().partition("\n")[0] or type(error).__name__)[:200]
        raise ModelError(
            f"The network cannot be exported: {first.rstrip('.')}.",
            where=model.architecture,
            hint="Convert it to .pth or .safetensors, which need no export.",
        ) from error
    finally:
        del module.forward
