from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch

from adabn_cli.errors import ModelError
from adabn_cli.models.open_checkpoint import open_checkpoint


def torch_bytes(saved: object, *, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(saved, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def zip_bytes(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return buffer.getvalue()


def tar_bytes() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.pth"))
    return buffer.getvalue()


def encrypted(content: bytes) -> bytes:
    """Sets the flag of encryption in every header."""
    changed = bytearray(content)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = changed.find(signature)
        while at >= 0:
            changed[at + offset] |= 1
            at = changed.find(signature, at + 4)
    return bytes(changed)


def bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02N.")
        archive.writestr("archive/data/0", bytes(1 << 20))
    changed = bytearray(buffer.getvalue())
    at = changed.rfind(b"PK\x01\x02")
    changed[at + 24 : at + 28] = struct.pack("<I", (1 << 32) - 2)
    return bytes(changed)


def twice() -> bytes:
    buffer = io.BytesIO(torch_bytes({"w": torch.ones(2)}))
    with zipfile.ZipFile(buffer, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("archive/data.pkl", b"\x80\x02N.")
    return buffer.getvalue()


def wrong_size() -> bytes:
    """A legacy file whose pickle declares a storage of 2^62 elements."""
    content = torch_bytes({"w": torch.ones(7)}, legacy=True)
    return content.replace(b"K\x07N", b"\x8a\x08" + struct.pack("<q", 1 << 62) + b"N", 1)


WEIGHTS = {"weight": torch.ones(64, 64)}
SAFETENSORS = safetensors.torch.save(WEIGHTS)
REFUSED = {
    "empty": (b"", "is empty"),
    "html": (b"<!DOCTYPE html><html>404", "a web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
    "gzip": (b"\x1f\x8b\x08\x00", "gzip"),
    "tar": (tar_bytes(), "a tar archive"),
    "keras": (b"\x89HDF\r\n\x1a\n", "Keras"),
    "onnx": (b"\x08\x07\x12\x07pytorch", "holds no graph"),
    "torchscript": (zip_bytes("m/data.pkl", "m/code/a.py", "m/constants.pkl"), "damaged"),
    "exported": (zip_bytes("m/archive_format", "m/models/model.json"), "written by an older torch"),
    "old exported": (zip_bytes("serialized_exported_program.json"), "by torch before 2.8"),
    "encrypted torchscript": (encrypted(zip_bytes("m/data.pkl", "m/code/a.py")), "encrypted"),
    "encrypted exported": (encrypted(zip_bytes("m/models/model.json")), "encrypted"),
    "zip of checkpoints": (zip_bytes("model.pth"), "holds checkpoints"),
    "zip": (zip_bytes("a.txt"), "without a model"),
    "pickle": (b"\x80\x04N.", "a plain pickle"),
    "noise": (bytes(range(100, 200)), "unknown kind"),
    "no weights": (torch_bytes({"epoch": 3}), "no weights"),
    "cut zip": (torch_bytes(WEIGHTS)[:-900], "damaged or cut off"),
    "cut legacy": (torch_bytes(WEIGHTS, legacy=True)[:-900], "damaged"),
    "cut legacy pickle": (torch_bytes(WEIGHTS, legacy=True)[:90], "damaged"),
    "cut safetensors": (SAFETENSORS[:-900], "damaged"),
    "broken safetensors": (SAFETENSORS.replace(b"F32", b"F99"), "damaged"),
    "encrypted": (encrypted(torch_bytes(WEIGHTS)), "encrypted"),
    "bomb": (bomb(), "would unpack to 4096 MiB"),
    "two pickles": (twice, "not those that torch.save writes"),
    "absurd size": (wrong_size(), "damaged"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_files_are_named_with_a_hint(name: str, tmp_path: Path) -> None:
    content, message = REFUSED[name]
    path = tmp_path / "model.pth"
    path.write_bytes(content() if callable(content) else content)
    with pytest.raises(ModelError, match=message) as caught:
        open_checkpoint(path)
    assert str(path) in caught.value.where
    assert caught.value.hint
    assert caught.value.exit_code == 3
    assert len(str(caught.value).splitlines()) <= 3


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model file"):
        open_checkpoint(tmp_path / "absent.pth")
    (tmp_path / "best.pth").touch()
    with pytest.raises(ModelError, match="a folder") as caught:
        open_checkpoint(tmp_path)
    assert "best.pth" in caught.value.hint


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_cut_anywhere_is_a_named_error(*, legacy: bool, tmp_path: Path) -> None:
    content = torch_bytes({"state_dict": {"w": torch.ones(5)}}, legacy=legacy)
    path = tmp_path / "model.pth"
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(ModelError):
            open_checkpoint(path)


def test_a_flipped_byte_never_gives_anything_but_a_named_error(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    for legacy in (False, True):
        content = torch_bytes({"state_dict": {"w": torch.ones(5)}}, legacy=legacy)
        for position in range(0, len(content), 5):
            changed = bytearray(content)
            changed[position] ^= 0x55
            path.write_bytes(changed)
            try:
                open_checkpoint(path)
            except ModelError as error:
                assert error.hint  # noqa: PT017 -- most flips are refused, the rest hit a value
