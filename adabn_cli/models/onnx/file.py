"""The ONNX container: a protobuf message, with tensors in it or in data files beside it.

Reads it through the onnx library, and writes it with other values for some of its constants. Runs
nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adabn_cli.errors import ModelError
from adabn_cli.models.containers.byte_patch import TensorPlace, cast_as_stored, patch, sha256_of
from adabn_cli.models.onnx.graph import FLOATS, Entry, Graph, all_tensors
from adabn_cli.models.onnx.intact import belonging, external_tensors, what_is_broken
from adabn_cli.models.onnx.tensor_places import lay_out

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto

_COPY_AGAIN = "Copy or download it again and compare the sizes."


@dataclass(frozen=True, kw_only=True)
class OnnxFile:
    """A model message with its data loaded and its functions inlined, and what it was read from.

    `data_files` maps the data files that it names, relative to its folder, to their SHA-256.
    """

    path: Path
    sha256: str
    proto: ModelProto
    data_files: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def metadata(self) -> dict[str, str]:
        """What the exporter wrote beside the graph."""
        return {item.key: item.value for item in self.proto.metadata_props}

    @property
    def entries(self) -> dict[str, Tensor]:
        """The floating initializers by name."""
        floats = (tensor for tensor in self.proto.graph.initializer if tensor.data_type in FLOATS)
        return {tensor.name: as_torch(tensor) for tensor in floats}

    @property
    def data_paths(self) -> tuple[Path, ...]:
        """Where its data files lie."""
        return tuple(self.path.parent / name for name in self.data_files)

    def beside(self, path: Path) -> tuple[Path, ...]:
        """The data files that `write(path)` may write."""
        return (_data_of(path), *self._copies(path)) if self.data_files else ()

    def _copies(self, path: Path) -> tuple[Path, ...]:
        """Its data files under their own names; none if one of these is taken there."""
        copies = tuple(path.parent / name for name in self.data_files)
        return () if any(copy.exists() for copy in copies) else copies

    def write(self, path: Path, changed: Mapping[str, tuple[Entry, Tensor]]) -> None:
        """Writes the model with other values for these entries, and its data files beside it.

        Only the entries' bytes differ. If they do not lie in one piece, share a tensor with
        others, or a data file cannot keep its name, the model is saved anew. Raises ModelError
        if a value does not fit, a file changed since it was read, or one would be overwritten.
        """
        places = lay_out(self.path)
        edits: dict[str, dict[str, tuple[TensorPlace, Tensor]]] = {}
        in_place = not self.data_files or bool(self._copies(path))
        for key, (entry, value) in changed.items():
            place = places.get(entry.root)
            if place is None or not entry.alone:
                in_place = False
                break
            stored = cast_as_stored(key, value, place.tensor.dtype, place.tensor.shape)
            edits.setdefault(place.file, {})[key] = (place.tensor, stored)
        if not in_place:
            self._write_anew(path, changed)
            return
        for name, sha256 in self.data_files.items():
            target = path.parent / name
            if path.parent.is_dir():
                target.parent.mkdir(parents=True, exist_ok=True)
            patch(self.path.parent / name, target, edits.get(name, {}), sha256=sha256)
        patch(self.path, path, edits.get("", {}), sha256=self.sha256)

    def _write_anew(self, path: Path, changed: Mapping[str, tuple[Entry, Tensor]]) -> None:
        fresh = read_onnx(self.path, sha256_of(self.path))
        if (fresh.sha256, fresh.data_files) != (self.sha256, self.data_files):
            raise ModelError(
                "The model has changed since it was opened.",
                where=str(self.path),
                hint="Run again.",
            )
        graph = Graph(proto=fresh.proto.graph)
        for key, (entry, value) in changed.items():
            _replace(graph, fresh.proto.ir_version, entry, _message(graph, key, entry, value))
        self._save(path, fresh.proto)

    def _save(self, path: Path, proto: ModelProto) -> None:
        onnx = require_onnx(path)
        data = _data_of(path)
        if any(data.exists() and data.samefile(self.path.parent / x) for x in self.data_files):
            raise ModelError(
                "The adapted model would overwrite the data file of the model itself.",
                where=str(data),
                hint="Write it to another folder with -o.",
            )
        try:
            with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
                temporary = Path(folder) / path.name
                onnx.save_model(
                    proto,
                    temporary,
                    save_as_external_data=bool(self.data_files),
                    location=data.name,
                )
                if temporary.with_name(data.name).exists():  # Small tensors stay in the message.
                    temporary.with_name(data.name).replace(data)
                temporary.replace(path)
        except OSError as error:
            raise ModelError(
                f"The adapted model cannot be written: {error.strerror}.",
                where=str(path),
                hint="Choose another folder with -o.",
            ) from error


def _data_of(path: Path) -> Path:
    """The data file of a model that is saved anew."""
    return path.with_name(f"{path.name}.data")


def require_onnx(path: Path) -> ModuleType:
    """The onnx library. Raises ModelError, with what to install, where it is missing."""
    try:
        import onnx
        import onnx.external_data_helper
        import onnx.inliner
        import onnx.numpy_helper
    except ImportError as error:
        raise ModelError(
            "The model file is an ONNX model, and the library that reads it is missing.",
            where=str(path),
            hint='Install it: pip install "adabn[onnx]".',
        ) from error
    return onnx


def read_onnx(path: Path, sha256: str) -> OnnxFile:
    """The content of an ONNX file of that hash, and of its data files.

    Raises ModelError if it is damaged.
    """
    onnx = require_onnx(path)
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError) as error:
        raise ModelError(
            "The ONNX file is damaged or cut off.", where=f"{path}: {error}", hint=_COPY_AGAIN
        ) from error
    if not proto.graph.node:
        raise ModelError("The ONNX file holds no graph.", where=str(path), hint=_COPY_AGAIN)
    external = list(external_tensors(path, all_tensors(proto.graph)))
    notes = belonging(path, external)
    data_files = {
        name: sha256_of(path.parent / name) for name in sorted({x.file for x in external})
    }
    try:
        onnx.external_data_helper.load_external_data_for_model(proto, str(path.parent))
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        raise ModelError(
            "The model's data file is damaged or cut off.",
            where=str(error).splitlines()[0],
            hint=_COPY_AGAIN,
        ) from error
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    broken = what_is_broken(proto.graph)
    if broken:
        raise ModelError(f"The ONNX file is damaged: {broken}.", where=str(path), hint=_COPY_AGAIN)
    return OnnxFile(path=path, sha256=sha256, proto=proto, data_files=data_files, notes=notes)


def as_torch(tensor: TensorProto) -> Tensor:
    """A copy of a floating constant."""
    from onnx import numpy_helper

    return torch.from_numpy(numpy_helper.to_array(tensor).copy())


def as_message(name: str, value: Tensor) -> TensorProto:
    """A constant of that name."""
    from onnx import numpy_helper

    return numpy_helper.from_array(value.detach().cpu().contiguous().numpy(), name)


def _message(graph: Graph, key: str, entry: Entry, value: Tensor) -> TensorProto:
    """The new value as the file stores it, in its dtype and shape."""
    old = as_torch(graph.tensors[entry.root])
    return as_message(key, cast_as_stored(key, value, old.dtype, tuple(old.shape)))


def _replace(graph: Graph, ir_version: int, entry: Entry, new: TensorProto) -> None:
    """Gives the readers of an entry a new tensor of its own name; nobody else sees it."""
    proto = graph.proto
    if entry.alone:
        old = graph.tensors[entry.root]
        new.name = old.name
        old.CopyFrom(new)
        return
    _rename(proto, graph, new.name, f"{new.name}_source")
    proto.initializer.append(new)
    if ir_version < 4:  # Before, an initializer had to be an input too.
        from onnx import helper

        proto.input.append(helper.make_tensor_value_info(new.name, new.data_type, new.dims))
    for place, index in entry.readers:
        graph.nodes[place].input[index] = new.name


def _rename(proto: GraphProto, graph: Graph, old: str, new: str) -> None:
    """Renames a value wherever it is made, listed or read."""
    for item in (*proto.initializer, *proto.input, *proto.value_info):
        if item.name == old:
            item.name = new
    for node in graph.nodes:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
