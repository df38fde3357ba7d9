"""The .pt2 container of torch.export: a zip with a graph in JSON and the bytes of each tensor.

What is trusted: nothing. torch's own loader would unpickle example inputs and evaluate expressions;
here the JSON is read as data, and operators are looked up among those for networks alone.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adabn_cli.errors import ModelError
from adabn_cli.models.containers import torch_zip
from adabn_cli.models.containers.byte_patch import ByteSpan, TensorPlace
from adabn_cli.models.graphs.exported_graph import DTYPES, read_graph
from adabn_cli.models.graphs.exported_network import ExportedNetwork, read_signature
from adabn_cli.models.graphs.model import Network, said_beside

# What torch calls modules of whose nodes it has lost track.
_NO_MODULE = "_empty_nn_module_stack"
_SAVE_AGAIN = (
    "Save it again by a newer torch: torch.export.save(torch.export.load(FILE), NEW_FILE)."
)
_EXPORT = (
    "Give what torch.export.save wrote before it was compiled or quantized, or the checkpoint that "
    "it was made from."
)
#: What JSON that is not as it should be, and tensors made by it, raise.
_DAMAGE = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True, kw_only=True)
class ExportedFile:
    """An exported program: its graph, its tensors by name, and where they lie in the file.

    `constants` are tensors of its code, which a live module has no name for.
    """

    path: Path
    program: Mapping[str, Any]
    entries: Mapping[str, Tensor]
    constants: Mapping[str, Tensor]
    places: Mapping[str, TensorPlace]
    metadata: Mapping[str, str | list[str]]

    def network(self, device: torch.device) -> Network:
        """The network on a device. Raises ModelError if it has nothing that can be adapted."""
        try:
            signature = read_signature(self.program)
            graph = read_graph(self.program["graph_module"]["graph"], signature.results, device)
        except _DAMAGE as error:
            raise _damaged(self.path, error) from error
        entries = {key: tensor.to(device) for key, tensor in self.entries.items()}
        constants = {key: tensor.to(device) for key, tensor in self.constants.items()}
        network = ExportedNetwork(
            name=self._name(),
            graph=graph,
            signature=signature,
            entries=entries,
            constants=constants,
        )
        return network.network(str(self.path))

    @property
    def unsaved_buffers(self) -> set[str]:
        """Buffers that the module's own state dict does not have."""
        specs = self.program["graph_module"]["signature"]["input_specs"]
        buffers = [spec["buffer"] for spec in specs if "buffer" in spec]
        return {x["buffer_name"] for x in buffers if not x.get("persistent", True)}

    def _name(self) -> str:
        """The class of the module that was exported, where the nodes say of which they are."""
        for node in self.program["graph_module"]["graph"]["nodes"]:
            outermost = node.get("metadata", {}).get("nn_module_stack", "").partition(";")[0]
            if outermost and _NO_MODULE not in outermost:
                return f"exported:{outermost.rpartition('.')[2]}"
        return "exported program"


def read_exported(path: Path) -> ExportedFile:
    """The program in a .pt2 file, its tensors on the CPU. Executes and unpickles nothing.

    Raises ModelError if it is damaged, compiled, or of an older kind.
    """
    spans, unpatchable = torch_zip.member_spans(path)
    name = _only_program(path, spans, compressed=bool(unpatchable))
    texts = {key: _bytes(path, span) for key, span in spans.items()
             if key.endswith(".json") or key.startswith("extra/")}  # fmt: skip
    try:
        program = json.loads(texts[f"models/{name}.json"])
        specs = program["graph_module"]["signature"]["input_specs"]
        buffers = {spec["buffer"]["buffer_name"] for spec in specs if "buffer" in spec}
        weights = _places(path, spans, texts, f"data/weights/{name}_weights_config.json")
        constants = _places(path, spans, texts, f"data/constants/{name}_constants_config.json")
        tensors = _tensors(path, {**constants, **weights})
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    # A buffer that is not saved in a state dict lies among the constants.
    named = {key: x for key, x in tensors.items() if key in weights or key in buffers}
    return ExportedFile(
        path=path,
        program=program,
        entries=named,
        constants={key: x for key, x in tensors.items() if key not in named},
        places={key: place for key, place in {**constants, **weights}.items() if key in named},
        metadata=said_beside(
            {
                key.removeprefix("extra/"): value.decode(errors="replace")
                for key, value in texts.items()
                if key.startswith("extra/")
            }
        ),
    )


def _only_program(path: Path, members: Collection[str], *, compressed: bool) -> str:
    """The name of the one program in an archive. Raises ModelError if there is not just one."""
    names = [
        key.removeprefix("models/").removesuffix(".json")
        for key in members
        if key.startswith("models/") and key.endswith(".json")
    ]
    if len(names) > 1:
        what, hint = f"holds several: {', '.join(names)}", "Save one of them by itself."
    elif any(key.startswith("data/aotinductor/") for key in members):
        what, hint = "is compiled: its statistics are part of machine code", _EXPORT
    elif not names or f"data/weights/{names[0]}_weights_config.json" not in members:
        what, hint = "was written by an older torch", _SAVE_AGAIN
    elif compressed:
        what, hint = "lies in a compressed archive", _SAVE_AGAIN
    else:
        return names[0]
    raise ModelError(f"The exported program {what}.", where=str(path), hint=hint)


def _places(
    path: Path, spans: Mapping[str, ByteSpan], texts: Mapping[str, bytes], table: str
) -> dict[str, TensorPlace]:
    """Where the tensors lie that one table of the archive lists."""
    places: dict[str, TensorPlace] = {}
    for key, payload in json.loads(texts[table])["config"].items():
        meta = payload["tensor_meta"]
        if payload["use_pickle"] or meta is None or meta["dtype"] not in DTYPES:
            raise ModelError(
                "The exported program holds a tensor of a class of its own (quantized?).",
                where=f"{path}: {key}",
                hint=_EXPORT,
            )
        sizes, strides = (tuple(x["as_int"] for x in meta[name]) for name in ("sizes", "strides"))
        storage = spans[f"{table.rpartition('/')[0]}/{payload['path_name']}"]
        offset = meta["storage_offset"]["as_int"]
        place = TensorPlace(
            storage=storage,
            dtype=DTYPES[meta["dtype"]],
            shape=sizes,
            strides=strides,
            offset=offset,
        )
        if min((*sizes, *strides, offset)) < 0 or (0 not in sizes and not place.fits):
            raise ValueError(f"{key} does not lie within its bytes")
        places[key] = place
    return places


def _tensors(path: Path, places: Mapping[str, TensorPlace]) -> dict[str, Tensor]:
    """The tensors at these places; those that share their bytes in the file share memory."""
    storages: dict[ByteSpan, Tensor] = {}
    tensors: dict[str, Tensor] = {}
    for key, place in places.items():
        if place.storage not in storages:
            content = bytearray(_bytes(path, place.storage))
            empty = torch.empty(0, dtype=torch.uint8)
            storages[place.storage] = (
                torch.frombuffer(content, dtype=torch.uint8) if content else empty
            )
        values = storages[place.storage].view(place.dtype)
        tensors[key] = values.as_strided(place.shape, place.strides, place.offset)
    return tensors


def _bytes(path: Path, span: ByteSpan) -> bytes:
    with path.open("rb") as file:
        file.seek(span.start)
        return file.read(span.length)


def _damaged(path: Path, error: Exception) -> ModelError:
    return ModelError(
        "The exported program is damaged, or of a kind that is not known.",
        where=f"{path}: {str(error).partition(chr(10))[0]}",
        hint="Copy or download it again; or export it again by the installed version of torch.",
    )
