"""`adabn apply`: a domain pack into a model, or out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adabn_cli.cli.consoles import tell, write, write_json
from adabn_cli.cli.option_groups.model import ModelOptions, ModelPath
from adabn_cli.cli.option_groups.option import Option
from adabn_cli.cli.option_groups.output import Force, OutputOptions
from adabn_cli.cli.option_groups.spread import Without
from adabn_cli.text import count, one_line


def apply(
    *,
    model: ModelPath,
    pack: Annotated[Path, typer.Argument(metavar="PACK", help="A run's pack.safetensors.")],
    out: Annotated[
        Path, Option("--out", "-o", said="line", metavar="FILE", help="The model file to write.")
    ],
    revert: Annotated[
        bool,
        Option("--revert", said="line", help="Take the pack out: the source model, to the byte."),
    ] = False,
    force: Force = False,
    loading: Annotated[ModelOptions, Without("output")],
    tells: OutputOptions,
) -> int:
    """Put a domain pack into a model, in the format it came in; --revert takes it out."""
    from adabn_cli.jobs.apply import apply as apply_pack

    applied = apply_pack(loading.request(model), pack, out, revert=revert, force=force)
    if not tells.json:
        for note in applied.notes:
            tell(f"note: {note}")
    if tells.json:
        about = {
            "path": str(applied.path),
            "architecture": applied.architecture,
            "sites": applied.sites,
            "images": applied.images,
            "reverted": revert,
            "notes": applied.notes,
        }
        write_json(about)
    elif tells.quiet:
        write(str(applied.path))
    else:
        done = "taken out of" if revert else f"of {count(applied.images, 'picture')} put into"
        told = (
            f"{applied.path}: pack {done} {count(applied.sites, 'site')} of {applied.architecture}"
        )
        write(one_line(told))
    return 0
