"""All formats, and which of them a file is of: by its content and never by its name.

Reads the first bytes and, of a zip, the list of members. Executes and unpickles nothing.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from adabn_cli.errors import ModelError, UsageError
from adabn_cli.files import full_suffix
from adabn_cli.models.format import Format, Start
from adabn_cli.models.formats.exported_program import ExportedProgram
from adabn_cli.models.formats.onnx import Onnx
from adabn_cli.models.formats.other_kinds import ZIP, what_else
from adabn_cli.models.formats.safetensors import Safetensors
from adabn_cli.models.formats.torch_save import TorchLegacy, TorchZip
from adabn_cli.models.formats.torchscript import TorchScript

#: The first that recognizes a file reads it: archives of a network before those of a pickle alone.
FORMATS: tuple[Format, ...] = (
    TorchScript(),
    ExportedProgram(),
    TorchZip(),
    TorchLegacy(),
    Safetensors(),
    Onnx(),
)


def format_of(path: Path) -> Format:
    """The format of a file.

    Raises ModelError, naming what the file is and what to do next, if it is of none of these.
    """
    start = _start_of(path)
    for known in FORMATS:
        if known.recognizes(start):
            return known
    what, hint = what_else(start)
    raise ModelError(f"The model file is {what}.", where=str(path), hint=hint)


def _start_of(path: Path) -> Start:
    if not path.exists():
        raise ModelError("There is no such model file.", where=str(path), hint="Check the path.")
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise ModelError(
            f"The model file cannot be read: {error.strerror}.",
            where=str(path),
            hint="Check its permissions.",
        ) from error
    if not head:
        raise ModelError("The model file is empty.", where=str(path), hint="Copy it again.")
    if not head.startswith(ZIP):
        return Start(head=head)
    try:
        with zipfile.ZipFile(path) as archive:
            return Start(head=head, members=tuple(archive.namelist()))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelError(
            "The checkpoint's zip archive is damaged or cut off.",
            where=str(path),
            hint="Copy or download it again and compare the sizes.",
        ) from error


def format_by_ending(path: Path) -> Format:
    """The format that `adabn convert` writes a file in. Raises UsageError for any other ending."""
    # Files of weights alone come first, as the list of endings is read.
    written = sorted((known for known in FORMATS if known.endings), key=lambda x: x.is_graph)
    endings = {ending: known for known in written for ending in known.endings}
    try:
        return endings[full_suffix(path).lower()]
    except KeyError:
        raise UsageError(
            f"No format is known by the ending {full_suffix(path) or '(none)'}.",
            where=f"-o {path}",
            hint=f"End the file in one of {', '.join(endings)}.",
        ) from None
