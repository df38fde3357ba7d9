"""Whether an ONNX graph holds together: a changed byte can leave a message that still reads.

Knows graphs, names and tensors; knows no operator and no file. onnx.checker asks for more, which
published models that run everywhere do not keep to.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from adabn_cli.models.onnx.graph import all_tensors, body_graphs

if TYPE_CHECKING:
    from onnx import GraphProto, TensorProto


def what_is_broken(graph: GraphProto) -> str:
    """What in a graph contradicts itself; "" where nothing does."""
    problems = (*_broken_names(graph, frozenset()), *_broken_tensors(graph))
    return next(iter(problems), "")


def _broken_names(graph: GraphProto, outside: Collection[str]) -> Iterator[str]:
    """Values that are read before they are made, in a graph that also sees those outside it."""
    known = {*outside, *(item.name for item in (*graph.input, *graph.initializer))}
    known |= {item.values.name for item in graph.sparse_initializer}
    for node in graph.node:
        # What is no UTF-8 comes as bytes.
        if not all(isinstance(name, str) for name in (node.name, *node.input, *node.output)):
            yield "a name is no text"
        if not node.output:
            yield f"a {node.op_type} node gives nothing"
        yield from (f"nothing gives {name!r}" for name in node.input if name and name not in known)
        for body in body_graphs(node):
            yield from _broken_names(body, known)
        known.update(node.output)
    yield from (f"nothing gives {item.name!r}" for item in graph.output if item.name not in known)


def _broken_tensors(graph: GraphProto) -> Iterator[str]:
    """Tensors whose values are not as many as their shape says."""
    for tensor in all_tensors(graph):
        if not _fits(tensor):
            yield f"the values of {tensor.name!r} do not fill its shape"


def _fits(tensor: TensorProto) -> bool:
    from onnx import numpy_helper

    try:
        array = numpy_helper.to_array(tensor)
    except (KeyError, OverflowError, TypeError, ValueError):
        return False
    return array.shape == tuple(tensor.dims)
