"""Puts the tensors of a waiting forward on disk, and back when they are needed. Knows no site.

Which tensors are a forward's own is seen from torch's operators while it runs: whatever came new
out of one and is still alive where the forward waits. So it takes no word from the model, and
parameters, constants and input that somebody else holds stay where they are.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from adabn_cli.adaptation.engines.spill_file import SpillFile

#: Arrays that wait beside torch's tensors, by name.
Arrays = MutableMapping[str, Any]

# Smaller ones stay: sizes, positions and masks, which a model may read past torch's operators.
_WORTH_BYTES = 64 << 10

_Result = TypeVar("_Result")


@dataclass(eq=False)
class _Held:
    """A storage of one forward: in memory, on disk, or both where nothing has changed it since.

    As long as `reference` is there, its address is not given to another storage.
    """

    reference: StorageWeakRef
    size: int
    place: tuple[int, int] | None = None
    away: bool = False
    lent: bool = False  # Another forward uses it too, as what a model caches: it stays in memory.

    def storage(self) -> torch.UntypedStorage | None:
        """The storage, if anything still holds it."""
        found: torch.UntypedStorage | None = torch.UntypedStorage._new_with_weak_ptr(
            self.reference.cdata
        )
        return found


@dataclass(eq=False)
class Tray:
    """What one forward has on the shelf. `touched` was in use since the forward last waited."""

    held: dict[int, _Held] = field(default_factory=dict)
    touched: set[int] = field(default_factory=set)
    arrays: list[tuple[Arrays, str, _StoredArray]] = field(default_factory=list)

    def live_bytes(self) -> int:
        """How much of it is alive, in memory or on disk."""
        return sum(one.size for one in self.held.values() if one.storage() is not None)


@dataclass(frozen=True)
class _StoredArray:
    place: tuple[int, int]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Shelf:
    """A file for what forwards leave while they wait.

    Run a stretch of a forward inside `watched`; `put_away` frees its memory behind it, and what is
    needed comes back by itself in its next stretch, or in another's.
    """

    def __init__(self, folder: Path) -> None:
        self._file = SpillFile(folder)
        self._owners: dict[int, Tray] = {}

    @contextmanager
    def watched(self, tray: Tray, on_operator: Callable[[], None] | None = None) -> Iterator[None]:
        """Inside, what torch's operators make belongs to the tray; `on_operator` after each."""
        for address in tray.touched:
            # What was in use will be again, perhaps by code that torch does not see.
            if address in tray.held:
                self._bring_back(tray.held[address])
        for mapping, name, stored in tray.arrays:
            array = np.empty(stored.shape, stored.dtype)
            self._file.read(stored.place, _bytes_of_array(array))
            self._file.release(stored.place)
            mapping[name] = array
        tray.arrays.clear()
        tray.touched.clear()
        with _Watch(self, tray, on_operator):
            yield

    def put_away(self, tray: Tray, arrays: Sequence[Arrays] = ()) -> None:
        """Frees the memory of a waiting forward. Raises SpillError where the disk is full."""
        for address, one in list(tray.held.items()):
            storage = one.storage()
            if storage is None:
                self._drop(tray, address)
            elif not (one.away or one.lent) and storage.resizable():
                if one.place is None:
                    one.place = self._file.write(_content(storage))
                storage.resize_(0)
                one.away = True
        for mapping in arrays:
            for name, value in list(mapping.items()):
                if isinstance(value, np.ndarray) and value.nbytes >= _WORTH_BYTES:
                    place = self._file.write(_bytes_of_array(np.ascontiguousarray(value)))
                    stored = _StoredArray(place, value.shape, value.dtype)
                    tray.arrays.append((mapping, name, stored))
                    mapping[name] = None

    def holds(self, tray: Tray, tensor: Tensor) -> bool:
        """Whether a tensor's memory would be freed by `put_away`, or is too small for it."""
        storage = tensor.untyped_storage()
        return storage._cdata in tray.held or storage.nbytes() < _WORTH_BYTES

    def take_down(self, tray: Tray) -> None:
        """Forgets a forward that has ended; what outlives it, as a model's cache, comes back."""
        for address, one in list(tray.held.items()):
            self._bring_back(one)
            self._drop(tray, address)
        for _, _, stored in tray.arrays:
            self._file.release(stored.place)
        tray.arrays.clear()

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()

    def need(self, tray: Tray, storage: torch.UntypedStorage, *, changes: bool) -> None:
        """An operator of the tray's forward is about to use this storage."""
        address = storage._cdata
        owner = self._owners.get(address)
        if owner is None:
            return
        one = owner.held[address]
        self._bring_back(one)
        tray.touched.add(address)
        one.lent |= owner is not tray
        if changes and one.place is not None:
            self._file.release(one.place)
            one.place = None

    def own(self, tray: Tray, storage: torch.UntypedStorage) -> None:
        """An operator of the tray's forward has made this storage."""
        size, address = storage.nbytes(), storage._cdata
        tray.touched.add(address)
        if size >= _WORTH_BYTES and address not in self._owners:
            tray.held[address] = _Held(StorageWeakRef(storage), size)  # type: ignore[no-untyped-call]
            self._owners[address] = tray

    def _bring_back(self, one: _Held) -> None:
        storage = one.storage()
        if storage is None or not one.away or one.place is None:
            return
        storage.resize_(one.size)
        if storage.device.type == "cpu":
            self._file.read(one.place, _bytes_of(storage))
        else:
            staged = torch.UntypedStorage(one.size)  # type: ignore[no-untyped-call]
            self._file.read(one.place, _bytes_of(staged))
            storage.copy_(staged)
        one.away = False

    def _drop(self, tray: Tray, address: int) -> None:
        one = tray.held.pop(address)
        del self._owners[address]
        if one.place is not None:
            self._file.release(one.place)


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tells the shelf what every operator takes and makes."""

    def __init__(self, shelf: Shelf, tray: Tray, on_operator: Callable[[], None] | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._shelf, self._tray, self._on_operator = shelf, tray, on_operator

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here. Torch would import its compiler first, which takes 1.2 s."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Any = (),
        kwargs: Any = None,
    ) -> Any:
        taken = {storage._cdata: storage for storage in _storages((args, kwargs))}
        for storage in taken.values():
            self._shelf.need(self._tray, storage, changes=func._schema.is_mutable)
        made = func(*args, **(kwargs or {}))
        for storage in _storages(made):
            if storage._cdata not in taken:
                self._shelf.own(self._tray, storage)
        if self._on_operator is not None:
            del taken, args, kwargs
            self._on_operator()
        return made


def _storages(values: Any) -> Iterator[torch.UntypedStorage]:
    """The storages of all plain tensors among the values."""
    for value in tree_iter(values):
        if isinstance(value, Tensor) and value.layout is torch.strided:
            try:
                yield value.untyped_storage()
            except (
                NotImplementedError
            ):  # Some backends have none; their tensors stay where they are.
                continue


def _content(storage: torch.UntypedStorage) -> memoryview:
    if storage.device.type != "cpu":
        storage = storage.cpu()  # type: ignore[no-untyped-call]
    return _bytes_of(storage)


def _bytes_of_array(array: NDArray[Any]) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8).data)


def _bytes_of(storage: torch.UntypedStorage) -> memoryview:
    """The bytes of a storage on the CPU, writable, not copied.

    Not by `numpy()`, after which a storage cannot be resized any more.
    """
    buffer = (ctypes.c_char * storage.nbytes()).from_address(storage.data_ptr())
    buffer.owner = storage  # type: ignore[attr-defined]
    return memoryview(buffer).cast("B")
