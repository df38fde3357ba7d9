"""The zip container of torch.save: where its pickle and its storages lie, and its checksums.

Knows zip records; unpickles nothing. Members are read as two readers see them, Python's and
torch's: a file in which they differ could show one pickle to the audit and run another.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import torch

from adabn_cli.errors import ModelError
from adabn_cli.models.containers.byte_patch import ByteSpan
from adabn_cli.models.containers.torch_pickle import PickledFile, damaged, storage_bytes
from adabn_cli.models.trust.audit import audit_pickle

_LOCAL_HEADER = 30
_CENTRAL_HEADER = 46
_DESCRIPTOR_SIGNATURE = b"PK\x07\x08"
_HAS_DESCRIPTOR = 0x08
_ENCRYPTED = 0x01
_CRC_CHUNK = 1 << 20

#: Weights hardly compress; deflate's own limit is 1032, which a bomb comes near.
_MAX_RATIO = 100
_MAX_DECLARED = 1 << 30

#: What Python's and torch's readers raise for an archive that is not in order.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    IndexError,
    KeyError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


def lay_out(path: Path) -> PickledFile:
    """What the file's pickle would do and where each storage's bytes are.

    Raises ModelError for a damaged, encrypted or absurdly compressed archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = _checked_members(archive, path)
            prefix = members[0].filename.partition("/")[0]
            pickled = archive.read(f"{prefix}/data.pkl")
            spans, unpatchable = _storages(path, members, f"{prefix}/data/")
            if f"{prefix}/byteorder" in archive.namelist():
                little = archive.read(f"{prefix}/byteorder") == b"little"
                unpatchable = unpatchable or ("" if little else "it is big-endian")
        with path.open("rb") as file:  # A path that is no UTF-8 cannot be passed by name.
            same = torch._C.PyTorchFileReader(file).get_record("data.pkl") == pickled
    except _DAMAGE as error:
        raise damaged(path, str(error).partition("\n")[0] or "it ends early") from error
    if not same:
        raise damaged(path, "two readers of zip archives see different content")
    audit = audit_pickle(io.BytesIO(pickled), str(path))
    for storage in audit.storages:
        declared, size = storage_bytes(storage), spans.get(storage.key)
        if declared is None or size is None or declared != size.length:
            raise damaged(path, f"storage {storage.key} is not of the size that it should be")
    return PickledFile(audits=(audit,), data=audit, spans=spans, unpatchable=unpatchable)


def member_spans(path: Path) -> tuple[dict[str, ByteSpan], str]:
    """Where each member of an archive lies, by its name inside, and why not in place.

    Raises ModelError for a damaged, encrypted or absurdly compressed archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = _checked_members(archive, path)
            return _storages(path, members, members[0].filename.partition("/")[0] + "/")
    except _DAMAGE as error:
        raise damaged(path, str(error).partition("\n")[0] or "it ends early") from error


def member_texts(path: Path, folder: str) -> dict[str, str]:
    """The texts in a folder of an archive, by their name in it. Raises ModelError for damage."""
    texts: dict[str, str] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            _checked_members(archive, path)
            for name in archive.namelist():
                inner = name.partition("/")[2]
                if inner.startswith(folder):
                    texts[inner.removeprefix(folder)] = archive.read(name).decode(errors="replace")
    except _DAMAGE as error:
        raise damaged(path, str(error).partition("\n")[0] or "it ends early") from error
    return texts


def renew_checksums(
    original: BinaryIO, file: BinaryIO, written: Sequence[ByteSpan]
) -> list[ByteSpan]:
    """Renews the CRC-32 of every member that was written to; returns the spans of the checksums.

    A CRC that was wrong before stays as it is: torch can be told to write none.
    """
    fields: list[ByteSpan] = []
    with zipfile.ZipFile(original) as archive:
        central = _central_crc_fields(archive, original)
        for member in archive.infolist():
            span = _content(original, member)
            touched = any(w.start < span.end and span.start < w.end for w in written)
            if touched and _crc(original, span) == member.CRC:
                crc = struct.pack("<I", _crc(file, span))
                places = [central[member.header_offset], *_local_crc_fields(original, member, span)]
                for start in places:
                    file.seek(start)
                    file.write(crc)
                    fields.append(ByteSpan(start, 4))
    return fields


def _checked_members(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    members = archive.infolist()
    length = path.stat().st_size
    names = [member.filename for member in members]
    declared = sum(member.file_size for member in members)
    if len(set(names)) != len(names) or len({name.partition("/")[0] for name in names}) != 1:
        raise zipfile.BadZipFile("its members are not those that torch.save writes")
    if any(member.flag_bits & _ENCRYPTED for member in members):
        raise ModelError(
            "The checkpoint is an encrypted zip archive.",
            where=str(path),
            hint="Decrypt it and give the checkpoint inside.",
        )
    if sum(member.compress_size for member in members) > length:
        raise zipfile.BadZipFile("its members are longer than the file")
    if declared > _MAX_DECLARED and declared > _MAX_RATIO * length:
        raise ModelError(
            f"The checkpoint would unpack to {declared >> 20} MiB, from {length >> 20} MiB.",
            where=str(path),
            hint="This is no ordinary checkpoint: get the file from where it was made.",
        )
    return members


def _storages(
    path: Path, members: Sequence[zipfile.ZipInfo], folder: str
) -> tuple[dict[str, ByteSpan], str]:
    """Where each storage lies, and why not in place if some member is compressed."""
    spans: dict[str, ByteSpan] = {}
    unpatchable = ""
    with path.open("rb") as file:
        for member in members:
            if not member.filename.startswith(folder):
                continue
            start = _content(file, member).start
            spans[member.filename.removeprefix(folder)] = ByteSpan(start, member.file_size)
            if member.compress_type != zipfile.ZIP_STORED:
                unpatchable = "its members are compressed"
    return spans, unpatchable


def _content(file: BinaryIO, member: zipfile.ZipInfo) -> ByteSpan:
    """The bytes of a member as they lie in the file."""
    file.seek(member.header_offset + 26)
    name_length, extra_length = struct.unpack("<HH", file.read(4))
    start = member.header_offset + _LOCAL_HEADER + name_length + extra_length
    return ByteSpan(start, member.compress_size)


def _local_crc_fields(file: BinaryIO, member: zipfile.ZipInfo, span: ByteSpan) -> list[int]:
    """Where a member's own CRC stands: behind its bytes, or in its header."""
    if not member.flag_bits & _HAS_DESCRIPTOR:
        return [member.header_offset + 14]
    file.seek(span.end)
    return [span.end + (4 if file.read(4) == _DESCRIPTOR_SIGNATURE else 0)]


def _central_crc_fields(archive: zipfile.ZipFile, file: BinaryIO) -> dict[int, int]:
    """A member's header offset -> where its CRC stands in the central directory."""
    fields: dict[int, int] = {}
    position = archive.start_dir
    # infolist keeps the order of the central directory.
    for member in archive.infolist():
        file.seek(position + 28)
        lengths = struct.unpack("<HHH", file.read(6))
        fields[member.header_offset] = position + 16
        position += _CENTRAL_HEADER + sum(lengths)
    return fields


def _crc(file: BinaryIO, span: ByteSpan) -> int:
    file.seek(span.start)
    crc, left = 0, span.length
    while left > 0 and (chunk := file.read(min(_CRC_CHUNK, left))):
        crc = zlib.crc32(chunk, crc)
        left -= len(chunk)
    return crc
