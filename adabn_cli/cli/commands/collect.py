"""`adabn collect`: measure one shard of a target, on a machine that never meets the others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from adabn_cli.cli import values
from adabn_cli.cli.option_groups.method import SiteOptions
from adabn_cli.cli.option_groups.model import ModelPath, RunningModelOptions
from adabn_cli.cli.option_groups.option import Option
from adabn_cli.cli.option_groups.output import Force, OutputOptions
from adabn_cli.cli.option_groups.pictures import PictureOptions
from adabn_cli.cli.option_groups.preprocessing import InputOptions
from adabn_cli.cli.option_groups.spread import Without
from adabn_cli.cli.progress import shown_progress


def collect(
    *,
    model: ModelPath,
    target: Annotated[
        str, Option("--target", "-t", said="line", metavar="DATA", help="As --target of adapt.")
    ],
    shard: Annotated[
        str,
        Option("--shard", said="line", metavar="I/N", help="Which of N shards, from 1/N to N/N."),
    ],
    out: Annotated[
        Path | None,
        Option(
            "--out",
            "-o",
            said="line",
            metavar="FILE",
            help="The file to write; by default shard-I-of-N.safetensors.",
        ),
    ] = None,
    force: Force = False,
    sites: SiteOptions,
    loading: Annotated[RunningModelOptions, Without("bf16")],
    preprocessing: InputOptions,
    pictures: Annotated[PictureOptions, Without("task", "masks")],
    tells: OutputOptions,
) -> int:
    """Measure one shard of the pictures into a file; `adabn merge` makes a pack of all shards.

    No shard needs another one, so they may run anywhere, at any time.
    """
    from adabn_cli.jobs.shards.collect import CollectRequest
    from adabn_cli.jobs.shards.collect import collect as collect_shard
    from adabn_cli.reports.terminal.shards import render_collected

    request = CollectRequest(
        model=loading.request(model),
        target=values.location(target),
        shard=values.shard(shard),
        preprocessing=preprocessing.request(),
        pictures=pictures.request(),
        adaptation=sites.request(),
        out=out,
        force=force,
    )
    with shown_progress(quiet=tells.little) as progress:
        record = collect_shard(request, progress)
    tells.show(record.model_dump_json(), record.path, lambda: render_collected(record))
    return 0
