"""The TorchScript container: a zip with the code of a network, its attributes, and their tensors.

What is trusted: torch's own loader, which builds nothing but TorchScript types and runs no Python.
TorchScript itself runs as it loads (`__setstate__`) and can read and write files by two operators
and reach other machines by rpc; code that so much as names them is refused unless trusted.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.jit._fuser import optimized_execution
from torch.jit._script import RecursiveScriptModule

from adabn_cli.errors import ModelError, UnsafeError
from adabn_cli.model import FixedLayer
from adabn_cli.models.containers import torch_zip
from adabn_cli.models.containers.byte_patch import ByteSpan, TensorPlace
from adabn_cli.models.graphs.aten_operations import fold_notes
from adabn_cli.models.graphs.model import Network, said_beside, stored_sites
from adabn_cli.models.graphs.torchscript_graph import Planner, eps_of, operations_of

#: Operators of these namespaces compute; some of others unpickle files or talk to processes.
_COMPUTING = ("aten", "prim", "prims", "torchvision", "quantized", "_quantized", "prepacked")
#: aten::save, aten::from_file, prim::rpc_async and their like, and operators of other namespaces.
_UNSAFE = re.compile(
    rf"\b(save|from_file|rpc_\w+)\b|(?<!\.)\b(ops\s*\.\s*(?!(?:{'|'.join(_COMPUTING)})\b)\w+)"
)

#: Why there is no site -> what to do.
_FROZEN = (
    "This TorchScript is frozen: its weights and statistics are part of its code.",
    "Save it before torch.jit.freeze or torch.jit.optimize_for_inference",
)
_QUANTIZED = (
    "This TorchScript is quantized: statistics are folded into its weights.",
    "Save it before it is quantized",
)
_NONE = (
    "No layer of this TorchScript stores statistics: it never had a normalizer that does, or they "
    "are folded into its convolutions.",
    "Save it before normalizers are fused",
)

_NO_STATISTICS = "normalizes each picture by itself; it stores no statistics"
#: Classes that normalize and store nothing -> why there is nothing to adapt.
_NOTHING_STORED = {
    **dict.fromkeys(("GroupNorm", "LayerNorm", "RMSNorm", "LocalResponseNorm"), _NO_STATISTICS),
    **{f"InstanceNorm{n}d": _NO_STATISTICS for n in (1, 2, 3)},
    **{
        f"BatchNorm{n}d": "has track_running_stats=False: it normalizes by each batch"
        for n in (1, 2, 3)
    },
}


@dataclass(frozen=True, kw_only=True)
class TorchScriptFile:
    """A loaded network in eval mode, its tensors by name and where they lie in the file.

    `trains`: it was saved in train mode.
    """

    path: Path
    module: RecursiveScriptModule
    entries: Mapping[str, Tensor]
    places: Mapping[str, TensorPlace | None]
    extra_files: Mapping[str, str]
    trains: bool = False

    @property
    def metadata(self) -> dict[str, str | list[str]]:
        """What was saved beside the network, by name."""
        return said_beside(self.extra_files)

    def network(self, device: torch.device) -> Network:
        """The network on a device. Raises ModelError if it has nothing that can be adapted."""
        root = self.module.to(device)
        modules = dict(root.named_modules(remove_duplicate=False))
        entries = _entries(root)
        paths = stored_sites(entries, {})[1]
        sites, by_path = stored_sites(entries, {x: eps_of(modules[x], x) for x in paths})
        if not sites:
            raise self._without_sites()
        forward = Planner(modules, by_path).plan()
        return Network(
            name=f"torchscript:{root.original_name}",
            sites=sites,
            fixed=_fixed_layers(modules, by_path),
            input_channels=_input_channels(modules.values()),
            entries=entries,
            run=lambda images: forward.run([images]),
            whole=root,
            mode=_as_it_is,
            notes=fold_notes(operations_of(root), len(sites)),
        )

    def save(self, path: Path) -> None:
        """Saves the network anew, where its bytes cannot be replaced in place."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.save(self.module, path, _extra_files=dict(self.extra_files))

    def _without_sites(self) -> ModelError:
        quantized = any("quantized" in name for name in torch_zip.member_texts(self.path, "code/"))
        return _no_sites(
            self.path, *(_QUANTIZED if quantized else _NONE if self.entries else _FROZEN)
        )


