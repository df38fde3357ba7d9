"""Convolutions that stand where one with a BatchNorm folded in would, in a graph of any format.

Knows what part each operation plays; no operator's name and no tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

#: "convolution" is one with a bias. A "gate" and a "product" of the same value are an activation;
#: "passed" leaves one value a channel what it is; "pool" makes that of a map.
Role = Literal[
    "convolution", "activation", "gate", "product", "normalizer", "pool", "passed", "other"
]

_LEADS_BACK: tuple[Role, ...] = ("convolution", "activation", "gate", "product", "passed")


@dataclass(frozen=True)
class Operation:
    """What an operation is for, and the values that it takes and gives."""

    role: Role
    takes: Sequence[str]
    gives: Sequence[str]


def standing_as_folded(operations: Sequence[Operation]) -> list[int]:
    """The places of convolutions that an activation follows at once, and no normalizer behind that.

    What they take is a map: the convolutions of squeeze-and-excitation have a bias, and never had a
    normalizer. Nothing tells for sure.
    """
    makers = {name: op for op in operations for name in op.gives}
    takers: dict[str, list[Operation]] = {}
    for op in operations:
        for name in op.takes:
            takers.setdefault(name, []).append(op)

    def behind(op: Operation) -> list[Operation]:
        return [taker for name in op.gives for taker in takers.get(name, ())]

    found = []
    for place, op in enumerate(operations):
        if op.role != "convolution" or _is_of_pool(op, makers):
            continue
        direct = behind(op)
        activations = [taker for taker in direct if taker.role == "activation"]
        roles = {taker.role for x in activations for taker in behind(x)}
        roles |= {taker.role for taker in direct}
        if (activations or roles >= {"gate", "product"}) and "normalizer" not in roles:
            found.append(place)
    return found


def _is_of_pool(op: Operation, makers: Mapping[str, Operation]) -> bool:
    """Whether what an operation takes is one value a channel and picture."""
    maker = makers.get(op.takes[0])
    while maker is not None and maker.role in _LEADS_BACK:
        maker = makers.get(maker.takes[0]) if maker.takes else None
    return maker is not None and maker.role == "pool"


def told(counts: Sequence[str], maybe: int) -> str:
    """One sentence of what is counted, with how many convolutions may hide a BatchNorm."""
    parts = [*counts]
    if maybe:
        what, them = ("convolution", "it") if maybe == 1 else ("convolutions", "them")
        parts.append(
            f"{maybe} {what} with a bias and no BatchNorm after {them}: BatchNorm may be folded "
            f"into {them}"
        )
    return f"{', '.join(parts)}."
