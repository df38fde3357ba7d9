"""Which model a pack belongs to: a hash of its sites and of its weights without the statistics.

Blind to names, so that the same weights in another file format have the same fingerprint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from adabn_cli.model import Model


@dataclass(frozen=True)
class Fingerprint:
    """`sites` covers their names and channels, `weights` every floating value that is learned."""

    sites: str
    weights: str


def fingerprint(model: Model) -> Fingerprint:
    """The fingerprint of a model, the same before and after its statistics are replaced."""
    sites = hashlib.sha256()
    for site in sorted(model.sites, key=lambda site: site.name):
        sites.update(f"{site.name}\t{site.channels}\n".encode())
    digests = sorted(_digest(tensor) for tensor in _learned(model))
    return Fingerprint(sites.hexdigest(), hashlib.sha256("\n".join(digests).encode()).hexdigest())


def learned_values(model: Model) -> frozenset[str]:
    """A short hash of the values of every learned tensor, blind to names, shapes and transposing.

    Exporters add constants to a network, drop what its forward does not need, and let equal tensors
    share one; with these the others are still known to be the same.
    """
    return frozenset(values_digest(tensor) for tensor in _learned(model))


def _learned(model: Model) -> Iterator[Tensor]:
    """Every floating tensor that is not a statistic; sparse ones whole."""
    state = model.state()
    # By address: a layer that is registered twice has its statistics under both names.
    statistics = {state[key].data_ptr() for site in model.sites for key in site.keys.values()}
    for tensor in state.values():
        if not tensor.is_floating_point():
            continue
        if tensor.layout != torch.strided:  # It has no address.
            yield tensor.to_dense()
        elif tensor.data_ptr() not in statistics:
            yield tensor


def values_digest(tensor: Tensor) -> str:
    """16 hex digits for a tensor's values as float32; a matrix and its transpose have the same."""
    forms = (tensor, tensor.mT) if tensor.dim() == 2 else (tensor,)
    return min(_hash_of_values(form) for form in forms)[:16]


def statistics_digest(model: Model) -> str:
    """A hash of the statistics that the model stores, which `fingerprint` leaves out."""
    state = model.state()
    digests = sorted(
        f"{site.name}\t{role}\t{_digest(state[key])}"
        for site in model.sites
        for role, key in site.keys.items()
    )
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _digest(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape) + ":" + _hash_of_values(tensor)


def _hash_of_values(tensor: Tensor) -> str:
    # float32 holds every float16 and bfloat16, so a halved checkpoint is compared by its values.
    values = tensor.detach().to("cpu", torch.float32).contiguous()
    return hashlib.sha256(values.numpy().tobytes()).hexdigest()
