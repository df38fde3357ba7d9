"""The options by which labels become classes, shared by all commands that score."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_DATA = "Pictures"

ClassMap = Annotated[
    Path | None,
    typer.Option(
        "--class-map",
        metavar="FILE",
        envvar="ADABN_CLASS_MAP",
        rich_help_panel=_DATA,
        help="Class names in the order of the outputs (.txt, .json), or folder to class "
        "(.json, .csv).",
    ),
]
LabelOffset = Annotated[
    int | None,
    typer.Option(
        "--label-offset",
        metavar="N",
        envvar="ADABN_LABEL_OFFSET",
        rich_help_panel=_DATA,
        help="The number of the first class where labels, folders or masks are numbers: 1 where "
        "they count from 1, -1 where the first output is a background. Without it 0, and the run "
        "is checked for another one.",
    ),
]
ClassOrder = Annotated[
    str | None,
    typer.Option(
        "--class-order",
        metavar="natural|text",
        envvar="ADABN_CLASS_ORDER",
        rich_help_panel=_DATA,
        help="Where folders are the classes by their order alone: natural has 2 before 10, as "
        "timm, text 10 before 2, as ImageFolder. Without it the run tells, or it is asked for.",
    ),
]
