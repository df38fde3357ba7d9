"""`adabn report`: show a run, gate it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adabn_cli.cli import consoles, options
from adabn_cli.cli.run_report import show


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
    sites: Annotated[
        bool, typer.Option("--sites", help="Show every site, not the most shifted ones alone.")
    ] = False,
    json_: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Show a run: verdict, accuracy before and after, KL per site. Gate it in CI.

    Exit codes of every command:
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

    record = read_record(run or newest_run())
    gates = check_gates(record, fail_on or [])
    record = record.model_copy(update={"gates": gates})
    show(record, json=json_, quiet=quiet, sites="all" if sites else "few")
    if gates and not (json_ or quiet):
        from adabn_cli.renderers.gates import render

        consoles.show(render(gates))
    return exit_code(gates)
