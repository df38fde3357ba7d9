"""TorchScript methods cut at the calls that lead to sites.

A method whose module holds no site below it runs whole, in torch's own interpreter. If there is
one, the stretches between such calls are compiled as functions of their own. Knows the graphs of
torch's compiler; no file and no engine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.jit._script import RecursiveScriptModule

from adabn_cli.errors import ModelError
from adabn_cli.model import Site
from adabn_cli.models.graphs.aten_operations import operation
from adabn_cli.models.graphs.fold_places import Operation
from adabn_cli.models.graphs.torchscript_steps import (
    Block,
    Branch,
    Call,
    Loop,
    Method,
    Step,
    Stretch,
    Visit,
)

#: A graph, a node and a value of torch's compiler, which have no useful types.
_Graph = Any
_Node = Any
_Value = Any

#: Nodes that compute nothing, copied to wherever they are needed. The second stands for a value on
#: a way that ends in an exception.
_FIXED = ("prim::Constant", "prim::Uninitialized")

_TRACE_IT = (
    "Trace it instead (torch.jit.trace(model.eval(), images)), or give the checkpoint that it was "
    "made from."
)


class Planner:
    """Cuts the methods of one network. `modules` and `sites` are by every path that they have."""

    def __init__(
        self, modules: Mapping[str, RecursiveScriptModule], sites: Mapping[str, Site]
    ) -> None:
        self.modules = modules
        self._sites = sites
        paths = [path.split(".") for path in sites]
        self._above = {".".join(names[:n]) for names in paths for n in range(len(names))}
        self._methods: dict[tuple[str, str], Method] = {}

    def plan(self, path: str = "", method: str = "forward") -> Method:
        """The method of the module at a path. Raises ModelError for what cannot be followed."""
        key = (path, method)
        if key not in self._methods:
            graph = self.modules[path]._c._get_method(method).graph
            self._methods[key] = _Cut(self, path, graph).method()
        return self._methods[key]

    def site(self, path: str) -> Site | None:
        """The site whose module this is."""
        return self._sites.get(path)

    def leads_to_sites(self, path: str) -> bool:
        """Whether the module at a path has a site below it, or is one."""
        return path in self._above or path in self._sites


class _Cut:
    """One method's graph on its way to steps. `paths` are those of its modules, by value."""

    def __init__(self, planner: Planner, path: str, graph: _Graph) -> None:
        self._planner = planner
        self._graph = graph
        self._where = path or "the model"
        itself = next(graph.inputs()).debugName()
        self._paths = {itself: path}
        self._constants: dict[str, Any] = {itself: planner.modules[path]}
        for node in _nodes_in(graph):
            self._keep_if_module(node)

    def method(self) -> Method:
        """The whole method."""
        block = self._block(self._graph, list(self._graph.inputs())[1:])
        return Method(block, self._constants)

    def _keep_if_module(self, node: _Node) -> None:
        if node.kind() != "prim::GetAttr" or node.input().debugName() not in self._paths:
            return
        owner, name = self._paths[node.input().debugName()], node.s("name")
        path = f"{owner}.{name}" if owner else name
        if path in self._planner.modules:
            self._paths[node.output().debugName()] = path
            self._constants[node.output().debugName()] = self._planner.modules[path]

    def _block(self, block: Any, inputs: Sequence[_Value]) -> Block:
        outputs = tuple(self._name(value) for value in block.outputs())
        groups = list(self._groups(block.nodes()))
        needed = set(outputs)
        here = {value.debugName() for value in inputs}
        here |= {value.debugName() for group in groups for n in group for value in n.outputs()}
        steps: list[tuple[Step, tuple[str, ...]]] = []
        for group in reversed(groups):
            seen = {value.debugName() for node in group for value in node.outputs()}
            seen |= {value.debugName() for node in group for value in _reads(node)}
            steps.append((self._step(group, needed), tuple(sorted((seen & here) - needed))))
            needed |= seen
        return Block(tuple(value.debugName() for value in inputs), tuple(steps[::-1]), outputs)

    def _groups(self, nodes: Iterable[_Node]) -> Iterator[list[_Node]]:
        """Nodes that make one step: one that leads to a site, or all between two such."""
        group: list[_Node] = []
        for node in nodes:
            if node.kind() in _FIXED or any(
                value.debugName() in self._paths for value in node.outputs()
            ):
                continue
            if self._leads_to_sites(node):
                yield from ([group] if group else [])
                yield [node]
                group = []
            else:
                group.append(node)
        yield from ([group] if group else [])

    def _leads_to_sites(self, node: _Node) -> bool:
        if node.kind() == "prim::CallMethod":
            path = self._paths.get(next(node.inputs()).debugName())
            if path is None:
                raise self._cannot_follow("chooses the module that it calls while it runs")
            return self._planner.leads_to_sites(path)
        return any(self._leads_to_sites(inner) for inner in _nodes_in(node, deep=False))

    def _step(self, group: Sequence[_Node], needed: set[str]) -> Step:
        node = group[0]
        if not self._leads_to_sites(node):
            return self._stretch(group, needed)
        gives = tuple(value.debugName() for value in node.outputs())
        if node.kind() == "prim::CallMethod":
            return self._call(node, needed)
        blocks = list(node.blocks())
        inputs = [self._name(value) for value in node.inputs()]
        if node.kind() == "prim::If":
            first, second = (self._block(block, []) for block in blocks)
            return Branch(inputs[0], (first, second), gives)
        if node.kind() == "prim::Loop":
            body = self._block(blocks[0], list(blocks[0].inputs()))
            return Loop(
                trips=inputs[0],
                condition=inputs[1],
                takes=tuple(inputs[2:]),
                block=body,
                gives=gives,
            )
        raise self._cannot_follow(f"runs normalizers inside {node.kind()}")

    def _call(self, node: _Node, needed: set[str]) -> Step:
        itself, *args = node.inputs()
        path, name = self._paths[itself.debugName()], node.s("name")
        site = self._planner.site(path)
        if site is None:
            takes = tuple(self._name(value) for value in args)
            return Call(self._planner.plan(path, name), takes, node.output().debugName())
        stretch = self._stretch([node], needed)
        # A module that is traced in several calls has forward1, forward2 beside forward.
        if not re.fullmatch(r"forward\d*", name):
            return stretch
        return Visit(site, stretch, tuple(self._name(value) for value in args))

    def _stretch(self, nodes: Sequence[_Node], needed: set[str]) -> Stretch:
        graph: _Graph = torch._C.Graph()
        copies: dict[str, _Value] = {}
        takes: list[_Value] = []

        def copy_of(value: _Value) -> _Value:
            name = value.debugName()
            if name not in copies and value.node().kind() in _FIXED:
                copies[name] = graph.appendNode(graph.createClone(value.node(), copy_of)).output()
            elif name not in copies:
                copies[name] = graph.addInput()
                copies[name].setType(value.type())
                takes.append(value)
            return copies[name]

        for node in nodes:
            self._require_whole(node)
            copy = graph.appendNode(graph.createClone(node, copy_of))
            copies.update(
                (old.debugName(), new)
                for old, new in zip(node.outputs(), copy.outputs(), strict=True)
            )
        gives = [v.debugName() for n in nodes for v in n.outputs() if v.debugName() in needed]
        lists = [v.debugName() for v in takes if v.type().kind() in ("ListType", "DictType")]
        results = [copies[name] for name in (*gives, *lists)]
        packed = graph.create("prim::TupleConstruct", results, 1)
        packed.output().setType(torch._C.TupleType([value.type() for value in results]))
        graph.registerOutput(graph.appendNode(packed).output())
        function = torch._C._create_function_from_graph("stretch", graph)
        return Stretch(
            function=function,
            takes=tuple(v.debugName() for v in takes),
            gives=tuple(gives),
            lists=tuple(lists),
        )

    def _require_whole(self, node: _Node) -> None:
        """Raises ModelError for a node that may reach a site, or that reaches past its stretch."""
        for inner in (node, *_nodes_in(node)):
            kind = inner.kind()
            if kind in ("prim::Enter", "prim::Exit"):
                raise self._cannot_follow("has normalizers next to or in a `with` block")
            if kind not in ("prim::GetAttr", "prim::SetAttr", "prim::CallMethod") and any(
                self._planner.leads_to_sites(self._paths[value.debugName()])
                for value in inner.inputs()
                if value.debugName() in self._paths
            ):
                raise self._cannot_follow(f"hands a module with normalizers to {kind}")

    def _name(self, value: _Value) -> str:
        name: str = value.debugName()
        if value.node().kind() in _FIXED:
            self._constants[name] = value.toIValue()
        return name

    def _cannot_follow(self, why: str) -> ModelError:
        return ModelError(
            f"A method of this TorchScript {why}, in which no forward can wait.",
            where=self._where,
            hint=_TRACE_IT,
        )


