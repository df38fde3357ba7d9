"""A TorchScript method as steps, so that a forward can wait at every site.

Only the calls, branches and loops around sites are followed here; what lies between them is
compiled. Knows no graph, no file and no engine.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from adabn_cli.errors import ModelError
from adabn_cli.model import Signal, Site
from adabn_cli.models.live.module import activation_of

#: Values by the name that they have in the graph of one method.
Values = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Nodes that lead past no site, as one function. `gives` are what later steps need.

    `lists` are the lists and dicts among `takes`: TorchScript shares them, Python gets copies.
    """

    function: Callable[..., tuple[Any, ...]]
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    lists: tuple[str, ...]


@dataclass(frozen=True)
class Call:
    """A method of a module with sites below it."""

    method: Method
    takes: tuple[str, ...]
    gives: str


@dataclass(frozen=True)
class Visit:
    """A call of a site's own module: the forward waits, then runs it whole."""

    site: Site
    call: Stretch
    takes: tuple[str, ...]


@dataclass(frozen=True)
class Branch:
    """An `if` around a site."""

    condition: str
    blocks: tuple[Block, Block]
    gives: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Loop:
    """A `for` or `while` around a site; `takes` are the values that it starts with."""

    trips: str
    condition: str
    takes: tuple[str, ...]
    block: Block
    gives: tuple[str, ...]


Step = Stretch | Call | Visit | Branch | Loop


@dataclass(frozen=True)
class Block:
    """Steps in order, each with the values that nobody needs after it."""

    inputs: tuple[str, ...]
    steps: tuple[tuple[Step, tuple[str, ...]], ...]
    outputs: tuple[str, ...]


@dataclass
class Method:
    """A method of one module, cut at its sites. `constants` are values that never change."""

    block: Block
    constants: Mapping[str, Any] = field(repr=False)

    def run(self, args: list[Any]) -> Generator[Signal, None, Any]:
        """Its result, waiting at every site on the way. Empties `args`, so that none lives on."""
        values = dict(zip(self.block.inputs, args, strict=True))
        args.clear()
        results = yield from self._follow(self.block, values)
        return results[0]

    def _follow(self, block: Block, values: Values) -> Generator[Signal, None, list[Any]]:
        for step, dead in block.steps:
            if isinstance(step, Stretch):
                self._stretch(step, values)
            elif isinstance(step, Visit):
                yield Signal(step.site, self._activation(step, values))
                self._stretch(step.call, values)
            elif isinstance(step, Call):
                args = [self._value(name, values) for name in step.takes]
                for name in dead:
                    values.pop(name, None)
                values[step.gives] = yield from step.method.run(args)
            elif isinstance(step, Branch):
                chosen = step.blocks[0 if self._value(step.condition, values) else 1]
                results = yield from self._follow(chosen, values)
                values.update(zip(step.gives, results, strict=True))
            else:
                yield from self._repeat(step, values)
            for name in dead:
                values.pop(name, None)
        return [self._value(name, values) for name in block.outputs]

    def _repeat(self, loop: Loop, values: Values) -> Generator[Signal, None, None]:
        trips, going = self._value(loop.trips, values), self._value(loop.condition, values)
        carried = [self._value(name, values) for name in loop.takes]
        trip = 0
        while going and trip < trips:
            values.update(zip(loop.block.inputs, [trip, *carried], strict=True))
            going, *carried = yield from self._follow(loop.block, values)
            trip += 1
        values.update(zip(loop.gives, carried, strict=True))

    def _stretch(self, step: Stretch, values: Values) -> None:
        results = step.function(*(self._value(name, values) for name in step.takes))
        values.update(zip(step.gives, results, strict=False))
        for name, changed in zip(step.lists, results[len(step.gives) :], strict=True):
            held = values[name]
            held.clear()
            held.extend(changed) if isinstance(held, list) else held.update(changed)

    def _activation(self, step: Visit, values: Values) -> Tensor:
        for name in step.takes:
            value = self._value(name, values)
            if isinstance(value, Tensor):
                return activation_of(step.site, value)
        raise ModelError(f"The layer {step.site.name} was called without a tensor.")

    def _value(self, name: str, values: Values) -> Any:
        return values[name] if name in values else self.constants[name]