def read_torchscript(path: Path, *, trust_pickle: bool = False) -> TorchScriptFile:
    """The network in a TorchScript file, on the CPU and in eval mode.

    Raises ModelError if it is damaged or does not load, UnsafeError if its code could reach
    files or other machines and is not trusted.
    """
    layout = torch_zip.lay_out(path)
    unsafe = unsafe_operators(path)
    if unsafe and not trust_pickle:
        raise UnsafeError(
            f"This TorchScript could reach more than its pictures. Its code names: "
            f"{', '.join(unsafe)}.",
            where=str(path),
            hint="Give a state dict (torch.save(model.state_dict(), ...)) or a safetensors file, "
            "or add --trust-pickle if you trust where this file comes from.",
        )
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch deprecates TorchScript; files stay.
            module = torch.jit.load(file, map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, OSError, IndexError) as error:
        if not layout.data.storages:  # torch.jit.optimize_for_inference writes what does not load.
            raise _no_sites(path, *_FROZEN) from error
        raise _not_loaded(path, error) from error
    # A frozen one has no such attribute.
    parts = [part for _, part in module.named_modules() if hasattr(part, "training")]
    trains = any(part.training for part in parts)
    for part in parts:
        part.training = False
    entries = _entries(module)
    attributes = {} if layout.unpatchable else _attributes(path)
    places = {key: _place(attributes, layout.spans, key, x) for key, x in entries.items()}
    extra_files = torch_zip.member_texts(path, "extra/")
    return TorchScriptFile(
        path=path,
        module=module,
        entries=entries,
        places=places,
        extra_files=extra_files,
        trains=trains,
    )


def unsafe_operators(path: Path) -> list[str]:
    """Names in the code that stand for operators which reach files or other machines.

    Raises ModelError for a damaged archive.
    """
    torch_zip.lay_out(path)  # Tells most damage, and bombs, without unpacking.
    try:
        with path.open("rb") as file:
            # By torch's own reader of archives: this is the code that it would load.
            reader = torch._C.PyTorchFileReader(file)
            names = [name for name in reader.get_all_records() if name.startswith("code/")]
            texts = [reader.get_record(name).decode(errors="replace") for name in names]
    except RuntimeError as error:
        raise _not_loaded(path, error) from error
    return sorted({found[0] for text in texts for found in _UNSAFE.finditer(text)})


def _not_loaded(path: Path, error: Exception) -> ModelError:
    return ModelError(
        "The TorchScript cannot be loaded: " + str(error).strip().partition("\n")[0][:200],
        where=str(path),
        hint="Copy it again, save it again by the installed version of torch, or give the "
        "checkpoint that it was made from.",
    )


def _no_sites(path: Path, what: str, hint: str) -> ModelError:
    return ModelError(
        what, where=str(path), hint=f"{hint}, or give the checkpoint that it was made from."
    )


@contextmanager
def _as_it_is() -> Iterator[None]:
    """Without gradients and torch's optimizer, whose first two passes take four times as long."""
    with torch.no_grad(), optimized_execution(False):
        yield


def _entries(module: RecursiveScriptModule) -> dict[str, Tensor]:
    """Live parameters and buffers, under every name."""
    return {key: value for key, value in module.state_dict().items() if isinstance(value, Tensor)}


def _fixed_layers(
    modules: Mapping[str, RecursiveScriptModule], sites: Mapping[str, Any]
) -> list[FixedLayer]:
    return [
        FixedLayer(path, module.original_name, _NOTHING_STORED[module.original_name])
        for path, module in modules.items()
        if path not in sites and getattr(module, "original_name", "") in _NOTHING_STORED
    ]


def _input_channels(modules: Iterable[RecursiveScriptModule]) -> int | None:
    """Channels that the first convolution takes; None if there is none."""
    for module in modules:
        weight = dict(module.named_parameters(recurse=False)).get("weight")
        if weight is not None and weight.dim() == 4:
            return int(weight.shape[1])
    return None


@dataclass(frozen=True, kw_only=True)
class _StoredTensor:
    """A tensor in data.pkl: the storage's key, and where it begins there, in elements."""

    storage: Any
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Object:
    """Stands for an instance of any class of TorchScript."""

    def __init__(self, *_: Any) -> None:
        self.attributes: Mapping[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, dict) else {}


class _AttributeReader(pickle.Unpickler):
    """Reads data.pkl with every class and function that it names replaced by one of these here."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _stored_tensor
        return _Object

    def persistent_load(self, reference: Any) -> Any:
        return reference


def _stored_tensor(*args: Any) -> _StoredTensor:
    storage, offset, shape, strides, *_ = args
    return _StoredTensor(storage=storage, offset=offset, shape=tuple(shape), strides=tuple(strides))


def _attributes(path: Path) -> Any:
    """The tree of attributes; empty if it cannot be read, and the file is then saved anew."""
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.partition("/")[2] == "data.pkl")
        content = archive.read(name)
    try:
        return _AttributeReader(io.BytesIO(content)).load()
    except (pickle.UnpicklingError, AttributeError, EOFError, IndexError, TypeError, ValueError):
        return {}


def _place(
    tree: Any, spans: Mapping[str, ByteSpan], key: str, tensor: Tensor
) -> TensorPlace | None:
    """Where an entry's values lie in the file; None if that cannot be told."""
    for name in key.split("."):
        tree = tree.attributes.get(name) if isinstance(tree, _Object) else None
    if not isinstance(tree, _StoredTensor) or tensor.shape != tree.shape:
        return None
    reference = tree.storage
    span = spans.get(reference[2]) if isinstance(reference, tuple) and len(reference) > 2 else None
    if span is None or tensor.layout != torch.strided or tensor.is_quantized:
        return None
    place = TensorPlace(
        storage=span, dtype=tensor.dtype, shape=tree.shape, strides=tree.strides, offset=tree.offset
    )
    return place if place.fits or tensor.numel() == 0 else None
