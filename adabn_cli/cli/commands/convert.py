"""`adabn convert`: a model in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from adabn_cli.cli.consoles import tell, write, write_json
from adabn_cli.cli.option_groups.model import ModelOptions, ModelPath
from adabn_cli.cli.option_groups.option import Option
from adabn_cli.cli.option_groups.output import Force, OutputOptions
from adabn_cli.cli.option_groups.preprocessing import ImgSize
from adabn_cli.cli.option_groups.spread import Without
from adabn_cli.cli.values import size as parsed_size
from adabn_cli.text import count, one_line


def convert(
    *,
    model: ModelPath,
    out: Annotated[
        Path,
        Option(
            "--out",
            "-o",
            said="line",
            metavar="FILE",
            help="The file to write; its ending is the format: .pth, .safetensors, .pt2, .onnx.",
        ),
    ],
    img_size: ImgSize = None,
    float32: Annotated[
        bool,
        Option(
            "--float32",
            said="settings",
            help="Write floating values as float32: what a half precision model needs whose "
            "statistics on the target overflow.",
        ),
    ] = False,
    force: Force = False,
    loading: Annotated[ModelOptions, Without("input_name")],
    tells: OutputOptions,
) -> int:
    """Write a model as .pth, .safetensors, .pt2 or .onnx, with its BatchNorm layers kept.

    The file is opened again and its outputs are compared before it is put in place.
    """
    from dataclasses import asdict

    from adabn_cli.jobs.convert import convert as convert_model

    size = None if img_size is None else parsed_size(img_size)
    done = convert_model(loading.request(model), out, size=size, force=force, float32=float32)
    if tells.json:
        write_json(asdict(done) | {"path": str(done.path)})
        return 0
    for note in done.notes:
        tell(f"note: {note}")
    if tells.quiet:
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
