"""From the text of an option to its value. Each raises UsageError naming the option."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from adabn_cli.errors import UsageError

if TYPE_CHECKING:
    from adabn_cli.data.listing import Location
    from adabn_cli.data.tables.columns import Columns
    from adabn_cli.data.truth.classes import Order
    from adabn_cli.ranks import Shard


def location(text: str) -> Location:
    """Where pictures are: a path, pattern or URL as it was written; for - the paths on stdin."""
    if text != "-":
        return text
    if sys.stdin.isatty():
        raise UsageError(
            "- takes a list of paths on stdin, and nothing is piped in.",
            hint="find photos -name '*.jpg' | adabn adapt MODEL --target -",
        )
    from adabn_cli.data.readers.path_list import list_of

    return list_of(sys.stdin.buffer.read(), Path())


def numbers(option: str, text: str) -> tuple[float, ...]:
    """The numbers in "0.485,0.456,0.406"."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"{option} {text} is not a list of numbers.",
            hint=f"Write {option} 0.485,0.456,0.406.",
        ) from error


def value_range(text: str | None) -> tuple[float, float] | None:
    """The two numbers in "0,4095", the first below the second."""
    if text is None:
        return None
    ends = numbers("--value-range", text)
    if len(ends) != 2 or not -math.inf < ends[0] < ends[1] < math.inf:
        raise UsageError(
            f"--value-range {text} is not a range.",
            hint="Write --value-range LOW,HIGH, as --value-range 0,4095.",
        )
    return ends[0], ends[1]


def shard(text: str) -> Shard:
    """Which shard of how many in "2/4"."""
    from adabn_cli.ranks import Shard

    index, _, size = text.partition("/")
    if not (index.isdecimal() and size.isdecimal() and 1 <= int(index) <= int(size)):
        raise UsageError(
            f"--shard {text} is not a shard.", hint="Write --shard 1/4, 2/4, 3/4 and 4/4 for four."
        )
    return Shard(int(index) - 1, int(size))


def size(text: str) -> tuple[int, int]:
    """Height and width in "224" or "240,320"."""
    try:
        sides = [int(part) for part in text.split(",")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise UsageError(
            f"--img-size {text} is not a size in pixels.",
            hint="Write --img-size 224, or --img-size HEIGHT,WIDTH.",
        )
    return sides[0], sides[-1]


def max_bad(text: str) -> int | float:
    """A count ("3") as an int, a share ("5%") as a float."""
    try:
        value = float(text.removesuffix("%")) / 100 if text.endswith("%") else int(text)
    except ValueError:
        value = -1
    if not value >= 0 or (text.endswith("%") and value > 1):
        raise UsageError(
            f"--max-bad {text} is neither a number of pictures nor a share.",
            hint="Write --max-bad 3 or --max-bad 5%.",
        )
    return value


def memory(text: str | None) -> int | None:
    """Bytes in "8GiB", "8G" (both 2^30 each), "500MB" (10^6 each) or a plain number."""
    if text is None:
        return None
    found = re.fullmatch(r"\s*([\d.]+)\s*([kmgt]?)(i?b?)\s*", text, re.IGNORECASE)
    try:
        number = float(found[1]) if found else 0.0
    except ValueError:
        number = 0.0
    if found is None or not number > 0 or (not found[2] and found[3].lower() == "ib"):
        raise UsageError(
            f"--memory {text} is not a size.", hint="Write --memory 8GiB, or --memory 500MB."
        )
    power = " kmgt".index(found[2].lower() or " ")
    return int(number * (1000 if found[3].lower() == "b" else 1024) ** power)


def pixels(text: str | None) -> int | None:
    """How many pixels in "200M", "1.5G" or a plain number."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg]?)", text.strip(), re.IGNORECASE)
    number = float(found[1]) * 1000 ** " kmg".index(found[2].lower() or " ") if found else 0.0
    if not 1 <= number < float("inf"):
        raise UsageError(
            f"--max-pixels {text} is not a number of pixels.",
            hint="Write --max-pixels 200M for 200 million.",
        )
    return int(number)


def columns(path: str | None, label: str | None, path_suffix: str | None) -> Columns:
    """What the user said of a table."""
    from adabn_cli.data.tables.columns import Columns

    for option, name in (("--path-column", path), ("--label-column", label)):
        if name is not None and not name.strip():
            raise UsageError(f"{option} names no column.", hint=f"Leave out {option}.")
    if path_suffix is not None and "." not in path_suffix:
        raise UsageError(
            f"--path-suffix {path_suffix} is not a suffix.", hint="Write --path-suffix .jpg."
        )
    return Columns(path, label, path_suffix or "")


def prior(text: str | None) -> float | Literal["auto"] | None:
    """A number of pseudo-images of source, or "auto"."""
    if text is None:
        return None
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(
            f"--prior {text} is not a number of images.",
            hint="Give 0 or more pseudo-images of source, or 'auto'.",
        ) from error


def layers(text: str | None) -> tuple[str, ...]:
    """The globs in "layer1.*,!layer1.0.bn1"."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def class_order(text: str | None) -> Order | None:
    """How folders that are classes by their order are sorted."""
    if text not in (None, "natural", "text"):
        raise UsageError(
            f"--class-order {text} is unknown.",
            hint="Give natural (2 before 10) or text (10 before 2).",
        )
    return cast("Order | None", text)
