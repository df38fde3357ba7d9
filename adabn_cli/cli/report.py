"""`adabn report`: show a run, render it, gate it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adabn_cli.cli import consoles, options
from adabn_cli.cli.report_files import STDOUT, require_writable, write_renderings
from adabn_cli.cli.run_report import show

_FILES = "Files, or - for stdout"


def _schema(asked: bool) -> None:
    if asked:
        from adabn_cli.renderers.json_schema import render

        consoles.write_json(render())
        raise typer.Exit


def report(
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN",
            help="A run's folder or its run.json; the newest in adabn-runs/ by default.",
        ),
    ] = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-on",
            metavar="GATE",
            help="Exit 1 where this holds, 4 where it cannot be told; may be repeated: "
            "accuracy_drop>0.5pp, accuracy_after<0.80, class_drop>5pp, kl_after_p95>2, "
            "residual>1e-3, skipped_images>1%, collapse.",
        ),
    ] = None,
    html: Annotated[
        str | None,
        typer.Option(
            "--html",
            metavar="FILE",
            rich_help_panel=_FILES,
            help="One page with charts that opens anywhere. Needs matplotlib.",
        ),
    ] = None,
    md: Annotated[
        str | None,
        typer.Option(
            "--md",
            metavar="FILE",
            rich_help_panel=_FILES,
            help="Markdown for a job summary or a comment on a pull request.",
        ),
    ] = None,
    junit: Annotated[
        str | None,
        typer.Option(
            "--junit",
            metavar="FILE",
            rich_help_panel=_FILES,
            help="JUnit XML: a test case a gate.",
        ),
    ] = None,
    openmetrics: Annotated[
        str | None,
        typer.Option(
            "--openmetrics",
            metavar="FILE",
            rich_help_panel=_FILES,
            help="OpenMetrics text, for dashboards.",
        ),
    ] = None,
    schema: Annotated[
        bool,
        typer.Option(
            "--schema",
            callback=_schema,
            is_eager=True,
            help="Print the JSON Schema of run.json, and nothing else.",
        ),
    ] = False,
    sites: Annotated[
        bool, typer.Option("--sites", help="Show every site, not the most shifted ones alone.")
    ] = False,
    json_: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
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
    from adabn_cli.workflows.gates import check_gates, exit_code
    from adabn_cli.workflows.run_folder import newest_run, read_record

    asked = {"--html": html, "--md": md, "--junit": junit, "--openmetrics": openmetrics}
    files = {option: file for option, file in asked.items() if file is not None}
    require_writable(files, other="--json" if json_ else "--quiet" if quiet else "")
    record = read_record(run or newest_run())
    gates = check_gates(record, fail_on or [])
    record = record.model_copy(update={"gates": gates})
    write_renderings(record, files)
    if STDOUT in files.values():
        return exit_code(gates)
    show(record, json=json_, quiet=quiet, sites="all" if sites else "few")
    if gates and not (json_ or quiet):
        from adabn_cli.renderers.gates import render

        consoles.show(render(gates))
    return exit_code(gates)
