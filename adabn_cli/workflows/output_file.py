"""Where a model file may be written: never over the input, and not over another unasked."""

from __future__ import annotations

from pathlib import Path

from adabn_cli.errors import UsageError


def require_free(out: Path, source: Path, *, force: bool) -> None:
    """Raises UsageError where `out` is the source or a folder, or is there and not `force`."""
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
