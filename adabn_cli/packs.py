"""A domain pack: one target's statistics in a few kilobytes, for one model's weights.

Knows safetensors and sites; no checkpoint format, no target.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from adabn_cli.errors import InputError, ModelError
from adabn_cli.fingerprint import Fingerprint, fingerprint
from adabn_cli.model import Model, Place, entries_of

_FORMAT = "adabn-pack"
_VERSION = 1


@dataclass(frozen=True)
class Pack:
    """Statistics by (site, role), of the target and of the source that they replace.

    The source's make the way back exact without the original file. So do `replaced`, the weights
    and biases, by entry, that a scaled and shifted output is folded into.
    """

    fingerprint: Fingerprint
    architecture: str
    target: Mapping[Place, Tensor]
    source: Mapping[Place, Tensor]
    images: int
    replaced: Mapping[str, Tensor] = field(default_factory=dict)

    def as_bytes(self) -> bytes:
        """The pack as a safetensors file; the same statistics give the same bytes."""
        tensors = {
            f"{side}/{site}/{role}": value.detach().cpu().contiguous()
            for side, statistics in (("target", self.target), ("source", self.source))
            for (site, role), value in statistics.items()
        }
        tensors |= {f"replaced/{key}": x.cpu().contiguous() for key, x in self.replaced.items()}
        # One JSON entry: safetensors writes several metadata keys in a random order.
        about = {
            "version": _VERSION,
            "fingerprint": asdict(self.fingerprint),
            "architecture": self.architecture,
            "images": self.images,
        }
        return save(tensors, metadata={_FORMAT: json.dumps(about, sort_keys=True)})


def read_pack(path: Path) -> Pack:
    """The pack in a file. Raises InputError where it is none."""
    if not path.is_file():
        raise InputError(
            "There is no such pack.",
            where=str(path),
            hint="Give the pack.safetensors that `adabn adapt` wrote.",
        )
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[_FORMAT])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if about["version"] > _VERSION:
            raise InputError(
                f"The pack is of version {about['version']}; this adabn reads up to {_VERSION}.",
                where=str(path),
                hint='Update it: pip install --upgrade "adabn".',
            )
        sides: dict[str, dict[Place, Tensor]] = {"target": {}, "source": {}}
        replaced: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            side, _, rest = name.partition("/")
            if side == "replaced":
                replaced[rest] = tensor
                continue
            site, _, role = rest.rpartition("/")
            sides[side][site, role] = tensor
        return Pack(
            Fingerprint(**about["fingerprint"]),
            about["architecture"],
            sides["target"],
            sides["source"],
            about["images"],
            replaced,
        )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            "This is not a domain pack.",
            where=f"{path}: {error}".splitlines()[0],
            hint="Give the pack.safetensors that `adabn adapt` wrote.",
        ) from error


def require_match(pack: Pack, model: Model) -> None:
    """Raises ModelError where the pack was measured on other weights or another architecture."""
    own = fingerprint(model)
    if own.sites != pack.fingerprint.sites:
        raise ModelError(
            "The pack belongs to another architecture: its sites are not those of this model.",
            where=f"pack: {pack.architecture}; model: {model.architecture}",
            hint="Measure one for this model: adabn adapt MODEL --target DIR.",
        )
    if own.weights != pack.fingerprint.weights:
        raise ModelError(
            "The pack belongs to a model of the same architecture with other weights.",
            where=f"pack: {pack.fingerprint.weights[:12]}; model: {own.weights[:12]}",
            hint="Measure one for this model: adabn adapt MODEL --target DIR.",
        )


def put_in(pack: Pack, model: Model) -> None:
    """Replaces the model's statistics by the pack's. Raises ModelError where it does not match."""
    require_match(pack, model)
    model.load_state(entries_of(model, pack.target))


def take_out(pack: Pack, model: Model) -> None:
    """Puts the source statistics back. Raises ModelError where the pack is not in the model."""
    state = model.state()
    found = {key: state[key].clone() for key in pack.replaced if key in state}
    try:
        model.load_state({key: pack.replaced[key] for key in found})
        require_match(pack, model)
        _require_held(pack, model, found)
    except ModelError:
        model.load_state(found)
        raise
    model.load_state(entries_of(model, pack.source))


def _require_held(pack: Pack, model: Model, found: Mapping[str, Tensor]) -> None:
    """Raises ModelError unless the model held the pack, with `found` as the weights."""
    target, state = entries_of(model, pack.target), model.state()
    if pack.replaced:
        model.load_state(target)
        wanted, held = model.folded(), found
    else:
        wanted, held = target, state
    for key, value in wanted.items():
        if key not in held or not torch.equal(held[key], value.to(held[key])):
            if pack.replaced:
                model.load_state(entries_of(model, pack.source))
            raise ModelError(
                "The model does not hold this pack, so there is nothing to take out.",
                where=f"{key} differs",
                hint="Give the model that the pack was put into, or leave out --revert.",
            )
