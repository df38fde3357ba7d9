"""`adabn report`: show runs, render them, gate them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adabn_cli.cli import consoles
from adabn_cli.cli.option_groups.gates import GateOptions
from adabn_cli.cli.option_groups.option import Option
from adabn_cli.cli.option_groups.output import OutputOptions
from adabn_cli.cli.option_groups.renderings import RenderingOptions
from adabn_cli.cli.rendered_files import (
    STDOUT,
    inputs_of,
    renderings,
    require_for_several,
    require_meant,
    require_writable,
    write_renderings,
)
from adabn_cli.cli.shown_runs import show_runs, tell_gates
from adabn_cli.errors import UsageError

_FILES = "Files, or - for stdout"
_GATES = "Gates"


def _schema(asked: bool) -> None:
    if asked:
        from adabn_cli.reports.json_schema import render

        consoles.write_json(render())
        raise typer.Exit


def report(
    *,
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="A run's folder or its run.json; the newest in adabn-runs/ by default. "
            "Several are shown side by side.",
        ),
    ] = None,
    gates: GateOptions,
    rendered: RenderingOptions,
    schema: Annotated[
        bool,
        Option(
            "--schema",
            said="line",
            callback=_schema,
            is_eager=True,
            help="Print the JSON Schema of run.json, and nothing else.",
        ),
    ] = False,
    sites: Annotated[
        bool,
        Option(
            "--sites", said="settings", help="Show every site, not the most shifted ones alone."
        ),
    ] = False,
    tells: OutputOptions,
) -> int:
    """Show a run: verdict, accuracy before and after, KL per site. Gate it in CI.

    Files are written before a gate's exit code is returned. Exit codes of every command:
    0  done, and every gate passed
    1  a gate failed
    2  wrong usage or settings
    3  the model, the pictures or the output cannot be used
    4  cannot tell, as where a gate needs labels and there are none
    70  a bug
    130, 143  interrupted
    """
    from adabn_cli.gates.gates import exit_code, judged
    from adabn_cli.record.run_folder import newest_run, read_record

    files = rendered.files
    require_meant(files, other="--json" if tells.json else "--quiet" if tells.quiet else "")
    if rendered.thumbnails and rendered.html is None:
        raise UsageError("--thumbnails is for the page.", hint="Add --html FILE.")
    if runs and len(runs) > 1:
        require_for_several(files, sites=sites)
    asked = gates.request()
    runs = runs or [newest_run()]
    records = [read_record(run) for run in runs]
    inputs = inputs_of(runs, records, gates.baseline, thumbnails=rendered.thumbnails)
    require_writable(files, inputs)
    records = [judged(record, asked) for record in records]
    texts = renderings(records, files, thumbnails=rendered.thumbnails, paths=rendered.paths)
    write_renderings(texts, files)
    if STDOUT not in files.values():
        show_runs(records, json=tells.json, quiet=tells.quiet, sites="all" if sites else "few")
    found = [gate for record in records for gate in record.gates]
    if tells.little or STDOUT in files.values():
        tell_gates(found)
    return exit_code(found, allow_inconclusive=gates.allow_inconclusive)
