"""Loads what torch.save wrote, under audit, and finds each tensor's place in the file.

Common to the zip and the legacy container, which say where the pickles and the storages lie.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from adabn_cli.errors import AdabnError, ModelError
from adabn_cli.models.containers.byte_patch import ByteSpan, TensorPlace
from adabn_cli.models.trust.audit import PickleAudit, StoredStorage
from adabn_cli.models.trust.named_code import NamedCode, imports_from
from adabn_cli.models.trust.pickled_classes import looking_in
from adabn_cli.models.trust.policy import allowed_globals, check_rebuilt

_ELEMENT_BYTES = {
    "Double": 8,
    "Float": 4,
    "Half": 2,
    "BFloat16": 2,
    "Long": 8,
    "Int": 4,
    "Short": 2,
    "Char": 1,
    "Byte": 1,
    "Bool": 1,
    "ComplexDouble": 16,
    "ComplexFloat": 8,
    "QInt8": 1,
    "QUInt8": 1,
    "QInt32": 4,
    "Untyped": 1,
}


@dataclass(frozen=True, kw_only=True)
class PickledFile:
    """A file of torch.save: all its pickles, the one with the data, and its storages' bytes.

    `unpatchable` says why storages cannot be replaced in place, "" if they can.
    """

    audits: tuple[PickleAudit, ...]
    data: PickleAudit
    spans: Mapping[str, ByteSpan]
    unpatchable: str


@dataclass(frozen=True, kw_only=True)
class Unpickled:
    """The loaded object and, by data pointer, where its storages lie in the file.

    `pickle_module` saves it again under the names that the file has; None is Python's own.
    """

    root: Any
    storages: Mapping[int, ByteSpan]
    kept: tuple[torch.UntypedStorage, ...]
    pickle_module: ModuleType | None

    def place(self, tensor: Tensor) -> TensorPlace | None:
        """Where a tensor's values lie in the file; None if that cannot be told."""
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_neg():
            return None
        span = self.storages.get(tensor.untyped_storage().data_ptr())
        if tensor.numel() == 0:
            span = ByteSpan(0, 0)
        if span is None or tensor.is_conj():
            return None
        place = TensorPlace(
            storage=span,
            dtype=tensor.dtype,
            shape=tuple(tensor.shape),
            strides=tensor.stride(),
            offset=int(tensor.storage_offset()),
        )
        return place if place.fits or tensor.numel() == 0 else None


def storage_bytes(storage: StoredStorage) -> int | None:
    """The size of a storage in bytes; None if its type is not known or its size is negative."""
    kind = re.fullmatch(r"torch\.(?:cuda\.|storage\.)?(\w+)Storage", storage.kind)
    size = _ELEMENT_BYTES.get(kind[1]) if kind else None
    return None if size is None or storage.numel < 0 else size * storage.numel


def damaged(path: Path, why: str) -> ModelError:
    """That a file is not what torch.save wrote, and why that is known."""
    return ModelError(
        f"The checkpoint is damaged: {why}.",
        where=str(path),
        hint="Copy or download it again and compare the sizes.",
    )


def unpickle(
    path: Path, file: PickledFile, *, trust_pickle: bool, code: NamedCode | None = None
) -> Unpickled:
    """The file's content, on the CPU; restricted unless trusted, and only after the audit.

    A trusted one finds its classes where it names them, in the current folder too, or in `code`.
    Raises UnsafeError for what is not allowed, ModelError for what does not load.
    """
    allowed = [] if trust_pickle else allowed_globals(file.audits, str(path))
    kept: list[torch.UntypedStorage] = []

    def keep(storage: Any, _location: str) -> Any:
        # torch asks once for every storage, in the pickle's order: that is how a tensor in memory
        # is tied to its bytes in the file. An empty one is asked for more often.
        if storage.nbytes():
            kept.append(storage)
        return storage

    pickle_module = looking_in(code, str(path)) if trust_pickle else None
    here = imports_from(Path.cwd()) if trust_pickle else nullcontext()
    with warnings.catch_warnings(), torch.serialization.safe_globals(allowed), here:
        # Of other versions' sources and pickle protocols; nothing that a reader can act on.
        warnings.simplefilter("ignore")
        try:
            root = torch.load(
                path,
                map_location=keep,
                pickle_module=pickle_module,
                weights_only=not trust_pickle,
            )
        except AdabnError:
            raise
        except Exception as error:
            # A pickle raises whatever its content makes Python raise.
            raise ModelError(
                f"The checkpoint cannot be loaded: {_first_line(error)}.",
                where=str(path),
                hint="Save a state dict where the model was made: "
                'torch.save(model.state_dict(), "model.pth").',
            ) from error
    if not trust_pickle:
        check_rebuilt(_modules(root), str(path))
    return Unpickled(
        root=root, storages=_in_file(file, kept), kept=tuple(kept), pickle_module=pickle_module
    )


def _in_file(file: PickledFile, kept: list[torch.UntypedStorage]) -> dict[int, ByteSpan]:
    if file.unpatchable:
        return {}
    keys = dict.fromkeys(s.key for s in file.data.storages if s.numel)
    spans = [file.spans[key] for key in keys]
    if [span.length for span in spans] != [storage.nbytes() for storage in kept]:
        return {}
    return {storage.data_ptr(): span for storage, span in zip(kept, spans, strict=True)}


def _modules(value: Any, depth: int = 0) -> list[nn.Module]:
    """Every module in a loaded object, four containers deep."""
    if isinstance(value, nn.Module):
        return _own_modules(value, {})
    inner: list[Any] = []
    if isinstance(value, Mapping):
        inner = list(value.values())
    elif isinstance(value, list | tuple | set):
        inner = list(value)
    elif hasattr(value, "__dict__") and not isinstance(value, Tensor | type):
        inner = list(vars(value).values())
    return [m for item in inner for m in _modules(item, depth + 1)] if depth < 4 else []


def _own_modules(module: nn.Module, seen: dict[int, nn.Module]) -> list[nn.Module]:
    """A rebuilt module and those in it, without calling any method of its own."""
    if id(module) not in seen:
        seen[id(module)] = module
        for value in vars(module).values():
            held = list(value.values()) if isinstance(value, Mapping) else value
            for item in held if isinstance(held, list | tuple) else (held,):
                if isinstance(item, nn.Module):
                    _own_modules(item, seen)
    return list(seen.values())


def _first_line(error: Exception) -> str:
    return (str(error).partition("\n")[0] or type(error).__name__).rstrip(".")
