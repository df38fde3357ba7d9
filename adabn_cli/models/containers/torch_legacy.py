"""The container that torch.save wrote before 1.6: pickles, then the raw bytes of each storage.

Five pickles (magic number, protocol, system, data, storage keys), and for every key an int64 count
of elements and the elements. Unpickles nothing.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO

from adabn_cli.models.containers.byte_patch import ByteSpan
from adabn_cli.models.containers.torch_pickle import PickledFile, damaged, storage_bytes
from adabn_cli.models.trust.audit import PickleAudit, audit_pickle

_DATA, _KEYS, _PICKLES = 3, 4, 5


def lay_out(path: Path) -> PickledFile:
    """What the file's pickles would do and where each storage's bytes are.

    Raises ModelError if the file is damaged or cut off.
    """
    with path.open("rb") as file:
        audits = tuple(audit_pickle(file, str(path)) for _ in range(_PICKLES))
        data, keys = audits[_DATA], audits[_KEYS].result
        spans = _storages(file, path, data, keys if isinstance(keys, list) else [])
    viewed = any(storage.view for storage in data.storages)
    return PickledFile(
        audits=audits,
        data=data,
        spans=spans,
        unpatchable="some storages are views of others" if viewed else "",
    )


def _storages(
    file: IO[bytes], path: Path, data: PickleAudit, keys: list[object]
) -> dict[str, ByteSpan]:
    sizes = {storage.key: (storage_bytes(storage), storage.numel) for storage in data.storages}
    length = path.stat().st_size
    position = file.tell()
    spans: dict[str, ByteSpan] = {}
    for key in keys:
        size, numel = sizes.get(str(key), (None, 0))
        file.seek(position)
        header = file.read(8)
        fits = size is not None and position + 8 + size <= length
        if size is None or not fits or header != struct.pack("<q", numel):
            raise damaged(path, f"storage {key} is missing or cut off")
        spans[str(key)] = ByteSpan(position + 8, size)
        position += 8 + size
    if set(sizes) - set(spans):
        raise damaged(path, "some of its tensors are missing")
    return spans
