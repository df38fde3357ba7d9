"""`adabn collect`: measure one shard of a target, on a machine that never meets the others."""

from __future__ import annotations

from json import loads
from pathlib import Path
from typing import Annotated

import typer

from adabn_cli.cli import values
from adabn_cli.cli.consoles import show, write, write_json
from adabn_cli.cli.option_groups import data as data_options
from adabn_cli.cli.option_groups import labels as label_options
from adabn_cli.cli.option_groups import shared as options
from adabn_cli.cli.progress import shown_progress


def collect(
    model: options.ModelPath,
    target: Annotated[
        str, typer.Option("--target", "-t", metavar="DATA", help="As --target of adapt.")
    ],
    shard: Annotated[
        str,
        typer.Option("--shard", metavar="I/N", help="Which of N shards, from 1/N to N/N."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="The file to write; by default shard-I-of-N.safetensors.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file that is there.")] = False,
    layers: options.Layers = None,
    prior: options.Prior = None,
    alpha: options.Alpha = None,
    adapt_initial: options.AdaptInitial = False,
    arch: options.Arch = None,
    arch_args: options.ArchArgs = "",
    weights: options.Weights = None,
    output: options.OutputKey = None,
    input_name: options.InputName = None,
    trust_pickle: options.TrustPickle = False,
    device: options.Device = "auto",
    img_size: options.ImgSize = None,
    mean: options.Mean = None,
    std: options.Std = None,
    crop_pct: options.CropPct = None,
    interpolation: options.Interpolation = None,
    fast_decode: options.FastDecode = False,
    labels: options.LabelsFrom = "auto",
    class_map: label_options.ClassMap = None,
    label_offset: label_options.LabelOffset = None,
    class_order: label_options.ClassOrder = None,
    path_column: data_options.PathColumn = None,
    label_column: data_options.LabelColumn = None,
    path_suffix: data_options.PathSuffix = None,
    batch_size: options.BatchSize = 32,
    workers: options.Workers = None,
    max_images: options.MaxImages = None,
    max_bad: options.MaxBad = "5%",
    stride: options.Stride = 1,
    value_range: options.ValueRange = None,
    max_pixels: data_options.MaxPixels = None,
    seed: options.Seed = 0,
    json_: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Measure one shard of the pictures into a file; `adabn merge` makes a pack of all shards.

    No shard needs another one, so they may run anywhere, at any time.
    """
    from adabn_cli.adaptation.methods import Adaptation
    from adabn_cli.jobs.scored_data import PicturesRequest
    from adabn_cli.jobs.shards.collect import CollectRequest
    from adabn_cli.jobs.shards.collect import collect as collect_shard
    from adabn_cli.models.architectures.build import parse_arch_args
    from adabn_cli.models.open import ModelRequest

    request = CollectRequest(
        model=ModelRequest(
            model,
            arch=arch,
            arch_args=parse_arch_args(arch_args),
            weights=weights,
            output=output,
            trust_pickle=trust_pickle,
            device=device,
            input_name=input_name,
        ),
        target=values.location(target),
        shard=values.shard(shard),
        preprocessing=values.preprocessing_options(
            img_size, mean, std, crop_pct, interpolation, fast_decode=fast_decode
        ),
        pictures=PicturesRequest(
            *(batch_size, workers, max_images, values.max_bad(max_bad), seed, labels, class_map),
            stride=stride,
            value_range=values.value_range(value_range),
            label_offset=label_offset,
            class_order=values.class_order(class_order),
            columns=values.columns(path_column, label_column, path_suffix),
            max_pixels=values.pixels(max_pixels),
        ),
        adaptation=Adaptation(
            layers=values.layers(layers),
            prior=values.prior(prior),
            alpha=alpha,
            adapt_initial=adapt_initial,
        ),
        out=out,
        force=force,
    )
    with shown_progress(quiet=quiet or json_) as progress:
        record = collect_shard(request, progress)
    if json_:
        write_json(loads(record.model_dump_json()))
    elif quiet:
        write(record.path)
    else:
        from adabn_cli.reports.terminal.shards import render_collected

        show(render_collected(record))
    return 0
