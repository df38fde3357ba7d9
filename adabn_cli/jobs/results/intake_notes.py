"""What became of a target's files, where that may change the result: sentences for the record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from adabn_cli.data.intake_warnings import left_out_warning, pooling_warning
from adabn_cli.data.target import Target
from adabn_cli.text import valid_text


def intake_notes(
    target: Target, classes: Sequence[str] | None, outputs: int | None, *, labelled: bool
) -> tuple[str, ...]:
    """What is to be told: files and frames left out, and folders that were pooled.

    `labelled` is a target whose sub-folders or labels are known to be classes.
    """
    return tuple(_notes(target, classes, outputs, labelled=labelled))


def _notes(
    target: Target, classes: Sequence[str] | None, outputs: int | None, *, labelled: bool
) -> Iterator[str]:
    taken = Counter(PurePosixPath(name).suffix.lower() for name in target.pictures)
    files = left_out_warning(target.left_out, taken, len(target.pictures))
    if files is not None:
        yield files
    if target.frames_left_out:
        n = target.frames_left_out
        what = "1 page or frame was" if n == 1 else f"{n:,} pages or frames were"
        yield f"{what} left out: of a file that holds several the first is taken."
    if target.listing.is_folder and not labelled:
        name = valid_text(Path(str(target.path)).absolute().name)
        pooled = pooling_warning(target.pictures, classes, outputs, name)
        if pooled is not None:
            yield pooled
