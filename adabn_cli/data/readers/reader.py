"""What a reader is: how it is told from others, and how it lists pictures. Opens nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from adabn_cli.data.listing import Listing, Location
from adabn_cli.data.tables.columns import Columns


def _never(_: Location, __: Columns) -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One way in which pictures are kept. It `read`s, that is lists, those of a location.

    `name` is its word for --target-format. A file is recognized by its `suffixes`, in lower case,
    and a folder, a pattern or a URL by `recognizes`. `has_columns` if --path-column and
    --label-column name some of it, `has_paths` if --path-suffix completes what is written in it.
    """

    name: str
    read: Callable[[Location, Columns], Listing]
    suffixes: tuple[str, ...] = ()
    recognizes: Callable[[Location, Columns], bool] = _never
    has_columns: bool = False
    has_paths: bool = False
