"""What became of each picture: kept, converted or skipped, and whether too many were lost.

Opens no file; is told every result once, in the order in which pictures are read.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable

from adabn_cli.data.decoding import Decoded, Unreadable
from adabn_cli.data.folder_files import SkippedPicture
from adabn_cli.data.picture_size import in_millions
from adabn_cli.data.store import PixelStore
from adabn_cli.errors import TargetError
from adabn_cli.ranks import Ranks
from adabn_cli.text import count, one_line


class Intake:
    """Keeps pixels in `store` and counts the rest."""

    def __init__(self, store: PixelStore, skipped: Iterable[SkippedPicture]) -> None:
        self.pictures: list[str] = []
        self.skipped = list(skipped)
        self.conversions: Counter[str] = Counter()
        self.frames_left_out = 0
        self.sizes: list[tuple[int, int]] = []
        self.too_large: list[int] = []
        self._digests: list[bytes] = []
        self._rows: list[int] = []
        self._store = store

    def take(self, name: str, result: Decoded | Unreadable) -> None:
        """Notes what became of the picture `name`; raises TargetError where the disk is full."""
        if isinstance(result, Unreadable):
            self.skipped.append(SkippedPicture(name, result.reason))
            if result.pixels is not None:
                self.too_large.append(result.pixels)
            return
        self._store.append(result.pixels_HWC)
        self._rows.append(len(self._rows))
        self.pictures.append(name)
        self.conversions.update(result.conversions)
        self.frames_left_out += result.frames_left_out
        self.sizes.append(result.size)
        # A name cannot hold a zero byte, and the shape says how many bytes follow.
        digest = hashlib.sha256(f"{name}\0{result.pixels_HWC.shape}".encode())
        digest.update(result.pixels_HWC.data)
        self._digests.append(digest.digest())

    def sorted_rows(self) -> list[int]:
        """Rows of the store in the order of the names; sorts what is known of the pictures too."""
        order = sorted(range(len(self.pictures)), key=self.pictures.__getitem__)
        self.pictures = [self.pictures[place] for place in order]
        self.sizes = [self.sizes[place] for place in order]
        self._digests = [self._digests[place] for place in order]
        self._rows = [self._rows[place] for place in order]
        return self._rows

    def join(self, ranks: Ranks) -> int:
        """Adds what became of the other ranks' pictures; returns how many come before these."""
        parts = ranks.gather(
            (
                *(self.pictures, self.skipped, self.conversions, self.sizes, self._digests),
                *(self.too_large, self.frames_left_out),
            )
        )
        before = sum(len(pictures) for pictures, *_ in parts[: ranks.index])
        self.pictures = [name for part in parts for name in part[0]]
        self.skipped = [lost for part in parts for lost in part[1]]
        self.conversions = sum((part[2] for part in parts), Counter())
        self.sizes = [size for part in parts for size in part[3]]
        self._digests = [digest for part in parts for digest in part[4]]
        self.too_large = [pixels for part in parts for pixels in part[5]]
        self.frames_left_out = sum(part[6] for part in parts)
        return before

    @property
    def fingerprint(self) -> str:
        """sha256 over that of every picture kept, of its name and decoded pixels, in order."""
        return hashlib.sha256(b"".join(self._digests)).hexdigest()

    def check(self, max_bad: int | float, where: str) -> None:
        """Raises TargetError where nothing was readable, or more was lost than `max_bad` allows."""
        bad, total = len(self.skipped), len(self.skipped) + len(self.pictures)
        first = "; ".join(f"{one_line(lost.path)}: {lost.reason}" for lost in self.skipped[:3])
        more = f"; and {bad - 3} more" if bad > 3 else ""
        if not self.pictures:
            raise TargetError(
                f"None of {count(total, 'picture')} can be read ({first}{more}).",
                where=where,
                hint=f"{self._larger}Give intact pictures; paths in a list are relative to it.",
            )
        share = isinstance(max_bad, float)
        # Divided, not multiplied: 0.29 * 100 is less than 29.
        if (bad / total if share else bad) > max_bad:
            raise TargetError(
                f"{bad} of {total} pictures cannot be read, more than "
                f"{f'{max_bad:.1%}' if share else max_bad} ({first}{more}).",
                where=where,
                hint=f"{self._larger}Mend or remove them, or allow for them with --max-bad {bad}.",
            )

    @property
    def _larger(self) -> str:
        """How those that are too large would be read; empty without any."""
        if not self.too_large:
            return ""
        are = "1 is" if len(self.too_large) == 1 else f"{len(self.too_large)} are"
        most = in_millions(max(self.too_large))
        return f"{are} too large, of up to {most} million pixels: give --max-pixels {most}M. "
