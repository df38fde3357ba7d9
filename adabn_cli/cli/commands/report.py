"""`adabn report`: show runs, render them, gate them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adabn_cli.cli import consoles
from adabn_cli.cli.commands.report_files import (
    STDOUT,
    Paths,
    inputs_of,
    renderings,
    require_for_several,
    require_meant,
    require_writable,
    write_renderings,
)
from adabn_cli.cli.commands.report_shown import show_runs, tell_gates
from adabn_cli.cli.option_groups import shared as options
from adabn_cli.errors import UsageError

_FILES = "Files, or - for stdout"
_GATES = "Gates"


def _schema(asked: bool) -> None:
    if asked:
        from adabn_cli.reports.json_schema import render

        consoles.write_json(render())
        raise typer.Exit


def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="A run's folder or its run.json; the newest in adabn-runs/ by default. "
            "Several are shown side by side.",
        ),
    ] = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-on",
            metavar="GATE",
            rich_help_panel=_GATES,
            help="Exit 1 where this holds, 4 where it cannot be told; may be repeated: "
            "accuracy_drop>0.5pp, accuracy_after<0.80, class_drop>5pp, kl_after_p95>2, "
            "residual>1e-3, skipped_images>1%, collapse, verdict==harm, "
            "accuracy_after.change<-0.5pp.",
        ),
    ] = None,
    warn_on: Annotated[
        list[str] | None,
        typer.Option(
            "--warn-on",
            metavar="GATE",
            rich_help_panel=_GATES,
            help="The same, shown as a warning that changes no exit code.",
        ),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            "--confidence",
            metavar="SHARE",
            rich_help_panel=_GATES,
            help="Fail only where the interval of this confidence, as 0.95, excludes the limit.",
        ),
    ] = None,
    allow_inconclusive: Annotated[
        bool,
        typer.Option(
            "--allow-inconclusive",
            rich_help_panel=_GATES,
            help="Exit 0 in spite of gates that cannot be told.",
        ),
    ] = False,
    allow_close_verdict: Annotated[
        bool,
        typer.Option(
            "--allow-close-verdict",
            rich_help_panel=_GATES,
            help="Let verdict gates pass if the verdict was evaluated and is too close to tell; "
            "without labels and without a profile it still cannot be told.",
        ),
    ] = False,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="RUN",
            rich_help_panel=_GATES,
            help="Say what changed since this run: its folder, its run.json, or one in git as "
            "REVISION:PATH. Exit 4 without it.",
        ),
    ] = None,
    allow_different: Annotated[
        bool,
        typer.Option(
            "--allow-different",
            rich_help_panel=_GATES,
            help="Compare with a baseline of other pictures, classes or preprocessing.",
        ),
    ] = False,
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
    model_card: Annotated[
        str | None,
        typer.Option(
            "--model-card",
            metavar="FILE",
            rich_help_panel=_FILES,
            help="A section for the model's card, in Markdown.",
        ),
    ] = None,
    paths: Annotated[
        Paths,
        typer.Option(
            "--paths",
            rich_help_panel=_FILES,
            help="How files of these renderings name model, target and run: relative to the run's "
            "folder, the same on every machine, or absolute.",
        ),
    ] = "relative",
    thumbnails: Annotated[
        bool,
        typer.Option(
            "--thumbnails",
            rich_help_panel=_FILES,
            help="Put the worst broken pictures into the page of --html, read from the target.",
        ),
    ] = False,
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
    from adabn_cli.gates.gates import GateRequest, exit_code, judged
    from adabn_cli.jobs.run_folder import newest_run, read_record

    asked = {
        **{"--html": html, "--md": md, "--junit": junit, "--openmetrics": openmetrics},
        "--model-card": model_card,
    }
    files = {option: file for option, file in asked.items() if file is not None}
    require_meant(files, other="--json" if json_ else "--quiet" if quiet else "")
    if thumbnails and html is None:
        raise UsageError("--thumbnails is for the page.", hint="Add --html FILE.")
    if runs and len(runs) > 1:
        require_for_several(files, sites=sites)
    gates = GateRequest(
        tuple(fail_on or ()),
        tuple(warn_on or ()),
        confidence,
        baseline,
        allow_different,
        allow_close_verdict,
    )
    runs = runs or [newest_run()]
    records = [read_record(run) for run in runs]
    require_writable(files, inputs_of(runs, records, baseline, thumbnails=thumbnails))
    records = [judged(record, gates) for record in records]
    write_renderings(renderings(records, files, thumbnails=thumbnails, paths=paths), files)
    if STDOUT not in files.values():
        show_runs(records, json=json_, quiet=quiet, sites="all" if sites else "few")
    found = [gate for record in records for gate in record.gates]
    if quiet or json_ or STDOUT in files.values():
        tell_gates(found)
    return exit_code(found, allow_inconclusive=allow_inconclusive)
