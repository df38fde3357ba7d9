"""What one shard showed, as a file that `merge` reads. Knows no model and no picture.

N pictures of the shard. Its batches are numbered as those of all shards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adabn_cli.adaptation.engines.merge_order import Node, Ordered
from adabn_cli.errors import InputError
from adabn_cli.jobs.moment_file import MomentFile, read_moments
from adabn_cli.moments import SiteMoments
from adabn_cli.ranks import Shard

_VERSION = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Collected:
    """What one shard showed: the source model `before`, and each batch normalized by itself.

    Both by site, in the order of the forward. `scores` are the source model's, as arrays, empty
    where its outputs are no class scores; a label of -1 is unknown. `depends_on` is all that shards
    have in common, by names for people.
    """

    shard: Shard
    depends_on: Mapping[str, Any]
    images: int
    skipped: int
    before: Mapping[str, Ordered]
    train_mode: Mapping[str, Ordered]
    scores: Mapping[str, NDArray[Any]]
    labels_N: NDArray[np.int64]

    def as_bytes(self) -> bytes:
        """The file; the same measurements give the same bytes."""
        moments: dict[tuple[str, str, int, int], SiteMoments] = {
            (kind, name, *node): found
            for kind in ("before", "train_mode")
            for name, sums in getattr(self, kind).items()
            for node, found in sums.nodes.items()
        }
        about = {
            "collected": _VERSION,
            "shard": asdict(self.shard),
            "depends_on": self.depends_on,
            "images": self.images,
            "skipped": self.skipped,
        }
        arrays = {f"scores/{name}": array for name, array in self.scores.items()}
        arrays["labels_N"] = self.labels_N
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return MomentFile(moments, about, tensors).as_bytes()


def read_collected(file: Path) -> Collected:
    """What is in the file. Raises InputError where `adabn collect` has not written it."""
    try:
        return _collected(read_moments(file))
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = error.strerror if isinstance(error, OSError) else f"{error}".splitlines()[0]
        raise InputError(
            "This is not a file that `adabn collect` has written.",
            where=f"{file}: {why}",
            hint="Give the files of all shards, as adabn merge MODEL shard-*.safetensors.",
        ) from error


def _collected(file: MomentFile) -> Collected:
    moments, about, arrays = file
    if about["collected"] > _VERSION:
        raise ValueError(f"of version {about['collected']}: update with pip install -U adabn")
    nodes: dict[str, dict[str, dict[Node, SiteMoments]]] = {"before": {}, "train_mode": {}}
    for (kind, name, level, place), found in moments.items():
        nodes[kind].setdefault(name, {})[level, place] = found
    return Collected(
        shard=Shard(**about["shard"]),
        depends_on=about["depends_on"],
        images=about["images"],
        skipped=about["skipped"],
        **{kind: {name: Ordered(of) for name, of in by.items()} for kind, by in nodes.items()},
        scores={
            name.removeprefix("scores/"): array.numpy()
            for name, array in arrays.items()
            if name.startswith("scores/")
        },
        labels_N=arrays["labels_N"].numpy(),
    )
