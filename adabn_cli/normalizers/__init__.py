"""How each kind of normalizer turns moments into its own statistics. Knows no module and no file.

To add one: a module with `HOLDS`, `INITIAL`, `RULE`, `believed` and `absorb`, and a line in
`NORMALIZERS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from torch import Tensor

    from adabn_cli.model import Site
    from adabn_cli.moments import Moments

#: Kind of a site -> the module with its rule; the first kind whose tensors a layer holds is its.
NORMALIZERS = {
    "batch_norm": "adabn_cli.normalizers.batch_norm",
    "batch_renorm": "adabn_cli.normalizers.batch_renorm",
    "norm_prop_input": "adabn_cli.normalizers.norm_prop_input",
    # Last: whatever holds a running mean and nothing that the kinds above know.
    "mean_only_batch_norm": "adabn_cli.normalizers.mean_only_batch_norm",
}

#: Kinds that store no statistics: measured at their output, adapted against a source profile.
MATCHED = {
    "weight_norm": "adabn_cli.normalizers.weight_norm",
    "affine": "adabn_cli.normalizers.affine",
}

#: Kinds that are told by a reference, the checkpoint from before they were folded away.
FOLDED = {"folded_batch_norm": "adabn_cli.normalizers.folded_batch_norm"}

#: Kinds that believe just what they absorbed; others keep a part of it, or leave channels alone.
EXACT = frozenset({"batch_norm", "folded_batch_norm"})


class Normalizer(Protocol):
    """One kind of normalizer: state and moments in, new entries out."""

    #: What adapting does, for people.
    RULE: str

    def believed(self, site: Site, state: Mapping[str, Tensor]) -> Moments | None:
        """What the layer takes its tensor to be, as moments of count 1; None where nothing says.

        The statistics that it stores; the site's reference stands in for what it does not store.
        """

    def absorb(
        self, site: Site, state: Mapping[str, Tensor], moments: Moments
    ) -> dict[str, Tensor]:
        """The state entries with which the layer normalizes by `moments`, in float64."""


class StoredNormalizer(Normalizer, Protocol):
    """A kind that stores statistics."""

    #: Role -> name of the tensor by which a layer of this kind is known.
    HOLDS: Mapping[str, str]

    #: Role -> what the layer is made with; empty where a trained layer may well hold the same.
    INITIAL: Mapping[str, float]


@cache
def normalizer(kind: str) -> Normalizer:
    """The rule of a kind of site, imported when first asked for."""
    return cast("Normalizer", import_module((NORMALIZERS | MATCHED | FOLDED)[kind]))


def stored_normalizer(kind: str) -> StoredNormalizer:
    """The same for a kind of `NORMALIZERS`."""
    return cast("StoredNormalizer", normalizer(kind))
