"""Files of other kinds that are given for a model: what they are, and what to do next."""

from __future__ import annotations

from adabn_cli.models.format import Start

#: How a zip archive begins, and an empty one.
ZIP = (b"PK\x03\x04", b"PK\x05\x06")

_SAVE_STATE_DICT = (
    "Save its weights instead, where the model was made: "
    'torch.save(model.state_dict(), "model.pth").'
)
_EXPORT_AGAIN = "Save it again: torch.export.save(torch.export.load(FILE), NEW_FILE)."
_UNPACK = "Unpack it and give the checkpoint inside."
_GIVE_ANOTHER = "Give a PyTorch checkpoint or a safetensors file."
_MODEL_FIRST = "Give the model first and the pictures with --target."

#: First bytes -> what the file is, what to do next.
_BY_START: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "Run git lfs pull."),
    (b"\x1f\x8b", "compressed by gzip", _UNPACK),
    (b"BZh", "compressed by bzip2", _UNPACK),
    (b"\xfd7zXZ\x00", "compressed by xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras)", _SAVE_STATE_DICT),
    (b"GGUF", "a GGUF file", _GIVE_ANOTHER),
    (b"\x93NUMPY", "a NumPy array", _GIVE_ANOTHER),
    (b"\x89PNG", "a picture", _MODEL_FIRST),
    (b"\xff\xd8\xff", "a picture", _MODEL_FIRST),
    (b"%PDF", "a PDF document", _GIVE_ANOTHER),
)
_WEB_PAGE = (b"<!doctype", b"<html", b"<?xml", b"<!--", b"<head", b"<script")
_CHECKPOINTS = (".pth", ".pt", ".th", ".safetensors", ".ckpt")


def what_else(start: Start) -> tuple[str, str]:
    """What a file of no format is, and what to do next."""
    head = start.head
    if head.startswith(ZIP):
        return _what_archive(start.members)
    for beginning, what, hint in _BY_START:
        if head.startswith(beginning):
            return what, hint
    if head[257:262] == b"ustar":
        return "a tar archive", _UNPACK
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_WEB_PAGE):
        return "a web page", "Fetch the file itself: a download went wrong."
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":
        return "a plain pickle, not written by torch.save", _SAVE_STATE_DICT
    return "a text file" if _is_text(head) else "of an unknown kind", _GIVE_ANOTHER


def _what_archive(names: tuple[str, ...]) -> tuple[str, str]:
    if "serialized_exported_program.json" in names:
        return "an exported program (.pt2) written by torch before 2.8", _EXPORT_AGAIN
    if "config.json" in names and "model.weights.h5" in names:
        return "a Keras model", _GIVE_ANOTHER
    if names and all(name.endswith(".npy") for name in names):
        return "an archive of NumPy arrays", _SAVE_STATE_DICT
    if any(name.endswith(_CHECKPOINTS) for name in names):
        return "a zip archive that holds checkpoints", _UNPACK
    return "a zip archive without a model in it", "Give the checkpoint itself."


def _is_text(head: bytes) -> bool:
    text = head.decode(errors="ignore")
    whole = len(text.encode()) > len(head) - 4  # The last character may be cut in two.
    return whole and all(letter.isprintable() or letter.isspace() for letter in text)
