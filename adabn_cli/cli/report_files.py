"""Renderings of a run as files, or on stdout: `report --html FILE --md FILE …`."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from adabn_cli.cli import consoles
from adabn_cli.errors import InputError, UsageError

if TYPE_CHECKING:
    from adabn_cli.record import Record

#: What an option is called -> the module whose `render` makes its text.
RENDERERS = {
    "--html": "adabn_cli.renderers.html",
    "--md": "adabn_cli.renderers.markdown",
    "--junit": "adabn_cli.renderers.junit",
    "--openmetrics": "adabn_cli.renderers.openmetrics",
}
STDOUT = "-"


def require_writable(files: Mapping[str, str], *, other: str = "") -> None:
    """Raises UsageError where two results would share stdout, or a file, or replace a record.

    `other` names the option that has stdout already.
    """
    for_stdout = [option for option, file in files.items() if file == STDOUT]
    for_stdout += [other] if other else []
    if STDOUT in files.values() and len(for_stdout) > 1:
        raise UsageError(
            f"{' and '.join(for_stdout)} both want stdout.",
            hint=f"Give a file: {for_stdout[0]} FILE.",
        )
    for option, file in files.items():
        if Path(file).name == "run.json":
            raise UsageError(
                f"{option} {file} would replace the record of a run.",
                hint=f"The run comes first: adabn report {file} {option} FILE.",
            )
        if file != STDOUT and [*files.values()].count(file) > 1:
            raise UsageError(
                f"{option} {file} is the file of another option too.",
                hint="Give each its own file.",
            )


def write_renderings(record: Record, files: Mapping[str, str]) -> None:
    """Writes every rendering, by option; nothing at all where one of them cannot be made.

    Raises InputError where a file cannot be written.
    """
    texts = {option: import_module(RENDERERS[option]).render(record) for option in files}
    for option, file in files.items():
        if file == STDOUT:
            _to_stdout(texts[option])
        else:
            _to_file(option, Path(file), texts[option])
            consoles.tell(f"wrote {file}")


def _to_stdout(text: str) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # As in the file: pages and XML say that they are.
    consoles.write(text.removesuffix("\n"))


def _to_file(option: str, file: Path, text: str) -> None:
    """The file appears whole or not at all; one that is there is replaced."""
    try:
        if file.exists() and not file.is_file():
            file.write_text(text, encoding="utf-8", newline="\n")  # A pipe, or a folder: an error.
            return
        file = file.resolve()  # What a link points to is replaced, not the link.
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name[:100]}-{os.getpid()}")
        try:
            temporary.write_text(text, encoding="utf-8", newline="\n")
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"The report cannot be written: {error.strerror}.",
            where=f"{option} {file}",
            hint="Give a file in a folder that can be written to.",
        ) from error
