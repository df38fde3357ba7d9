"""The options of what other people's data needs: their tables, and very large pictures."""

from __future__ import annotations

from typing import Annotated

import typer

_DATA = "Pictures"

PathColumn = Annotated[
    str | None,
    typer.Option(
        "--path-column",
        metavar="NAME",
        envvar="ADABN_PATH_COLUMN",
        rich_help_panel=_DATA,
        help="The column of paths in a table of pictures or labels, if its name is not a usual "
        "one, as path or filename.",
    ),
]
LabelColumn = Annotated[
    str | None,
    typer.Option(
        "--label-column",
        metavar="NAME",
        envvar="ADABN_LABEL_COLUMN",
        rich_help_panel=_DATA,
        help="The column of labels in such a table, if its name is not a usual one, as label.",
    ),
]
PathSuffix = Annotated[
    str | None,
    typer.Option(
        "--path-suffix",
        metavar=".SUFFIX",
        envvar="ADABN_PATH_SUFFIX",
        rich_help_panel=_DATA,
        help="What paths in such a table or a list lack, as .jpg if it holds ids.",
    ),
]
MaxPixels = Annotated[
    str | None,
    typer.Option(
        "--max-pixels",
        metavar="N",
        envvar="ADABN_MAX_PIXELS",
        rich_help_panel=_DATA,
        help="Read pictures of up to N pixels, as 400M; larger ones count as unreadable. By "
        "default 179 million, as a small file can claim any size. Each takes 3 bytes a pixel.",
    ),
]
