"""A domain pack: one target's statistics in a few kilobytes, for one model's weights in any format.

It belongs to weights and sites, not to a file. Sites are told by their names or, where an export
has renamed them, by the statistics that they hold. Knows no checkpoint format, no target.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from adabn_cli.adaptation.fingerprint import Fingerprint, fingerprint, learned_values, values_digest
from adabn_cli.errors import ModelError
from adabn_cli.model import Model, Place, entries_of
from adabn_cli.tensor_file import Facts, Kind, Tensors, as_bytes
from adabn_cli.text import first_few

_KIND = Kind(
    head="adabn-pack",
    name="domain pack",
    version=1,
    hint="Give the pack.safetensors that `adabn adapt` wrote.",
)

_MEASURE_ONE = "Measure one for this model: adabn adapt MODEL --target DIR."


@dataclass(frozen=True, kw_only=True)
class Pack:
    """Statistics by (site, role), of the target and of the source that they replace.

    The source's make the way back exact without the original file. So do `replaced`, the weights
    and biases, by entry, that a scaled and shifted output is folded into. `sites` are the sites in
    the order of the forward and `learned` the hashes of the learned tensors, see `learned_values`.
    """

    fingerprint: Fingerprint
    architecture: str
    target: Mapping[Place, Tensor]
    source: Mapping[Place, Tensor]
    images: int
    replaced: Mapping[str, Tensor] = field(default_factory=dict)
    sites: Sequence[str] = ()
    learned: frozenset[str] = frozenset()

    def as_bytes(self) -> bytes:
        """The pack as a safetensors file; the same statistics give the same bytes."""
        tensors = {
            f"{side}/{site}/{role}": value
            for side, statistics in (("target", self.target), ("source", self.source))
            for (site, role), value in statistics.items()
        }
        tensors |= {f"replaced/{key}": value for key, value in self.replaced.items()}
        about = {
            "version": _KIND.version,
            "fingerprint": asdict(self.fingerprint),
            "architecture": self.architecture,
            "images": self.images,
            "sites": list(self.sites),
            "learned": sorted(self.learned),
        }
        return as_bytes(_KIND.head, about, tensors)


def read_pack(path: Path) -> Pack:
    """The pack in a file. Raises InputError if it is none."""
    return _KIND.read(path, _pack_of)


def _pack_of(about: Facts, tensors: Tensors) -> Pack:
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
        fingerprint=Fingerprint(**about["fingerprint"]),
        architecture=about["architecture"],
        images=about["images"],
        replaced=replaced,
        sites=tuple(about.get("sites", ())),
        learned=frozenset(about.get("learned", ())),
        **sides,
    )


def put_in(pack: Pack, model: Model) -> None:
    """Replaces the model's statistics by the pack's. Raises ModelError where it does not match."""
    _require_weights(pack, model)
    sites = _counterparts(pack, model, pack.source)
    model.load_state(_entries(model, sites, pack.target))


def take_out(pack: Pack, model: Model) -> None:
    """Puts the source statistics back. Raises ModelError where the pack is not in the model."""
    state = model.state()
    found = {key: state[key].clone() for key in pack.replaced if key in state}
    try:
        model.load_state({key: pack.replaced[key] for key in found})
        _require_weights(pack, model)
        sites = _counterparts(pack, model, pack.target)
        _require_held(pack, model, sites, found)
    except ModelError:
        model.load_state(found)
        raise
    model.load_state(_entries(model, sites, pack.source))


def _require_weights(pack: Pack, model: Model) -> None:
    """Raises ModelError where the pack was measured on other weights or another architecture."""
    own, theirs = fingerprint(model), pack.fingerprint
    if own.weights == theirs.weights:
        return
    if pack.learned:
        learned = learned_values(model)
        # An export may add constants (its own preprocessing), or lack a head for training only.
        if learned and (learned <= pack.learned or learned >= pack.learned):
            return
    if own.sites != theirs.sites:
        raise ModelError(
            "The pack belongs to another architecture: its sites are not those of this model.",
            where=f"pack: {pack.architecture}; model: {model.architecture}",
            hint=_MEASURE_ONE,
        )
    raise ModelError(
        "The pack belongs to a model of the same architecture with other weights.",
        where=f"pack: {theirs.weights[:12]}; model: {own.weights[:12]}",
        hint=_MEASURE_ONE,
    )


def _counterparts(pack: Pack, model: Model, held: Mapping[Place, Tensor]) -> dict[str, str]:
    """The model's site for each site of the pack: that of its name, or the one that holds `held`.

    Sites that hold the same are taken in the order of the forward. Raises ModelError where that
    does not tell which is which.
    """
    roles_by_site: dict[str, list[str]] = {}
    for name, role in sorted(held):
        roles_by_site.setdefault(name, []).append(role)
    state, keys = model.state(), {site.name: site.keys for site in model.sites}
    if all(
        name in keys
        and all(
            role in keys[name] and state[keys[name][role]].numel() == held[name, role].numel()
            for role in roles
        )
        for name, roles in roles_by_site.items()
    ):
        return {name: name for name in roles_by_site}
    order = [name for name in pack.sites if name in roles_by_site] or list(roles_by_site)
    wanted = _by_digest(
        (name, {role: held[name, role] for role in roles_by_site[name]}) for name in order
    )
    found = _by_digest(
        (site.name, {role: state[key] for role, key in site.keys.items()}) for site in model.sites
    )
    alike = {x: names for x, names in wanted.items() if len(names) > 1}
    lost = [
        name
        for x, names in wanted.items()
        if len(found.get(x, ())) != len(names) or (x in alike and not pack.sites)
        for name in names
    ]
    if lost:
        raise ModelError(
            "The weights are the pack's, but the model names its sites differently, and "
            f"{len(lost)} "
            f"of the pack's {len(order)} cannot be matched by the statistics that they hold.",
            where=first_few(lost, 3),
            hint="Give the model as it was before any other pack was put in; with --revert, the "
            "one that this pack was put into.",
        )
    return {a: b for x, names in wanted.items() for a, b in zip(names, found[x], strict=True)}


def _by_digest(
    statistics: Iterable[tuple[str, Mapping[str, Tensor]]],
) -> dict[str, list[str]]:
    """The names of the sites that hold the same, by its hash."""
    names: dict[str, list[str]] = {}
    for name, by_role in statistics:
        digests = [f"{role} {values_digest(value)}" for role, value in sorted(by_role.items())]
        names.setdefault("\n".join(digests), []).append(name)
    return names


def _entries(
    model: Model, sites: Mapping[str, str], statistics: Mapping[Place, Tensor]
) -> dict[str, Tensor]:
    """The state entries that statistics by the pack's sites are in this model."""
    return entries_of(
        model, {(sites[name], role): value for (name, role), value in statistics.items()}
    )


def _require_held(
    pack: Pack, model: Model, sites: Mapping[str, str], found: Mapping[str, Tensor]
) -> None:
    """Raises ModelError unless the model held the pack, with `found` as the weights."""
    target, state = _entries(model, sites, pack.target), model.state()
    if pack.replaced:
        model.load_state(target)
        wanted, held = model.folded(), found
    else:
        wanted, held = target, state
    for key, value in wanted.items():
        if key not in held or not torch.equal(held[key], value.to(held[key])):
            if pack.replaced:
                model.load_state(_entries(model, sites, pack.source))
            raise ModelError(
                "The model does not hold this pack, so there is nothing to take out.",
                where=f"{key} differs",
                hint="Give the model that the pack was put into, or leave out --revert.",
            )
