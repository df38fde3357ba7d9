"""The options that several commands share, with the words people know from timm."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_MODEL, _INPUT, _DATA, _TELL = "Model", "Preprocessing", "Pictures", "Output"
_METHOD, _MACHINE = "Method", "Machine"

ModelPath = Annotated[
    Path, typer.Argument(metavar="MODEL", help="The checkpoint file, or a model folder.")
]

Arch = Annotated[
    str | None,
    typer.Option(
        "--arch",
        metavar="NAME",
        envvar="ADABN_ARCH",
        rich_help_panel=_MODEL,
        help="torchvision:resnet50, timm:resnet50, package.module:callable or "
        "path/to/file.py:callable. Without it the file's keys and shapes decide.",
    ),
]
ArchArgs = Annotated[
    str,
    typer.Option(
        "--arch-args",
        metavar="KEY=VALUE,…",
        envvar="ADABN_ARCH_ARGS",
        rich_help_panel=_MODEL,
        help="Arguments for the callable that --arch names; values, or all of it, may be JSON.",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="ema|model|KEY",
        envvar="ADABN_WEIGHTS",
        rich_help_panel=_MODEL,
        help="Which weights to take where the file holds several: the moving average by default.",
    ),
]
OutputKey = Annotated[
    str | None,
    typer.Option(
        "--output",
        metavar="KEY",
        envvar="ADABN_OUTPUT",
        rich_help_panel=_MODEL,
        help="Which entry of the model's output holds the logits.",
    ),
]
InputName = Annotated[
    str | None,
    typer.Option(
        "--input",
        metavar="NAME",
        envvar="ADABN_INPUT",
        rich_help_panel=_MODEL,
        help="Which input of an ONNX graph takes the pictures, where it has several.",
    ),
]
TrustPickle = Annotated[
    bool,
    typer.Option(
        "--trust-pickle",
        rich_help_panel=_MODEL,
        help="Load a file that runs code. Only for files you would run as a program. Classes are "
        "looked for in the current folder too, and in the file that --arch names.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="DEVICE",
        envvar="ADABN_DEVICE",
        rich_help_panel=_MODEL,
        help="cpu, cuda, cuda:1, …; auto takes a GPU where there is one.",
    ),
]
Bf16 = Annotated[
    bool,
    typer.Option(
        "--bf16",
        envvar="ADABN_BF16",
        rich_help_panel=_MODEL,
        help="Compute in bfloat16 where that will do: fast on GPUs and processors made for it, and "
        "approximate. Statistics move by 0.01 to 0.3 of a standard deviation.",
    ),
]
ImgSize = Annotated[
    str | None,
    typer.Option(
        "--img-size",
        metavar="N|H,W",
        envvar="ADABN_IMG_SIZE",
        rich_help_panel=_INPUT,
        help="Input size in pixels.",
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        "--mean",
        metavar="N,N,N",
        envvar="ADABN_MEAN",
        rich_help_panel=_INPUT,
        help="Mean of each channel, for values in 0 to 1.",
    ),
]
Std = Annotated[
    str | None,
    typer.Option(
        "--std",
        metavar="N,N,N",
        envvar="ADABN_STD",
        rich_help_panel=_INPUT,
        help="Standard deviation of each channel.",
    ),
]
CropPct = Annotated[
    float | None,
    typer.Option(
        "--crop-pct",
        metavar="SHARE",
        envvar="ADABN_CROP_PCT",
        rich_help_panel=_INPUT,
        help="Share of the resized picture that the centre crop keeps.",
    ),
]
Interpolation = Annotated[
    str | None,
    typer.Option(
        "--interpolation",
        metavar="nearest|bilinear|bicubic",
        envvar="ADABN_INTERPOLATION",
        rich_help_panel=_INPUT,
        help="How pictures are resized.",
    ),
]
FastDecode = Annotated[
    bool,
    typer.Option(
        "--fast-decode",
        envvar="ADABN_FAST_DECODE",
        rich_help_panel=_INPUT,
        help="Decode large JPEG files at a fraction of their size, at least twice what the model "
        "takes: several times as fast, and a few of 255 levels off at edges.",
    ),
]
LabelsFrom = Annotated[
    str,
    typer.Option(
        "--labels",
        metavar="auto|none|FILE",
        envvar="ADABN_LABELS",
        rich_help_panel=_DATA,
        help="Labels for scoring only: folder names, none, or a file: a table (.csv, .tsv, "
        ".parquet) or a list of `path class` (.txt).",
    ),
]
TaskName = Annotated[
    str,
    typer.Option(
        "--task",
        metavar="NAME",
        envvar="ADABN_TASK",
        rich_help_panel=_DATA,
        help="What the outputs are: classification, segmentation, multi-label, regression, "
        "detection. auto tells maps and boxes from class scores.",
    ),
]
MasksFrom = Annotated[
    Path | None,
    typer.Option(
        "--masks",
        metavar="DIR",
        envvar="ADABN_MASKS",
        rich_help_panel=_DATA,
        help="For segmentation: masks called like the pictures, class indices by pixel, 255 for "
        "unknown.",
    ),
]
BatchSize = Annotated[
    int,
    typer.Option(
        "--batch-size",
        "-b",
        metavar="N",
        min=1,
        envvar="ADABN_BATCH_SIZE",
        rich_help_panel=_DATA,
        help="Pictures a batch. Exact statistics do not depend on it.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        "-j",
        metavar="N",
        min=1,
        envvar="ADABN_WORKERS",
        rich_help_panel=_DATA,
        help="Threads that read pictures; by default one a processor, at most 8.",
    ),
]
MaxImages = Annotated[
    int | None,
    typer.Option(
        "--max-images",
        metavar="N",
        min=1,
        envvar="ADABN_MAX_IMAGES",
        rich_help_panel=_DATA,
        help="Draw N pictures, shuffled with --seed.",
    ),
]
MaxBad = Annotated[
    str,
    typer.Option(
        "--max-bad",
        metavar="N|N%",
        envvar="ADABN_MAX_BAD",
        rich_help_panel=_DATA,
        help="How many unreadable pictures to put up with.",
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        metavar="N",
        envvar="ADABN_SEED",
        rich_help_panel=_DATA,
        help="Seed of every draw.",
    ),
]
Stride = Annotated[
    int,
    typer.Option(
        "--stride",
        metavar="N",
        min=1,
        envvar="ADABN_STRIDE",
        rich_help_panel=_DATA,
        help="Of videos take every N-th frame.",
    ),
]
ValueRange = Annotated[
    str | None,
    typer.Option(
        "--value-range",
        metavar="LOW,HIGH",
        envvar="ADABN_VALUE_RANGE",
        rich_help_panel=_DATA,
        help="Which values are black and white in pictures of more than 8 bits and DICOM.",
    ),
]
Layers = Annotated[
    str | None,
    typer.Option(
        "--layers",
        metavar="GLOB,!GLOB,…",
        envvar="ADABN_LAYERS",
        rich_help_panel=_METHOD,
        help="Which sites to adapt; ! excludes.",
    ),
]
Prior = Annotated[
    str | None,
    typer.Option(
        "--prior",
        metavar="N|auto",
        envvar="ADABN_PRIOR",
        rich_help_panel=_METHOD,
        help="Mix in the source as N pseudo-images; auto: per channel, as far as the target's "
        "estimate can be trusted.",
    ),
]
Alpha = Annotated[
    float | None,
    typer.Option(
        "--alpha",
        metavar="A",
        envvar="ADABN_ALPHA",
        rich_help_panel=_METHOD,
        help="Mix in the source with a fixed weight A in 0 to 1 on the target.",
    ),
]
AdaptInitial = Annotated[
    bool,
    typer.Option(
        "--adapt-initial",
        envvar="ADABN_ADAPT_INITIAL",
        rich_help_panel=_METHOD,
        help="Adapt a model none of whose sites ever learned its statistics (mean 0, variance 1), "
        "which changes what it computes.",
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        envvar="ADABN_MEMORY",
        rich_help_panel=_MACHINE,
        help="How much memory to take, as 8GiB or 500MB; by default three quarters of what there "
        "is. What does not fit waits on disk. Does not change the result.",
    ),
]
SpillDir = Annotated[
    Path | None,
    typer.Option(
        "--spill-dir",
        metavar="DIR",
        envvar="ADABN_SPILL_DIR",
        rich_help_panel=_MACHINE,
        help="Where what does not fit into --memory is put while the run goes on.",
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        rich_help_panel=_TELL,
        help="Print one JSON document, on failure too.",
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", rich_help_panel=_TELL, help="Print the essential line alone."),
]
Debug = Annotated[
    bool,
    typer.Option("--debug", rich_help_panel=_TELL, help="Show a traceback with an error."),
]
