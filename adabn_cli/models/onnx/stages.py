"""An ONNX graph cut into stages, each of which ends where a site is measured.

Plans which node runs in which stage and what passes on between them; knows no session.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adabn_cli.model import Site
from adabn_cli.models.onnx.graph import is_op, reads

if TYPE_CHECKING:
    from onnx import NodeProto


@dataclass(frozen=True)
class Stop:
    """A value that a forward waits for: what `site` is measured on; the output if it is None."""

    site: Site | None
    value: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Stage:
    """The nodes that lead from one stop to the next. `takes` and `gives` are values that cross.

    `keeps` are all values, earlier ones too, that a later stage still needs.
    """

    stop: Stop
    nodes: Sequence[NodeProto]
    takes: Sequence[str]
    gives: Sequence[str]
    keeps: frozenset[str]


def plan(
    nodes: Sequence[NodeProto], image: str, constants: Collection[str], stops: Sequence[Stop]
) -> list[Stage]:
    """One stage for each stop, in order. A node runs as late as possible, and once.

    So few values wait at a stop. `constants` are the names that need no picture; nodes that compute
    others from them alone run in every stage that needs them, where a session folds them.
    """
    makers = {name: place for place, node in enumerate(nodes) for name in node.output if name}
    needs = [reads(node) - set(constants) for node in nodes]
    moving = _moving(nodes, needs, image)
    done: set[int] = set()
    groups: list[list[int]] = []
    ready = {image}
    for stop in stops:
        group = _leading_to(stop.value, makers, needs, done)
        ready |= {name for place in group for name in nodes[place].output}
        # A shape is all that is needed of many a value, which need not wait for that.
        group |= {
            place
            for place in moving - done
            if is_op(nodes[place], "Shape", "Size") and needs[place] <= ready
        }
        groups.append(sorted(group))
        done |= group & moving
    return _with_crossings([[nodes[n] for n in group] for group in groups], constants, stops)


def _moving(nodes: Sequence[NodeProto], needs: Sequence[set[str]], image: str) -> set[int]:
    """The nodes whose results depend on the picture. In a valid graph, sources come first."""
    values, moving = {image}, set()
    for place, node in enumerate(nodes):
        if needs[place] & values:
            moving.add(place)
            values.update(node.output)
    return moving


def _leading_to(
    value: str, makers: Mapping[str, int], needs: Sequence[set[str]], done: Collection[int]
) -> set[int]:
    """The nodes that a value takes and that have not run."""
    group: set[int] = set()
    open_names = [value]
    while open_names:
        place = makers.get(open_names.pop())
        if place is not None and place not in done and place not in group:
            group.add(place)
            open_names += needs[place]
    return group


def _with_crossings(
    groups: Sequence[Sequence[NodeProto]], constants: Collection[str], stops: Sequence[Stop]
) -> list[Stage]:
    """The stages, from the last to the first: what a stage gives is what a later one takes."""
    stages: list[Stage] = []
    later: set[str] = set()
    for nodes, stop in reversed(list(zip(groups, stops, strict=True))):
        made = {name for node in nodes for name in node.output if name}
        takes = {name for node in nodes for name in reads(node)} - made - set(constants)
        gives = made & (later | {stop.value})
        stages.append(
            Stage(
                stop=stop,
                nodes=nodes,
                takes=sorted(takes),
                gives=sorted(gives),
                keeps=frozenset(later),
            )
        )
        later = (later | takes | {stop.value}) - made
    return stages[::-1]
