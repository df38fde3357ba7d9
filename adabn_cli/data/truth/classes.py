"""The classes behind a model's outputs: which one a name or a number means. Opens no file."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from adabn_cli.text import one_line

#: How folders that are classes by their order alone are sorted: by characters, as ImageFolder does,
#: or with numbers as numbers, as timm does.
Order = Literal["text", "natural"]


class NameTable:
    """Positions of names; where none is equal, case and `-`, `_` and space are taken as one."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._exact: defaultdict[str, list[int]] = defaultdict(list)
        self._folded: defaultdict[str, list[int]] = defaultdict(list)
        for position, name in enumerate(self.names):
            self._exact[name].append(position)
            self._folded[_fold(name)].append(position)

    def __contains__(self, text: str) -> bool:
        return text in self._exact or _fold(text) in self._folded

    def find(self, text: str) -> int | None:
        """The position of the name that is meant; None where there is none.

        Raises ValueError where it could be several: ImageNet has two cranes.
        """
        found = self._exact.get(text) or self._folded.get(_fold(text)) or []
        if len(found) > 1:
            several = " and ".join(map(str, found))
            raise ValueError(f"{one_line(text)} is the name of classes {several}")
        return found[0] if found else None

    def nearest(self, text: str) -> str | None:
        """The name most like it, where one is like it at all."""
        close = difflib.get_close_matches(_fold(text), self._folded, n=1)
        return self.names[self._folded[close[0]][0]] if close else None


@dataclass(frozen=True)
class Classes:
    """What is known of a model's classes.

    `count` is the number of outputs, `names` are in their order, and `mapped` holds the names that
    a class map gives an index; `numbered` is whether it did so for the classes' numbers alone.
    `offset` is the number of the first class, and `order` how folders are sorted, where it was
    said; then numbers are no names.
    """

    count: int | None = None
    names: NameTable | None = None
    mapped: Mapping[str, int] = field(default_factory=dict)
    numbered: bool = False
    offset: int | None = None
    order: Order | None = None

    def knows(self, text: str) -> bool:
        """Whether the text could be meant for a class."""
        named = self.names is not None and text in self.names
        return named or text in self.mapped or is_number(text)

    def counts(self, text: str) -> bool:
        """Whether the text is a number, and so a class by its place and not by its name.

        So is a name that is its own place, as of digits.
        """
        if not is_number(text) or text in self.mapped:
            return self.numbered and is_number(text)
        if self.offset is not None or self.names is None or text not in self.names:
            return True
        return text in self.names.names[int(text) : int(text) + 1]

    def index(self, text: str) -> int:
        """The class that a mapped name, a class name or a number means, in this order.

        Raises ValueError, with the reason, where it is none.
        """
        if text in self.mapped:
            return self.mapped[text]
        if self.counts(text):
            return self.at(int(text))
        if self.names is not None and (found := self.names.find(text)) is not None:
            return found
        if self.names is None:
            raise ValueError(f"{one_line(text)} is not a number, and the class names are unknown")
        near = self.names.nearest(text)
        raise ValueError(
            f"no class is called {one_line(text)}" + (f"; the nearest is {near}" if near else "")
        )

    def at(self, number: int) -> int:
        """The class of a number, counted from the first one's. Raises ValueError for none."""
        first = self.offset or 0
        if number < first or (self.count is not None and number - first >= self.count):
            last = "" if self.count is None else f" and {first + self.count - 1}"
            told = f"between {first}{last}" if last else f"{first} or more"
            raise ValueError(f"class {number} is not {told}")
        return number - first

    def counted_from_one(self, numbers: Iterable[int]) -> str:
        """What to do about numbers of which some are no class, if counting from 1 explains it."""
        found = set(numbers)
        if self.count is None or self.offset is not None or not found or min(found) < 1:
            return ""
        return " Give --label-offset 1 if the first class is 1." if max(found) == self.count else ""


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sorts 2 before 10 and a before B, as timm does: runs of digits are numbers."""
    parts = re.split("([0-9]+)", name.lower())  # Every second one is digits.
    return [(int(part), "") if place % 2 else (-1, part) for place, part in enumerate(parts)]


def is_number(text: str) -> bool:
    """Whether the text is digits alone."""
    return re.fullmatch("[0-9]+", text) is not None


def _fold(name: str) -> str:
    # A Mac stores "é" in folder names as two characters, class lists as one.
    composed = unicodedata.normalize("NFC", name).casefold()
    return re.sub(r"[-_\s]+", " ", composed).strip()
