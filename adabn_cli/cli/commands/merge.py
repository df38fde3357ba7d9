"""`adabn merge`: one domain pack from what all shards have shown."""

from __future__ import annotations

from json import loads
from pathlib import Path
from typing import Annotated

import typer

from adabn_cli.cli.consoles import show, write, write_json
from adabn_cli.cli.option_groups import shared as options


def merge(
    model: options.ModelPath,
    shards: Annotated[
        list[Path],
        typer.Argument(metavar="SHARD…", help="What adabn collect has written, of all shards."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The pack to write.")
    ] = Path("pack.safetensors"),
    force: Annotated[bool, typer.Option("--force", help="Replace the file that is there.")] = False,
    arch: options.Arch = None,
    arch_args: options.ArchArgs = "",
    weights: options.Weights = None,
    input_name: options.InputName = None,
    trust_pickle: options.TrustPickle = False,
    json_: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Make a domain pack of what `adabn collect` has measured on all shards.

    It is that of `adapt --engine one-pass --method adabn` on all pictures, to the byte. Needs no
    picture.
    """
    from adabn_cli.jobs.shards.merge import MergeRequest
    from adabn_cli.jobs.shards.merge import merge as merge_shards
    from adabn_cli.models.architectures.build import parse_arch_args
    from adabn_cli.models.open import ModelRequest

    opening = ModelRequest(
        model,
        arch=arch,
        arch_args=parse_arch_args(arch_args),
        weights=weights,
        trust_pickle=trust_pickle,
        input_name=input_name,
    )
    record = merge_shards(MergeRequest(opening, tuple(shards), out, force))
    if json_:
        write_json(loads(record.model_dump_json()))
    elif quiet:
        write(record.path)
    else:
        from adabn_cli.reports.terminal.shards import render_merged

        show(render_merged(record, str(model)))
    return 0