def _nodes_in(holder: Any, *, deep: bool = True) -> Iterator[_Node]:
    """The nodes of a graph or block, or in the blocks of a node; with those in their blocks."""
    blocks = holder.blocks() if hasattr(holder, "kind") else [holder]
    for block in blocks:
        for node in block.nodes():
            yield node
            if deep:
                yield from _nodes_in(node)


def _reads(node: _Node) -> Iterator[_Value]:
    """The values that a node or its blocks take."""
    yield from node.inputs()
    for block in node.blocks():
        yield from block.outputs()
        for inner in block.nodes():
            yield from _reads(inner)


#: Operators that normalize by running statistics; in all of them these inputs come in this order.
_NORMALIZING = ("aten::batch_norm", "aten::instance_norm", "aten::native_batch_norm")
_RUNNING_MEAN, _TRAINING, _EPS = 3, 5, 7
#: The same of a convolution.
_BIAS = 2


def eps_of(module: RecursiveScriptModule, path: str) -> float | None:
    """What a layer's code adds to variances, None if that cannot be told.

    Raises ModelError if it was traced in training mode, which it can never leave.
    """
    own = getattr(module, "eps", None)  # A traced module has no such constants.
    found = own if isinstance(own, float) else 0.0
    for name in module._c._method_names():
        graph = module._c._get_method(name).graph.copy()
        torch._C._jit_pass_inline(graph)
        # In a branch it may be told to train: which way it goes is another question.
        if any(_constant(node, _TRAINING) for node in graph.nodes() if node.kind() in _NORMALIZING):
            raise ModelError(
                "This TorchScript was traced in training mode: it normalizes by each batch and "
                "never reads the statistics that it stores.",
                where=path,
                hint="Trace it again: torch.jit.trace(model.eval(), images).",
            )
        for node in _nodes_in(graph):
            if node.kind() in _NORMALIZING:
                # Batch Renormalization passes 0: its eps is in the spread that it stores.
                found = found or float(_constant(node, _EPS) or 0)
    return found or None


def operations_of(module: RecursiveScriptModule) -> list[Operation]:
    """What part each operator of a network plays beside normalizers, in the order of its code."""
    operations = []
    for node in _nodes_in(module.inlined_graph):
        takes = [value.debugName() for value in node.inputs()]
        gives = [value.debugName() for value in node.outputs()]
        if node.kind() in _NORMALIZING:
            operations.append(Operation("normalizer", takes, gives))
        else:
            inputs = list(node.inputs())
            biased = len(inputs) > _BIAS and inputs[_BIAS].type().kind() != "NoneType"
            name = node.kind().rpartition("::")[2]
            operations.append(operation(name, takes, gives, biased=biased))
    return operations


def _constant(node: _Node, place: int) -> Any:
    """An input of a node, None if it is computed."""
    return list(node.inputs())[place].toIValue()
