"""Where a file may be written: never over the input, and not over another unasked."""

from __future__ import annotations

import os
from pathlib import Path

from adabn_cli.errors import InputError, UsageError


def require_free(out: Path, source: Path, *, force: bool) -> None:
    """Raises UsageError where `out` is the source or a folder, or is there and not `force`.

    Raises InputError where its folder takes no files: better now than after the work.
    """
    folder = out.absolute().parent
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise InputError(
            f"The file cannot be written: {folder} takes no files.",
            where=str(out),
            hint="Give a file in a folder that is there and can be written to, to -o.",
        )
    if out.exists() and source.exists() and out.samefile(source):
        raise UsageError(
            "The input file is never overwritten.", where=str(out), hint="Give another -o."
        )
    if out.is_dir():
        raise UsageError("The output is a folder.", where=str(out), hint="Give a file to -o.")
    if out.exists() and not force:
        raise UsageError(
            "The output file exists.", where=str(out), hint="Give another -o, or --force."
        )
