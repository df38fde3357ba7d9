"""A quoted pattern: `dir/**/*.jpg`, `{day,night}/*.png`.

Names begin behind the folders that are written out, as they do in a folder.
"""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from adabn_cli.data.folder_files import PictureFile
from adabn_cli.data.listing import Listing, Location
from adabn_cli.data.readers.folder import kind_with_videos, pictures_in, taken_suffixes
from adabn_cli.data.readers.reader import Reader
from adabn_cli.data.tables.columns import Columns
from adabn_cli.errors import TargetError
from adabn_cli.text import first_few, valid_text

# Of a pattern that is a slip of the keyboard, as {0..999999999}.
_MOST_BRACES = 100_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def read(location: Location, _: Columns) -> Listing:
    """The pictures that the pattern matches; other files that it matches are counted.

    Raises TargetError where it matches nothing, or a name written out with braces is not there.
    """
    root, files = matches(str(location))
    suffixes, others, taken = taken_suffixes(), Counter[str](), []
    for file in files:
        if file.suffix.lower() in suffixes:
            taken.append(PictureFile(valid_text(file.relative_to(root)), file))
        else:
            others[file.suffix.lower()] += 1
    return Listing(
        kind=kind_with_videos("pattern", taken), pictures=pictures_in(taken), other_suffixes=others
    )


def is_pattern(location: Location) -> bool:
    """Whether it is no folder, and has a letter that stands for others."""
    text = str(location)
    return not Path(text).is_dir() and any(letter in text for letter in "*?[{")


def matches(pattern: str) -> tuple[Path, list[Path]]:
    """The folder that all of them lie below, and the files that match, sorted; none twice."""
    found: set[str] = set()
    missing = []
    for one in expanded(pattern):
        if glob.has_magic(one):
            # Path.glob would take hidden files too, and no absolute pattern.
            paths = glob.iglob(one, recursive=True)  # noqa: PTH207
            found.update(path for path in paths if Path(path).is_file())
        elif Path(one).is_file():
            found.add(one)
        else:
            missing.append(one)
    if missing:
        raise TargetError(
            f"{len(missing)} files of the pattern are not there: {first_few(missing)}.",
            where=pattern,
            hint="Mend the braces, or use * for whatever there is.",
        )
    if not found:
        raise TargetError(
            "No file matches the pattern.",
            where=pattern,
            hint="Quote it, so that the shell leaves it alone; ** stands for folders at any depth.",
        )
    fixed = re.split(r"[*?\[{]", pattern, maxsplit=1)[0]
    return Path(fixed[: fixed.rfind("/") + 1]), [Path(path) for path in sorted(found)]


def expanded(pattern: str) -> list[str]:
    """The pattern once for every choice in its braces: `{a,b}`, or `{000..003}` with its zeros."""
    patterns = [pattern]
    while any(map(_BRACES.search, patterns)):
        choices = (choice for one in patterns for choice in _choices(one))
        patterns = list(islice(choices, _MOST_BRACES + 1))
        if len(patterns) > _MOST_BRACES:
            raise TargetError(
                "The braces of the pattern make too many names.",
                where=pattern,
                hint="Use * instead.",
            )
    return patterns


def _choices(pattern: str) -> Iterator[str]:
    found = _BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    before, after = pattern[: found.start()], pattern[found.end() :]
    if span := _RANGE.fullmatch(found[1]):
        low, high = int(span[1]), int(span[2])
        width = len(span[1]) if span[1].startswith("0") else 0
        numbers = range(low, min(high, low + _MOST_BRACES) + 1)
        texts: Iterator[str] = (f"{number:0{width}}" for number in numbers)
    else:
        texts = iter(found[1].split(","))
    for text in texts:
        yield before + text + after


READER = Reader(name="glob", recognizes=lambda location, _: is_pattern(location), read=read)
