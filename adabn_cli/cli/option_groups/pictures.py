"""How pictures are read, and where their labels come from."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from adabn_cli.cli import values
from adabn_cli.cli.option_groups.option import Group, Option

if TYPE_CHECKING:
    from adabn_cli.jobs.scored_data import PicturesRequest

_option = partial(Option, rich_help_panel="Pictures")

MaxImages = Annotated[
    int | None,
    _option(
        "--max-images",
        metavar="N",
        min=1,
        help="Draw N pictures, shuffled with --seed.",
    ),
]
ValueRange = Annotated[
    str | None,
    _option(
        "--value-range",
        metavar="LOW,HIGH",
        help="Which values are black and white in pictures of more than 8 bits and DICOM.",
    ),
]
MaxPixels = Annotated[
    str | None,
    _option(
        "--max-pixels",
        metavar="N",
        help="Read pictures of up to N pixels, e.g. 400M; larger ones count as unreadable. By "
        "default 179 million, as a small file can claim any size. Each needs 3 bytes per pixel.",
    ),
]


class PictureOptions(Group):
    """Labels and classes, tables, what the outputs are, and how many pictures are read how."""

    labels: Annotated[
        str,
        _option(
            "--labels",
            metavar="auto|none|FILE",
            help="Labels for scoring only: folder names, none, or a file: a table (.csv, .tsv, "
            ".parquet) or a list of `path class` (.txt).",
        ),
    ] = "auto"
    class_map: Annotated[
        Path | None,
        _option(
            "--class-map",
            metavar="FILE",
            help="Class names in the order of the outputs (.txt, .json), or folder to class "
            "(.json, .csv).",
        ),
    ] = None
    label_offset: Annotated[
        int | None,
        _option(
            "--label-offset",
            metavar="N",
            help="The number of the first class if labels, folders or masks are numbers: 1 "
            "if they count from 1, -1 if the first output is a background. Without it 0, and "
            "the run is checked for another one.",
        ),
    ] = None
    class_order: Annotated[
        str | None,
        _option(
            "--class-order",
            metavar="natural|text",
            help="If folders are the classes by their order alone: natural has 2 before 10, as "
            "timm, text 10 before 2, as ImageFolder. Without it the run tells, or it is asked for.",
        ),
    ] = None
    path_column: Annotated[
        str | None,
        _option(
            "--path-column",
            metavar="NAME",
            help="The column of paths in a table of pictures or labels, if its name is not a usual "
            "one, as path or filename.",
        ),
    ] = None
    label_column: Annotated[
        str | None,
        _option(
            "--label-column",
            metavar="NAME",
            help="The column of labels in such a table, if its name is not a usual one, as label.",
        ),
    ] = None
    path_suffix: Annotated[
        str | None,
        _option(
            "--path-suffix",
            metavar=".SUFFIX",
            help="What paths in such a table or a list lack, as .jpg if it holds ids.",
        ),
    ] = None
    task: Annotated[
        str,
        _option(
            "--task",
            metavar="NAME",
            help="What the outputs are: classification, segmentation, multi-label, regression, "
            "detection. auto tells maps and boxes from class scores.",
        ),
    ] = "auto"
    masks: Annotated[
        Path | None,
        _option(
            "--masks",
            metavar="DIR",
            help="For segmentation: masks called like the pictures, class indices by pixel, 255 "
            "for unknown.",
        ),
    ] = None
    batch_size: Annotated[
        int,
        _option(
            "--batch-size",
            "-b",
            metavar="N",
            min=1,
            help="Pictures per batch. Exact statistics do not depend on it.",
        ),
    ] = 32
    workers: Annotated[
        int | None,
        _option(
            "--workers",
            "-j",
            metavar="N",
            min=1,
            help="Threads that read pictures; by default one a processor, at most 8.",
        ),
    ] = None
    max_images: MaxImages = None
    max_bad: Annotated[
        str,
        _option(
            "--max-bad",
            metavar="N|N%",
            help="How many unreadable pictures to put up with.",
        ),
    ] = "5%"
    stride: Annotated[
        int,
        _option(
            "--stride",
            metavar="N",
            min=1,
            help="Of videos take every N-th frame.",
        ),
    ] = 1
    value_range: ValueRange = None
    max_pixels: MaxPixels = None
    seed: Annotated[
        int,
        _option(
            "--seed",
            metavar="N",
            help="Seed of every draw.",
        ),
    ] = 0

    def request(self) -> PicturesRequest:
        """How pictures are read and labelled."""
        from adabn_cli.jobs.scored_data import PicturesRequest

        return PicturesRequest(
            batch_size=self.batch_size,
            workers=self.workers,
            max_images=self.max_images,
            max_bad=values.max_bad(self.max_bad),
            seed=self.seed,
            labels=self.labels,
            class_map=self.class_map,
            stride=self.stride,
            value_range=values.value_range(self.value_range),
            label_offset=self.label_offset,
            class_order=values.class_order(self.class_order),
            columns=values.columns(self.path_column, self.label_column, self.path_suffix),
            max_pixels=values.pixels(self.max_pixels),
            task=self.task,
            masks=self.masks,
        )
