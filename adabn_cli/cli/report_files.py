"""Renderings of runs as files, or on stdout: `report --html FILE --md FILE …`."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Collection, Mapping, Sequence
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
    "--model-card": "adabn_cli.renderers.model_card",
}
STDOUT = "-"
_SIDE_BY_SIDE = "--md"


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


def require_for_several(files: Collection[str], *, sites: bool) -> None:
    """Raises UsageError where an option that shows one run is given with several."""
    of_one = [option for option in files if option != _SIDE_BY_SIDE]
    for option in [*of_one, *(["--sites"] if sites else [])]:
        file = "" if option == "--sites" else " FILE"
        raise UsageError(
            f"{option} shows one run, and several are given.",
            hint=f"Give one: adabn report RUN {option}{file}. Side by side: --md and --json.",
        )


def renderings(
    records: Sequence[Record], files: Collection[str], *, thumbnails: bool = False
) -> dict[str, str]:
    """The text of every rendering, by option: of one run, or of several side by side."""
    if len(records) > 1:
        from adabn_cli.renderers.comparison import render_markdown
        from adabn_cli.workflows.comparison import apart

        return {option: render_markdown(records, apart(records)) for option in files}
    (record,) = records
    texts = {
        option: import_module(RENDERERS[option]).render(record)
        for option in files
        if not (thumbnails and option == "--html")
    }
    return texts | ({"--html": _page_with_thumbnails(record)} if thumbnails else {})


def _page_with_thumbnails(record: Record) -> str:
    from adabn_cli.renderers.html import render
    from adabn_cli.workflows.thumbnails import thumbnails

    return render(record, thumbnails(record))


def write_renderings(texts: Mapping[str, str], files: Mapping[str, str]) -> None:
    """Writes every rendering, by option. Raises InputError where a file cannot be written."""
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
