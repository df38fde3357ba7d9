"""What an ONNX graph holds: constants by the names that nodes read them under, and their readers.

Reads messages of the onnx library; runs nothing, and knows no site and no file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, NodeProto, TensorProto

_DEFAULT_DOMAINS = ("", "ai.onnx")

#: Floating data types that torch has too: float32, float16, float64.
FLOATS = (1, 10, 11)

#: A node, by its place in `Graph.nodes`, and which of its inputs.
Reader = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A constant tensor under the name that `readers` have it by.

    `root` names the initializer or Constant behind it; exporters let equal tensors share one.
    `alone` is whether nothing else reads that.
    """

    key: str
    name: str
    root: str
    readers: tuple[Reader, ...]
    alone: bool


def body_graphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs inside a node: branches of an If, the body of a Loop."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """The nodes of a graph and of all bodies in it; those of the graph itself come first."""
    yield from graph.node
    for node in graph.node:
        for body in body_graphs(node):
            yield from all_nodes(body)


def all_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Every tensor that is stored in a graph or in a body."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for body in body_graphs(node):
            yield from all_tensors(body)


def reads(node: NodeProto) -> set[str]:
    """The values that a node needs, those that its bodies take from outside included."""
    names = {name for name in node.input if name}
    for body in body_graphs(node):
        own = {x.name for x in (*body.input, *body.initializer)}
        own |= {name for inner in body.node for name in inner.output}
        outer = {name for inner in body.node for name in reads(inner)}
        names |= (outer | {x.name for x in body.output}) - own
    return names


def is_op(node: NodeProto, *types: str) -> bool:
    """Whether a node is one of ONNX's own operators of these names."""
    return node.domain in _DEFAULT_DOMAINS and node.op_type in types


def attribute_of(node: NodeProto, name: str) -> AttributeProto | None:
    """The attribute of that name, where the node has it."""
    return next((item for item in node.attribute if item.name == name), None)


@dataclass(kw_only=True)
class Graph:
    """A graph with its constants looked up. `nodes` are all nodes, those in bodies last.

    `given` names an input that is fed whatever default the file has for it.
    """

    proto: GraphProto
    given: str | None = None
    nodes: list[NodeProto] = field(init=False)
    tensors: dict[str, TensorProto] = field(init=False)
    constant_nodes: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.nodes = list(all_nodes(self.proto))
        self.tensors = {x.name: x for x in self.proto.initializer if x.name != self.given}
        self._roots = {name: name for name in self.tensors}
        constants = set()
        for node in self.proto.node:
            if is_op(node, "Constant") and (value := attribute_of(node, "value")):
                self.tensors[node.output[0]] = value.t
                self._roots[node.output[0]] = node.output[0]
                constants.add(node.output[0])
            elif is_op(node, "Identity") and node.input[0] in self._roots:
                self._roots[node.output[0]] = self._roots[node.input[0]]
        self.constant_nodes = frozenset(constants)

    @property
    def top(self) -> int:
        """How many of the nodes belong to the graph itself."""
        return len(self.proto.node)

    def root(self, name: str) -> str | None:
        """The initializer or Constant that a name stands for; None if it is computed."""
        return self._roots.get(name)

    def tensor(self, name: str) -> TensorProto | None:
        """The constant tensor that a name stands for; None if it is computed."""
        root = self._roots.get(name)
        return None if root is None else self.tensors[root]

    def readers(self) -> dict[str, list[Reader]]:
        """Who reads each constant name; an Identity that passes it on is no reader."""
        found: dict[str, list[Reader]] = {}
        for place, node in enumerate(self.nodes):
            if place < self.top and is_op(node, "Identity") and node.output[0] in self._roots:
                continue
            for index, name in enumerate(node.input):
                if name in self._roots:
                    found.setdefault(name, []).append((place, index))
        return found

    def entries(self, owners: Mapping[Reader, str]) -> dict[str, Entry]:
        """The floating constants by key, each with its readers.

        `owners` says which readers read a parameter of their own, and its name. If it shares a
        constant with others, it is an entry by that name, and can be replaced without them. Values
        of Constant nodes are entries only if a parameter is.
        """
        parts: list[tuple[str, str, list[Reader]]] = []
        uses: Counter[str] = Counter()
        for name, readers in self.readers().items():
            root = self._roots[name]
            by_owner: dict[str, list[Reader]] = {}
            for reader in readers:
                by_owner.setdefault(owners.get(reader, ""), []).append(reader)
            uses[root] += len(by_owner)
            if self.tensors[root].data_type not in FLOATS:
                continue
            for owner, own in by_owner.items():
                rest = f"{name}_source" if name in by_owner else name
                if owner or root not in self.constant_nodes:
                    parts.append((name if len(by_owner) == 1 else owner or rest, name, own))
        return {
            key: Entry(
                key=key,
                name=name,
                root=self._roots[name],
                readers=tuple(own),
                alone=uses[self._roots[name]] == 1,
            )
            for key, name, own in parts
        }
