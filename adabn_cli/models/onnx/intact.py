"""Whether an ONNX graph is whole, and its data files its own.

Knows names and tensors, and where the graph says that these lie; runs and writes nothing, and knows
no operator. onnx.checker asks for more, which published models that run everywhere do not keep to.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from adabn_cli.errors import ModelError
from adabn_cli.models.containers.byte_patch import ByteSpan
from adabn_cli.models.onnx.graph import all_tensors, body_graphs
from adabn_cli.text import one_line

if TYPE_CHECKING:
    from onnx import GraphProto, TensorProto

_EXTERNAL = 1  # TensorProto.EXTERNAL
# Bits of an element whose type is packed, several to a byte, by the name of the type's end.
_PACKED = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
# Writers fill up to a page, or to what Windows maps at once.
_ALIGNMENTS = (4096, 65536)
_HINT = "Copy the graph and its data files again, together, from where they were exported."


@dataclass(frozen=True, kw_only=True)
class ExternalTensor:
    """A tensor in a data file: which, by its name beside the graph, and in which of its bytes.

    `length` is what its type and shape take; `said` is what the graph says of it, in its words.
    """

    name: str
    file: str
    span: ByteSpan
    said: dict[str, str]


def external_tensors(path: Path, tensors: Iterable[TensorProto]) -> Iterator[ExternalTensor]:
    """Those tensors of a graph that lie in data files, which are all there and in its folder.

    Raises ModelError otherwise, and if it is no number where one lies.
    """
    for tensor in tensors:
        if tensor.data_location != _EXTERNAL:
            continue
        said = {item.key: item.value for item in tensor.external_data}
        file = said.get("location", "")
        _require_file(path, file)
        try:
            start = int(said.get("offset", "0"))
            if min(start, int(said.get("length", "0"))) < 0:
                raise ValueError("a negative number")
            span = ByteSpan(start, _bytes_of(tensor))
        except (KeyError, ValueError) as error:
            name = one_line(tensor.name)
            raise _foreign(path, f"where {name!r} lies is not known", file) from error
        yield ExternalTensor(name=tensor.name, file=file, span=span, said=said)


def _require_file(path: Path, name: str) -> None:
    if not name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise ModelError(
            "The model names a data file outside its folder.",
            where=f"{path}: {name}",
            hint="Export it again with its data next to it.",
        )
    if not (path.parent / name).is_file():
        raise ModelError(
            "A data file of the model is missing.",
            where=str(path.parent / name),
            hint=f"Copy {name} next to the model; it holds the weights.",
        )


def _bytes_of(tensor: TensorProto) -> int:
    """How many bytes a tensor of its type and shape takes."""
    from onnx import TensorProto, helper

    elements: int = math.prod(tensor.dims)
    kind = TensorProto.DataType.Name(tensor.data_type)
    if kind in _PACKED:
        return math.ceil(elements * _PACKED[kind] / 8)
    size: int = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return elements * size


def belonging(path: Path, tensors: Sequence[ExternalTensor]) -> tuple[str, ...]:
    """Notes on data files that hold more than the graph's tensors.

    Raises ModelError if one cannot be the graph's: a tensor lies beyond its end, takes another
    number of bytes than its shape, shares some of them with another, or the checksum is of others.
    """
    files = sorted({tensor.file for tensor in tensors})
    notes = []
    for file in files:
        own = sorted(
            (tensor for tensor in tensors if tensor.file == file),
            key=lambda tensor: (tensor.span.start, tensor.span.end),
        )
        size = (path.parent / file).stat().st_size
        for problem in (*_misplaced(own, size), *_of_another_sum(path.parent / file, own)):
            raise _foreign(path, problem, file)
        end = max(tensor.span.end for tensor in own)
        if size not in (end, *(math.ceil(end / step) * step for step in _ALIGNMENTS)):
            notes.append(
                f"{one_line(file)} holds {size - end:,} bytes more than the tensors of the graph: "
                "it may be the data file of another model."
            )
    return tuple(notes)


def _misplaced(tensors: Sequence[ExternalTensor], size: int) -> Iterator[str]:
    """What contradicts the size of a file; the tensors come in the order of their bytes."""
    for tensor in tensors:
        name, length = one_line(tensor.name), int(tensor.said.get("length", tensor.span.length))
        if length != tensor.span.length:
            yield f"{name!r} takes {tensor.span.length:,} bytes, and {length:,} are named for it"
        if tensor.span.end > size:
            yield f"{name!r} ends at byte {tensor.span.end:,} of a file of {size:,}"
    for first, second in pairwise(tensors):
        if second.span.start < first.span.end and first.span != second.span:
            yield f"{one_line(first.name)!r} and {one_line(second.name)!r} share some of its bytes"


def _of_another_sum(file: Path, tensors: Sequence[ExternalTensor]) -> Iterator[str]:
    """Which checksum, SHA-1 as the format has it, is not that of the file."""
    sums = {said.lower() for tensor in tensors if (said := tensor.said.get("checksum"))}
    if sums:
        with file.open("rb") as stream:
            actual = hashlib.file_digest(stream, "sha1").hexdigest()
        if sums != {actual}:
            yield "its checksum is not the one that the graph names"


def _foreign(path: Path, problem: str, file: str) -> ModelError:
    return ModelError(
        f"The data file is not the one of this graph: {problem}.",
        where=f"{path}: {one_line(file)}",
        hint=_HINT,
    )


def what_is_broken(graph: GraphProto) -> str:
    """What in a graph contradicts itself; "" if nothing does."""
    problems = (*_broken_names(graph, frozenset()), *_broken_tensors(graph))
    return next(iter(problems), "")


def _broken_names(graph: GraphProto, outside: Collection[str]) -> Iterator[str]:
    """Values that are read before they are made, in a graph that also sees those outside it."""
    known = {*outside, *(item.name for item in (*graph.input, *graph.initializer))}
    known |= {item.values.name for item in graph.sparse_initializer}
    for node in graph.node:
        # What is no UTF-8 comes as bytes.
        if not all(isinstance(name, str) for name in (node.name, *node.input, *node.output)):
            yield "a name is not text"
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
