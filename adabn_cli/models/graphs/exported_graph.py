"""The graph of an exported program: read from its JSON as data, and run so that it can wait.

Always in eval mode: what was exported in training mode is run as if it had been told `eval()`.
Knows no file and no engine.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from adabn_cli.errors import ModelError
from adabn_cli.models.graphs.aten_operations import operation
from adabn_cli.models.graphs.fold_places import Operation

#: Numbers of torch's export schema -> what they stand for.
DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    10: torch.complex64,
    11: torch.complex128,
    12: torch.bool,
    13: torch.bfloat16,
}
_MEMORY_FORMATS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
_NUMBERED: dict[str, Mapping[int, Any]] = {
    "as_none": {True: None, False: None},
    "as_scalar_type": DTYPES,
    "as_memory_format": _MEMORY_FORMATS,
    "as_layout": {7: torch.strided},
}
_NAMED = tuple(
    f"as_{kind}"
    for kind in (
        *("tensor", "sym_int", "sym_float", "sym_bool", "optional_tensor"),
        *("tensors", "sym_ints", "sym_floats", "sym_bools", "optional_tensors", "nested_tensors"),
    )
)
_PLAIN = tuple(
    f"as_{kind}"
    for kind in (
        *("int", "float", "bool", "string"),
        *("ints", "floats", "bools", "strings", "int_lists", "float_lists"),
    )
)
_KEYWORD = 2

#: Operators for networks. None of the others is needed, and some read files or unpickle.
_OPERATOR = re.compile(r"torch\.ops\.(aten|prims|torchvision|quantized\w*)\.(\w+)\.(\w+)")
_REACHES_FILES = ("from_file", "save")
_ON_NUMBERS: dict[str, Callable[..., Any]] = {
    **{
        f"_operator.{name}": getattr(operator, name)
        for name in (
            *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "neg", "getitem"),
            *("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_"),
        )
    },
    **{f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "trunc", "sqrt")},
    **{
        f"torch.{name}": getattr(torch, name)
        for name in ("sym_int", "sym_float", "sym_max", "sym_min", "sym_not", "sym_ite")
    },
}

#: Inputs of operators by which they are told that the network trains.
_TRAINS = ("training", "train", "use_input_stats")
#: Normalizing operators that train whatever they are told.
_UPDATES = ("_batch_norm_with_update", "_native_batch_norm_legit_functional")
_RANDOM = re.compile(r"torch\.ops\.aten\.(bernoulli|rand|normal|uniform|multinomial)")

_EXPORT_AGAIN = (
    "Export it again after model.eval() by torch.export.export, or give the checkpoint that it was "
    "made from."
)


@dataclass(frozen=True)
class Reference:
    """A value that another node, or an input, gives."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operator. `gives` are the names of its results, nested as they are; None is dropped.

    `statistics` is the input that is its running mean, where it normalizes by one; `activation` is
    what it normalizes. Nobody needs the values in `dead` after it.
    """

    target: str
    call: Callable[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    gives: Any
    statistics: str | None = None
    activation: str = ""
    eps: float = 0.0
    dead: Sequence[str] = ()

    @property
    def reads(self) -> set[str]:
        """The values that it takes."""
        return {*_names([*self.args, *self.kwargs.values()], Reference)}

    @property
    def operation(self) -> Operation:
        """What part it plays beside normalizers."""
        takes = [*_names([*self.args, *self.kwargs.values()], Reference)]
        makes = [*_names([self.gives], str)]
        if self.statistics is not None:
            return Operation("normalizer", takes, makes)
        bias = self.args[2] if len(self.args) > 2 else self.kwargs.get("bias")
        name = self.target.split(".")[-2]
        return operation(name, takes, makes, biased=isinstance(bias, Reference))


@dataclass(frozen=True)
class Graph:
    """Nodes in order, and the values that are the results.

    `trains`: it was exported in training mode, though it is run as if it had not been.
    """

    nodes: Sequence[Node]
    results: Sequence[Any]
    trains: bool

    def run(self, values: dict[str, Any]) -> Generator[tuple[str, Tensor], None, list[Any]]:
        """The results, waiting at each normalizer with its running mean's name and its input.

        `values` are the inputs by name; what is computed is added, and let go when it is used.
        """
        for node in self.nodes:
            if node.statistics is not None:
                yield node.statistics, values[node.activation]
            args = [_filled(arg, values) for arg in node.args]
            kwargs = {name: _filled(arg, values) for name, arg in node.kwargs.items()}
            values.update(_bound(node.gives, node.call(*args, **kwargs)))
            del args, kwargs
            for name in node.dead:
                values.pop(name, None)
        return [_filled(result, values) for result in self.results]


def read_graph(graph: Mapping[str, Any], results: Sequence[Any], device: torch.device) -> Graph:
    """The graph in a program's JSON, its tensors made on `device`.

    `results` are the arguments that it returns. Raises ModelError for what is not known.
    """
    arguments = _Arguments(device)
    given = {*_names([arguments.read(item) for item in graph["inputs"]], Reference)}
    nodes = [_node(node, arguments) for node in graph["nodes"]]
    outputs = [arguments.read(result) for result in results]
    trains = any(_trains(node) for node in graph["nodes"])
    if trains and (random := next((n for n in nodes if _RANDOM.match(n.target)), None)):
        raise ModelError(
            "The program was exported in training mode, with random layers in it.",
            where=random.target,
            hint=_EXPORT_AGAIN,
        )
    return Graph(_with_deaths(nodes, outputs, given), outputs, trains)


def _node(node: Mapping[str, Any], arguments: _Arguments) -> Node:
    target, call = node["target"], _operator(node["target"])
    named = {item["name"]: arguments.read(item["arg"]) for item in node["inputs"]}
    mean = named.get("running_mean")
    # Without statistics, by each batch is the only way that a layer ever normalizes.
    by_batch = "eps" in named and mean is None
    positional, keyword = [], {}
    for item in node["inputs"]:
        told_to_train = item["name"] in _TRAINS and not by_batch
        value = False if told_to_train else arguments.read(item["arg"])
        if _is_keyword(call, item):
            keyword[item["name"]] = value
        else:
            positional.append(value)
    gives = [_given(output) for output in node["outputs"]]
    plain = Node(
        target=target,
        call=call,
        args=positional,
        kwargs=keyword,
        gives=gives[0] if len(gives) == 1 else gives,
    )
    if not isinstance(mean, Reference):
        return plain
    eps = named.get("eps", named.get("epsilon", 1e-5))
    site = replace(plain, statistics=mean.name, activation=named["input"].name, eps=float(eps))
    if not any(f".{name}" in target for name in _UPDATES):
        return site
    inputs = [named.get(name) for name in ("input", "weight", "bias", "running_mean")]
    inputs += [named["running_var"], eps]
    return replace(site, call=_normalized, args=inputs, kwargs={}, gives=gives[:1])


def _normalized(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, eps: float
) -> tuple[Tensor, ...]:
    """What an operator that trains gives in eval mode; its other results are for training."""
    return (torch.batch_norm(x, weight, bias, mean, var, False, 0.0, eps, False),)


def _operator(target: str) -> Callable[..., Any]:
    """The operator of that name. Raises ModelError if it is not one for networks."""
    if target in _ON_NUMBERS:
        return _ON_NUMBERS[target]
    found = _OPERATOR.fullmatch(target)
    if found is not None and found[2] not in _REACHES_FILES:
        packet = getattr(getattr(torch.ops, found[1]), found[2], None)
        overload = getattr(packet, found[3], None)
        if isinstance(overload, OpOverload):
            return overload
    raise ModelError(
        "The exported program uses an operator that cannot be followed here.",
        where=target,
        hint="Export it again without it (ep.run_decompositions() may do), or give the checkpoint "
        "that it was made from.",
    )


def _is_keyword(call: Callable[..., Any], item: Mapping[str, Any]) -> bool:
    if item.get("kind") is not None:
        return bool(item["kind"] == _KEYWORD)
    # Files of older versions do not say it.
    schema = getattr(call, "_schema", None)
    arguments = schema.arguments if schema is not None else ()
    return any(a.kwarg_only and a.name == item["name"] for a in arguments)


def _trains(node: Mapping[str, Any]) -> bool:
    """Whether a node is told that the network trains."""
    named = {item["name"]: item["arg"] for item in node["inputs"]}
    stored = "as_tensor" in named.get("running_mean", {"as_tensor": ""})
    told = any(named.get(name, {}).get("as_bool") is True for name in _TRAINS)
    return stored and (told or any(f".{name}" in node["target"] for name in _UPDATES))


@dataclass(frozen=True)
class _Arguments:
    """Reads arguments of the JSON, each a union: the name of its kind -> its value."""

    device: torch.device

    def read(self, argument: Mapping[str, Any]) -> Any:
        """The argument, with a Reference for each value that has a name."""
        ((kind, value),) = argument.items()
        if kind in _PLAIN:
            return value
        if kind in _NAMED:
            return _named(value)
        if kind in _NUMBERED and value in _NUMBERED[kind]:
            return _NUMBERED[kind][value]
        if kind == "as_device":
            return self.device
        raise ModelError(
            "The exported program has an argument that cannot be followed here.",
            where=f"{kind}: {str(value)[:80]}",
            hint=_EXPORT_AGAIN,
        )


def _named(value: Any) -> Any:
    """Names of tensors and numbers, nested in lists; numbers and None may stand among them."""
    if isinstance(value, list):
        return [_named(item) for item in value]
    if "name" in value:
        return Reference(value["name"])
    ((kind, inner),) = value.items()
    if kind == "as_tensor":
        return _named(inner)
    if kind == "as_name":
        return Reference(inner)
    return None if kind == "as_none" else inner


def _given(output: Mapping[str, Any]) -> Any:
    """The names that a result is bound to."""
    ((kind, value),) = output.items()
    if kind == "as_none":
        return None
    if isinstance(value, list):
        return [item.get("name", item.get("as_name")) for item in value]
    return value.get("name", value.get("as_name"))


def _filled(argument: Any, values: Mapping[str, Any]) -> Any:
    """An argument with values in the place of references."""
    if isinstance(argument, Reference):
        return values[argument.name]
    if isinstance(argument, list):
        return [_filled(item, values) for item in argument]
    return argument


def _bound(gives: Any, result: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(gives, str):
        yield gives, result
    elif gives is not None:
        for name, item in zip(gives, result, strict=False):
            yield from _bound(name, item)


def _names(value: Any, kind: type[Reference | str]) -> Iterator[str]:
    """The names in an argument (of kind Reference) or among what is given (of kind str)."""
    if isinstance(value, list):
        for item in value:
            yield from _names(item, kind)
    elif isinstance(value, kind):
        yield value.name if isinstance(value, Reference) else value


def _with_deaths(nodes: Sequence[Node], results: Sequence[Any], kept: set[str]) -> list[Node]:
    """The nodes, each with the values that it is the last to need."""
    needed = {*kept, *_names(list(results), Reference)}
    finished: list[Node] = []
    for node in reversed(nodes):
        seen = {*_names(node.gives, str)} | node.reads
        finished.append(replace(node, dead=tuple(sorted(seen - needed))))
        needed |= seen
    return finished[::-1]
