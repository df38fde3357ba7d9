"""The text of a file that somebody's spreadsheet or script wrote. Knows nothing of what it says."""

from __future__ import annotations

import codecs
from pathlib import Path

from adabn_cli.errors import TargetError
from adabn_cli.text import one_line

#: What a text in UTF-16 begins with.
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(file: Path) -> str:
    """The file's text, in UTF-8 or, if it says so at its start, UTF-16.

    Raises TargetError if it is missing or neither.
    """
    content = _bytes_of(file)
    try:
        return _decoded(content)
    except UnicodeError as error:
        raise _unreadable(file, str(error), "Save it as UTF-8.") from error


def read_text_or_latin(file: Path) -> tuple[str, tuple[str, ...]]:
    """The same, or what Windows writes in Western Europe (latin-1 and 27 more), and a note on that.

    Raises TargetError if the file is missing, or binary.
    """
    content = _bytes_of(file)
    try:
        return _decoded(content), ()
    except UnicodeError as error:
        if b"\0" in content:
            raise _unreadable(file, "it is no text", "Save it as UTF-8.") from error
    note = f"{one_line(file.name)} is not UTF-8: it was read as latin-1 (Windows-1252)"
    try:
        return content.decode("cp1252"), (note,)
    except UnicodeDecodeError:  # Of five bytes that mean nothing there.
        return content.decode("latin-1"), (note,)


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise _unreadable(file, error.strerror or str(error), "Check the file.") from error


def _decoded(content: bytes) -> str:
    """The text. Raises UnicodeError, with the byte."""
    encoding, name = "utf-8-sig", "UTF-8"
    if content.startswith(UTF_16):
        encoding, name = "utf-16", "UTF-16"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise UnicodeError(f"byte {error.start} is not {name}") from error


def _unreadable(file: Path, reason: str, hint: str) -> TargetError:
    return TargetError(f"The file cannot be read: {reason}.", where=str(file), hint=hint)
