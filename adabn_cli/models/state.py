"""How the entries of a model are replaced, whatever kind of model holds them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from adabn_cli.errors import ModelError


def replace_values(
    held: Mapping[str, Tensor], entries: Mapping[str, Tensor], architecture: str
) -> None:
    """Gives the named entries of a model other values, in place.

    Raises ModelError, with nothing changed, for an unknown name or a wrong number of values.
    """
    for key, value in entries.items():
        if key not in held:
            raise ModelError(f"The model has no entry {key!r}.", where=architecture)
        if value.numel() != held[key].numel():
            raise ModelError(
                f"{key}: {value.numel()} values for {held[key].numel()} places.",
                where=architecture,
            )
    with torch.no_grad():
        for key, value in entries.items():
            held[key].copy_(value.reshape(held[key].shape))
