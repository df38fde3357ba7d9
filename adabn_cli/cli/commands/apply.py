"""`adabn apply`: a domain pack into a model, or out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adabn_cli.cli.consoles import tell, write, write_json
from adabn_cli.cli.option_groups import shared as options
from adabn_cli.text import count, one_line


def apply(
    model: options.ModelPath,
    pack: Annotated[Path, typer.Argument(metavar="PACK", help="A run's pack.safetensors.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The model file to write.")
    ],
    revert: Annotated[
        bool, typer.Option("--revert", help="Take the pack out: the source model, to the byte.")
    ] = False,
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
    """Put a domain pack into a model, in the format it came in; --revert takes it out."""
    from adabn_cli.jobs.apply import apply as apply_pack
    from adabn_cli.models.architectures.build import parse_arch_args
    from adabn_cli.models.open import ModelRequest

    request = ModelRequest(
        model,
        arch=arch,
        arch_args=parse_arch_args(arch_args),
        weights=weights,
        trust_pickle=trust_pickle,
        input_name=input_name,
    )
    applied = apply_pack(request, pack, out, revert=revert, force=force)
    if not json_:
        for note in applied.notes:
            tell(f"note: {note}")
    if json_:
        about = {
            "path": str(applied.path),
            "architecture": applied.architecture,
            "sites": applied.sites,
            "images": applied.images,
            "reverted": revert,
            "notes": applied.notes,
        }
        write_json(about)
    elif quiet:
        write(str(applied.path))
    else:
        done = "taken out of" if revert else f"of {count(applied.images, 'picture')} put into"
        told = (
            f"{applied.path}: pack {done} {count(applied.sites, 'site')} of {applied.architecture}"
        )
        write(one_line(told))
    return 0
