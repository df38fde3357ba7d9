"""Renderings of runs as files, or on stdout: `report --html FILE --md FILE …`."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from adabn_cli.cli import consoles
from adabn_cli.cli.option_groups.renderings import Paths
from adabn_cli.errors import UsageError
from adabn_cli.files import (
    appearing,
    cannot_be_written,
    may_write,
    require_distinct,
    require_reachable,
)

if TYPE_CHECKING:
    from adabn_cli.record import Record


class Renderer(NamedTuple):
    """The module whose `render` makes a text, and what that begins with, as a pattern.

    By it an earlier one is recognized.
    """

    module: str
    begins: bytes


#: What an option is called -> what makes its text.
RENDERERS = {
    "--html": Renderer("adabn_cli.reports.html.page", rb"<!DOCTYPE html>\n.{0,900}<title>adabn"),
    "--md": Renderer("adabn_cli.reports.markdown", b"<!-- adabn report:"),
    "--junit": Renderer("adabn_cli.reports.junit", rb'(<\?xml[^>]*>\s*)?<testsuites name="adabn"'),
    "--openmetrics": Renderer("adabn_cli.reports.openmetrics", b"# TYPE adabn_run "),
    "--model-card": Renderer("adabn_cli.reports.model_card", b"<!-- adabn model card -->\n"),
}
_FIRST_BYTES = 1000
STDOUT = "-"
_SIDE_BY_SIDE = "--md"


def require_meant(files: Mapping[str, str], *, other: str = "") -> None:
    """Raises UsageError if two results would share stdout, or a file, or one replace a record.

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
    require_distinct((option, Path(file)) for option, file in files.items() if file != STDOUT)


def require_writable(files: Mapping[str, str], inputs: Sequence[Path]) -> None:
    """Raises UsageError if a rendering would replace an input, or a file that is none of its kind.

    A record does not name all that a run was made from, so no other file gives way. Pipes and
    devices are written to.
    """
    for option, file in files.items():
        path = Path(file)
        if file != STDOUT:
            require_reachable(path, option)
        if file == STDOUT or (path.exists() and not path.is_file() and not path.is_dir()):
            continue
        may_write(
            path,
            inputs=inputs,
            option=option,
            in_new_folder=True,
            is_earlier=partial(_is_earlier, RENDERERS[option].begins),
        )


def _is_earlier(mark: bytes, file: Path) -> bool:
    """Whether a file is an earlier rendering, or empty as a job summary is before its step."""
    with file.open("rb") as stream:
        begins = stream.read(_FIRST_BYTES)
    return not begins or re.match(mark, begins, re.DOTALL) is not None


def inputs_of(
    runs: Sequence[Path], records: Sequence[Record], baseline: str | None, *, thumbnails: bool
) -> list[Path]:
    """The files that a report is made from: runs, the baseline, and pictures if they are shown."""
    from adabn_cli.gates.baseline import files_of_baseline
    from adabn_cli.record.run_folder import files_of_run

    read = [files_of_run(run, record) for run, record in zip(runs, records, strict=True)]
    inputs = [file for files in read for file in files]
    if baseline is not None:
        inputs += files_of_baseline(baseline)
    if thumbnails:
        from adabn_cli.jobs.results.thumbnails import pictures_of

        inputs += pictures_of(records[0])
    return inputs


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
    records: Sequence[Record],
    files: Collection[str],
    *,
    thumbnails: bool = False,
    paths: Paths = "relative",
) -> dict[str, str]:
    """The text of every rendering, by option: of one run, or of several side by side."""
    from adabn_cli.reports.portable_paths import portable

    on_disk, records = records, [portable(x) if paths == "relative" else x for x in records]
    if len(records) > 1:
        from adabn_cli.gates.comparison import apart
        from adabn_cli.reports.terminal.comparison import render_markdown

        return {option: render_markdown(records, apart(records)) for option in files}
    (record,) = records
    texts = {
        option: import_module(RENDERERS[option].module).render(record)
        for option in files
        if not (thumbnails and option == "--html")
    }
    return texts | ({"--html": _page_with_thumbnails(record, on_disk[0])} if thumbnails else {})


def _page_with_thumbnails(record: Record, on_disk: Record) -> str:
    from adabn_cli.jobs.results.thumbnails import thumbnails
    from adabn_cli.reports.html.page import render

    return render(record, thumbnails(on_disk))


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
            file.write_text(text, encoding="utf-8", newline="\n")  # A pipe.
            return
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_be_written(file, error, option) from error
    with appearing(file, option) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
