"""The processes that do one piece of work together, each a part of the batches.

Knows how to exchange what each of them has; not what that is. All of them do the same in the same
order, so that whatever one waits for the others give.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol, TypeVar

_Item = TypeVar("_Item")


class Ranks(Protocol):
    """This process, `index` of `size`."""

    @property
    def index(self) -> int:
        """Which one this is, from 0."""

    @property
    def size(self) -> int:
        """How many there are."""

    def gather(self, item: _Item) -> list[_Item]:
        """What every one of them gave, by index; all of them have to call it."""


class Alone:
    """A process that has no others."""

    index, size = 0, 1

    def gather(self, item: _Item) -> list[_Item]:
        """The item alone."""
        return [item]


ALONE: Ranks = Alone()


@dataclass(frozen=True)
class Shard:
    """Part `index`, from 0, of `size`, done by a process that never meets those of the others."""

    index: int = 0
    size: int = 1

    def __str__(self) -> str:
        return f"{self.index + 1}/{self.size}"


WHOLE = Shard()


def several() -> bool:
    """Whether `torchrun`, or another launcher, has started this process beside others."""
    return int(os.environ.get("WORLD_SIZE") or 1) > 1


def speaks() -> bool:
    """Whether this is the process that tells people, and writes: one of them does."""
    return not several() or int(os.environ.get("RANK") or 0) == 0


def dealt(items: int, part: Ranks | Shard) -> range:
    """The items of this process: neighbours, evenly many up to one."""
    return range(items * part.index // part.size, items * (part.index + 1) // part.size)
