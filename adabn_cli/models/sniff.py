"""What kind of file a checkpoint is, told by its content and never by its name.

Reads the first bytes and, of a zip, the list of members. Executes and unpickles nothing.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from adabn_cli.errors import ModelError
from adabn_cli.models.folders.folder import is_model_folder, kind_of_folder

# 0x1950a86a20f9469cfc6c as a pickled LONG1: what torch wrote before 1.6, after its protocol byte.
_LEGACY_MAGIC = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."

_SAVE_STATE_DICT = (
    "Save its weights instead, where the model was made: "
    'torch.save(model.state_dict(), "model.pth").'
)
_EXPORT_AGAIN = "Save it again: torch.export.save(torch.export.load(FILE), NEW_FILE)."
_UNPACK = "Unpack it and give the checkpoint inside."

#: First bytes -> what the file is, what to do next.
_OTHER_KINDS: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "Run git lfs pull."),
    (b"\x1f\x8b", "compressed by gzip", _UNPACK),
    (b"BZh", "compressed by bzip2", _UNPACK),
    (b"\xfd7zXZ\x00", "compressed by xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras)", _SAVE_STATE_DICT),
    (b"GGUF", "a GGUF file", "Give a PyTorch checkpoint or a safetensors file."),
    (b"\x93NUMPY", "a NumPy array", "Give a PyTorch checkpoint or a safetensors file."),
    (b"\x89PNG", "a picture", "Give the model first and the pictures with --target."),
    (b"\xff\xd8\xff", "a picture", "Give the model first and the pictures with --target."),
    (b"%PDF", "a PDF document", "Give a PyTorch checkpoint or a safetensors file."),
)


def sniff(path: Path) -> str:
    """The container's format, a key of FORMATS: "torch-zip", "onnx", ..., or of FOLDERS.

    Raises ModelError, naming what the file is and what to do next, for anything else.
    """
    if not path.exists():
        raise ModelError("There is no such model file.", where=str(path), hint="Check the path.")
    if path.is_dir() and is_model_folder(path):
        return kind_of_folder(path)
    if path.is_dir():
        raise ModelError(
            "The model is a folder without a config.json.",
            where=str(path),
            hint=f"Give the checkpoint inside it{_checkpoints_in(path)}, or a folder of timm, "
            "transformers or segmentation-models-pytorch.",
        )
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise ModelError(
            f"The model file cannot be read: {error.strerror}.",
            where=str(path),
            hint="Check its permissions.",
        ) from error
    return _format_of(path, head)


def _format_of(path: Path, head: bytes) -> str:
    if not head:
        raise ModelError("The model file is empty.", where=str(path), hint="Copy it again.")
    if head.startswith(b"PK\x03\x04") or head.startswith(b"PK\x05\x06"):
        return _zip_format(path)
    if head[0] == 0x80 and head[2:].startswith(_LEGACY_MAGIC):
        return "torch-legacy"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return "safetensors"
    for start, kind, hint in _OTHER_KINDS:
        if head.startswith(start):
            raise _unreadable(path, kind, hint)
    if head[257:262] == b"ustar":
        raise _unreadable(path, "a tar archive", _UNPACK)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<!--", b"<head", b"<script")):
        raise _unreadable(path, "a web page", "Fetch the file itself: a download went wrong.")
    if head[0] == 0x80 and head[1] <= 5:
        raise _unreadable(path, "a plain pickle, not written by torch.save", _SAVE_STATE_DICT)
    if _is_onnx(head):
        return "onnx"
    if _is_text(head):
        raise _unreadable(path, "a text file", "Give a PyTorch checkpoint or a safetensors file.")
    raise _unreadable(
        path, "of an unknown kind", "Give a PyTorch checkpoint or a safetensors file."
    )


def _is_onnx(head: bytes) -> bool:
    """ModelProto begins with field 1, the IR version; then a producer's name, or a graph."""
    return head[0] == 0x08 and 0 < head[1] < 64 and head[2:3] in (b"\x12", b"\x3a", b"\x1a", b"B")


def _is_text(head: bytes) -> bool:
    text = head.decode(errors="ignore")
    whole = len(text.encode()) > len(head) - 4  # The last character may be cut in two.
    return whole and all(letter.isprintable() or letter.isspace() for letter in text)


def _zip_format(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelError(
            "The checkpoint's zip archive is damaged or cut off.",
            where=str(path),
            hint="Copy or download it again and compare the sizes.",
        ) from error
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        return "torchscript"
    if "archive_format" in inner or any(name.startswith("models/") for name in inner):
        return "exported-program"
    if "serialized_exported_program.json" in names:
        raise _unreadable(path, "an exported program (.pt2) written by torch before 2.8",
                          _EXPORT_AGAIN)  # fmt: skip
    if "data.pkl" in inner:
        return "torch-zip"
    if "config.json" in names and "model.weights.h5" in names:
        raise _unreadable(path, "a Keras model", "Give a PyTorch checkpoint or a safetensors file.")
    if names and all(name.endswith(".npy") for name in names):
        raise _unreadable(path, "an archive of NumPy arrays", _SAVE_STATE_DICT)
    if any(name.endswith((".pth", ".pt", ".th", ".safetensors", ".ckpt")) for name in names):
        raise _unreadable(path, "a zip archive that holds checkpoints", _UNPACK)
    raise _unreadable(path, "a zip archive without a model in it", "Give the checkpoint itself.")


def _unreadable(path: Path, kind: str, hint: str) -> ModelError:
    return ModelError(f"The model file is {kind}.", where=str(path), hint=hint)


def _checkpoints_in(folder: Path) -> str:
    """ ", for example X" where the folder holds a likely checkpoint."""
    suffixes = {".pth", ".pt", ".th", ".safetensors", ".ckpt", ".bin"}
    found = sorted(file for file in folder.iterdir() if file.suffix in suffixes)
    return f", for example {found[0]}" if found else ""
