"""`adabn profile`: measure the source domain once, so that no source picture is needed later."""

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


def profile(
    model: options.ModelPath,
    source: Annotated[
        str,
        typer.Option(
            "--source",
            "-s",
            metavar="DATA",
            help="Pictures of the kind that the model was trained on, of all its classes, as "
            "--target of adapt.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="The profile to write; by default MODEL with the suffix .profile, where adapt "
            "finds it.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file that is there.")] = False,
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
    max_images: options.MaxImages = 256,
    max_bad: options.MaxBad = "5%",
    stride: options.Stride = 1,
    value_range: options.ValueRange = None,
    max_pixels: data_options.MaxPixels = None,
    seed: options.Seed = 0,
    json_: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Measure what a model's layers show on source pictures, into a small file.

    `adapt --profile FILE` holds the target against it. Models that store no
    statistics (Weight Normalization, BatchNorm folded away) adapt only so.
    """
    from adabn_cli.jobs.profile import ProfileRequest
    from adabn_cli.jobs.profile import profile as profile_model
    from adabn_cli.jobs.scored_data import PicturesRequest
    from adabn_cli.models.architectures.build import parse_arch_args
    from adabn_cli.models.open import ModelRequest

    request = ProfileRequest(
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
        source=values.location(source),
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
        out=out,
        force=force,
    )
    with shown_progress(quiet=quiet or json_) as progress:
        record = profile_model(request, progress)
    if json_:
        write_json(loads(record.model_dump_json()))
    elif quiet:
        write(record.path)
    else:
        from adabn_cli.reports.terminal.profile import render

        show(render(record))
    return 0
