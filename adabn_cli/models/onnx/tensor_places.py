"""Where the tensors of an ONNX file lie in its bytes, which the onnx library does not tell.

Knows protobuf's wire format and the few field numbers of onnx.proto that lead to a tensor.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from adabn_cli.models.containers.byte_patch import ByteSpan, TensorPlace

# Wire types: a number of 7 bits a byte, 8 bytes, bytes with their length in front, 4 bytes.
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5

# Field numbers of onnx.proto.
_MODEL_GRAPH, _GRAPH_NODE, _GRAPH_INITIALIZER = 7, 1, 5
_NODE_OUTPUT, _NODE_TYPE, _NODE_ATTRIBUTE, _ATTRIBUTE_TENSOR = 2, 4, 5, 5
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 8, 9
_TENSOR_EXTERNAL, _ENTRY_KEY, _ENTRY_VALUE = 13, 1, 2

#: Data type -> torch's, and the field where its values may lie as they are, beside raw_data.
_FLOATS = {1: (torch.float32, 4), 10: (torch.float16, None), 11: (torch.float64, 10)}


class Place(NamedTuple):
    """Where a tensor's values lie: in a data file, by its name; in the ONNX file if it is ""."""

    file: str
    tensor: TensorPlace


class _Field(NamedTuple):
    """A field of a message: its bytes, and the value if it is a varint."""

    number: int
    wire: int
    span: ByteSpan
    value: int = 0


def lay_out(path: Path) -> dict[str, Place]:
    """The floating initializers and Constants of the main graph whose values lie in one piece.

    By the name that nodes use. Others (float16 as a list of numbers, text) are left out. Raises
    ValueError for bytes that are no protobuf message.
    """
    places: dict[str, Place] = {}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for graph in _find(data, ByteSpan(0, len(data)), _MODEL_GRAPH):
            for field in _fields(data, graph):
                name, tensor = "", None
                if field.number == _GRAPH_INITIALIZER:
                    tensor = field.span
                    name = _text(data, tensor, _TENSOR_NAME)
                elif field.number == _GRAPH_NODE and _text(data, field.span, _NODE_TYPE) == (
                    "Constant"
                ):
                    name = _text(data, field.span, _NODE_OUTPUT)
                    tensors = (
                        tensor
                        for attribute in _find(data, field.span, _NODE_ATTRIBUTE)
                        for tensor in _find(data, attribute, _ATTRIBUTE_TENSOR)
                    )
                    tensor = next(tensors, None)
                if tensor is not None and (place := _place(data, tensor)) is not None:
                    places[name] = place
    return places


def _place(data: mmap.mmap, tensor: ByteSpan) -> Place | None:
    shape: list[int] = []
    kind, external = 0, dict[str, str]()
    values: dict[int, list[ByteSpan]] = {}
    for field in _fields(data, tensor):
        if field.number == _TENSOR_DIMS:
            shape += _numbers(data, field.span) if field.wire == _BYTES else [field.value]
        elif field.number == _TENSOR_TYPE:
            kind = field.value
        elif field.number == _TENSOR_EXTERNAL:
            key, value = (_text(data, field.span, n) for n in (_ENTRY_KEY, _ENTRY_VALUE))
            external[key] = value
        else:
            values.setdefault(field.number, []).append(field.span)
    if kind not in _FLOATS:
        return None
    dtype, listed = _FLOATS[kind]
    length = math.prod(shape) * dtype.itemsize
    if external:
        span = ByteSpan(int(external.get("offset", "0")), length)
        return Place(external["location"], TensorPlace.in_one_piece(span, dtype, shape))
    found = values.get(_TENSOR_RAW) or values.get(listed or -1) or []
    # A list of numbers may come in several pieces, each of them with a tag of its own.
    if len(found) != 1 or found[0].length != length:
        return None
    return Place("", TensorPlace.in_one_piece(found[0], dtype, shape))


def _fields(data: mmap.mmap, message: ByteSpan) -> Iterator[_Field]:
    position = message.start
    while position < message.end:
        tag, position = _varint(data, position, message.end)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, end = _varint(data, position, message.end)
            yield _Field(number, wire, ByteSpan(position, end - position), value)
        else:
            length = {_EIGHT: 8, _FOUR: 4}.get(wire, 0)
            if wire == _BYTES:
                length, position = _varint(data, position, message.end)
            end = position + length
            if end > message.end or wire not in (_EIGHT, _FOUR, _BYTES):
                raise ValueError(f"not a protobuf message at byte {position}")
            yield _Field(number, wire, ByteSpan(position, length))
        position = end


def _find(data: mmap.mmap, message: ByteSpan, number: int) -> Iterator[ByteSpan]:
    return (field.span for field in _fields(data, message) if field.number == number)


def _text(data: mmap.mmap, message: ByteSpan, number: int) -> str:
    span = next(_find(data, message, number), ByteSpan(0, 0))
    return data[span.start : span.end].decode("utf-8")


def _numbers(data: mmap.mmap, packed: ByteSpan) -> list[int]:
    numbers, position = [], packed.start
    while position < packed.end:
        number, position = _varint(data, position, packed.end)
        numbers.append(number)
    return numbers


def _varint(data: mmap.mmap, position: int, end: int) -> tuple[int, int]:
    """The number at a position, and the position behind it."""
    number = 0
    for index, byte in enumerate(data[position : min(position + 10, end)]):
        number |= (byte & 127) << (7 * index)
        if byte < 128:
            return number, position + index + 1
    raise ValueError(f"not a protobuf message at byte {position}")
