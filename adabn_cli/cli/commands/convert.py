"""`adabn convert`: a model in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adabn_cli.cli.consoles import tell, write, write_json
from adabn_cli.cli.option_groups import shared as options
from adabn_cli.cli.values import size as parsed_size
from adabn_cli.text import count, one_line


def convert(
    model: options.ModelPath,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="The file to write; its ending is the format: .pth, .safetensors, .pt2, .onnx.",
        ),
    ],
    img_size: options.ImgSize = None,
    float32: Annotated[
        bool,
        typer.Option(
            "--float32",
            help="Write floating values as float32, as a half precision model takes whose "
            "statistics on the target overflow.",
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file that is there.")] = False,
    arch: options.Arch = None,
    arch_args: options.ArchArgs = "",
    weights: options.Weights = None,
    output: options.OutputKey = None,
    trust_pickle: options.TrustPickle = False,
    json_: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Write a model as .pth, .safetensors, .pt2 or .onnx, with its BatchNorm layers kept.

    The file is opened again and its outputs are compared before it is put in place.
    """
    from dataclasses import asdict

    from adabn_cli.jobs.convert import convert as convert_model
    from adabn_cli.models.architectures.build import parse_arch_args
    from adabn_cli.models.open import ModelRequest

    size = None if img_size is None else parsed_size(img_size)
    request = ModelRequest(
        model,
        arch=arch,
        arch_args=parse_arch_args(arch_args),
        weights=weights,
        output=output,
        trust_pickle=trust_pickle,
    )
    done = convert_model(request, out, size=size, force=force, float32=float32)
    if json_:
        write_json(asdict(done) | {"path": str(done.path)})
        return 0
    for note in done.notes:
        tell(f"note: {note}")
    if quiet:
        write(str(done.path))
        return 0
    if done.difference is None:
        compared = "its entries are equal to the bit; outputs were not compared"
    else:
        compared = f"outputs differ by {done.difference:.1g} of the largest"
    sites = count(done.sites, "site")
    told = f"{done.path}: {done.format} of {done.architecture}, {sites}; {compared}"
    write(one_line(told))
    return 0
