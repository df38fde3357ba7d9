"""`adabn merge`: one domain pack from what all shards have shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adabn_cli.cli.option_groups.model import ModelOptions, ModelPath
from adabn_cli.cli.option_groups.option import Option
from adabn_cli.cli.option_groups.output import Force, OutputOptions
from adabn_cli.cli.option_groups.spread import Without


def merge(
    *,
    model: ModelPath,
    shards: Annotated[
        list[Path],
        typer.Argument(metavar="SHARD…", help="What adabn collect has written, of all shards."),
    ],
    out: Annotated[
        Path, Option("--out", "-o", said="line", metavar="FILE", help="The pack to write.")
    ] = Path("pack.safetensors"),
    force: Force = False,
    loading: Annotated[ModelOptions, Without("output")],
    tells: OutputOptions,
) -> int:
    """Make a domain pack of what `adabn collect` has measured on all shards.

    It is that of `adapt --engine one-pass --method adabn` on all pictures, to the byte. Needs no
    picture.
    """
    from adabn_cli.jobs.shards.merge import MergeRequest
    from adabn_cli.jobs.shards.merge import merge as merge_shards
    from adabn_cli.reports.terminal.shards import render_merged

    record = merge_shards(
        MergeRequest(model=loading.request(model), shards=tuple(shards), out=out, force=force)
    )
    tells.show(record.model_dump_json(), record.path, lambda: render_merged(record, str(model)))
    return 0
