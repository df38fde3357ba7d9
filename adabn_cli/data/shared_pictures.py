"""Pictures of which each rank has decoded some, as whole batches, each at the rank that begins it.

What could not be read shifts all pictures behind it, so that a batch may begin at one rank and end
at the next, which then hands over its first pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from adabn_cli.data.store import StoredPixels
from adabn_cli.ranks import Ranks, Shard, dealt


def own_share(pictures: int, batch_size: int, part: Ranks | Shard) -> slice:
    """Which of the pictures a rank or a shard decodes: whole batches of neighbours."""
    batches = dealt(ceil(pictures / batch_size), part)
    return slice(batches.start * batch_size, batches.stop * batch_size)


@dataclass(frozen=True, eq=False)
class OwnBatches:
    """The pictures of this rank's batches: rows of `decoded` and what came from other ranks.

    `first` is the number of its first batch. `decoded` begins with row `before` of all.
    """

    decoded: StoredPixels
    kept: range
    handed_nHWC: Tensor
    first: int
    before: int

    def __len__(self) -> int:
        return len(self.kept) + len(self.handed_nHWC)

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        chosen = torch.arange(len(self))[rows]
        own = chosen < len(self.kept)
        parts = self.decoded[chosen[own] + self.kept.start]
        if bool(own.all()):
            return parts
        # Those handed over come last, and are asked for in order.
        return torch.cat([parts, self.handed_nHWC[chosen[~own] - len(self.kept)]])


def in_own_batches(
    decoded: StoredPixels, before: int, pictures: int, batch_size: int, ranks: Ranks
) -> OwnBatches:
    """Whole batches from the pictures that each rank has decoded, of all `pictures` in a row."""
    start, end = before, before + len(decoded)
    first, last = ceil(start / batch_size), ceil(end / batch_size)
    begin, stop = first * batch_size, min(last * batch_size, pictures)
    given = {row: decoded[row - start : row - start + 1] for row in range(start, min(begin, end))}
    others: dict[int, Tensor] = {}
    for part in ranks.gather(given):
        others.update(part)
    handed = [others[row] for row in range(max(end, begin), stop)]
    nothing = decoded[0:0]
    return OwnBatches(
        decoded,
        range(min(begin, end) - start, end - start),
        torch.cat([nothing, *handed]),
        first,
        before,
    )


def spread_rows(own: OwnBatches, rows: Tensor, ranks: Ranks) -> Tensor:
    """Some of all pictures, wherever they were decoded."""
    start, end = own.before, own.before + len(own.decoded)
    mine = {
        row: own.decoded[row - start : row - start + 1]
        for row in set(rows.tolist())
        if start <= row < end
    }
    found: dict[int, Tensor] = {}
    for part in ranks.gather(mine):
        found.update(part)
    return torch.cat([found[row] for row in rows.tolist()])
