"""Masks of pictures: which class every pixel is of, from files that are called like the pictures.

Knows no model. Shapes: N pictures of [H, W] pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from adabn_cli.data.folder_files import files_below
from adabn_cli.data.framing import Pixels, frame
from adabn_cli.data.picture_size import too_large, up_to
from adabn_cli.data.store import Keeping, PixelStore, StoredPixels
from adabn_cli.errors import TargetError
from adabn_cli.model import IGNORED
from adabn_cli.preprocessing import Preprocessing
from adabn_cli.text import first_few, one_line

_INDEX_MODES = frozenset({"1", "L", "P", "I", "I;16", "I;16B", "I;16L"})
_HINT = (
    "A mask is a PNG, gray or palette, of class indices, 255 where unknown, called "
    "like its picture: --masks masks for photos/a/1.jpg and masks/a/1.png."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadMasks:
    """Masks as bytes [N, H, W, 1], framed as their pictures are; IGNORED where there is none.

    `found_N` says which pictures have one; `values` are all that occur in these, `files` where
    these lie.
    """

    pixels_NHWC: StoredPixels = field(repr=False)
    found_N: tuple[bool, ...] = field(repr=False)
    values: frozenset[int]
    files: tuple[Path, ...]
    notes: tuple[str, ...]


def read_masks(
    folder: Path,
    pictures: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    preprocessing: Preprocessing,
    keeping: Keeping | None = None,
    max_pixels: int | None = None,
) -> ReadMasks:
    """The masks of pictures of these sizes (height, width), resized to the nearest pixel.

    Raises TargetError where no picture has one, and for one that cannot be read, has not its
    picture's proportions, or holds colours in place of class indices.
    """
    files = _Files(_files(folder), pictures)
    framing = replace(preprocessing, interpolation="nearest")
    chosen = [files.of(picture) for picture in pictures]
    missing, values = [], set[int]()
    shape = (*framing.size, 1)
    with up_to(max_pixels), closing(PixelStore(len(pictures), shape, keeping)) as store:
        for picture, size, file in zip(pictures, sizes, chosen, strict=True):
            if file is None:
                missing.append(picture)
                store.append(np.full((*framing.size, 1), IGNORED, np.uint8))
                continue
            mask_HWC = np.ascontiguousarray(frame(_read(file, picture, size), framing))
            values.update(np.flatnonzero(np.bincount(mask_HWC.ravel())).tolist())
            store.append(mask_HWC)
        pixels_NHWC = store.pixels()
    if len(missing) == len(pictures):
        raise TargetError(
            f"No picture has a mask, {one_line(pictures[0])} among them.",
            where=str(folder),
            hint=_HINT,
        )
    notes = (f"{len(missing)} of {len(pictures)} pictures have no mask: {first_few(missing)}",)
    return ReadMasks(
        pixels_NHWC=pixels_NHWC,
        found_N=tuple(file is not None for file in chosen),
        values=frozenset(values),
        files=tuple(file for file in chosen if file is not None),
        notes=notes if missing else (),
    )


def _files(folder: Path) -> dict[str, list[Path]]:
    """Files below the folder, by their path without suffix and by their name without it."""
    try:
        listing = files_below(folder)
    except OSError as error:
        raise TargetError(
            f"The folder of masks cannot be read: {error.strerror}.", where=str(folder), hint=_HINT
        ) from error
    found: dict[str, list[Path]] = {}
    for mask in listing.pictures:
        path = PurePosixPath(mask.name)
        for name in {str(path.with_suffix("")), path.stem}:
            found.setdefault(name, []).append(mask.file)
    return found


class _Files:
    """Which mask is whose: by path without suffix, or, where no path fits at all, by name alone."""

    def __init__(self, files: Mapping[str, list[Path]], pictures: Sequence[str]) -> None:
        self._files = files
        self._by_path = any(_without_suffix(picture) in files for picture in pictures)
        self._stems = Counter(PurePosixPath(picture).stem for picture in pictures)

    def of(self, picture: str) -> Path | None:
        """The picture's mask. Raises TargetError where that is not clear."""
        stem = PurePosixPath(picture).stem
        found = self._files.get(_without_suffix(picture) if self._by_path else stem, [])
        if len(found) > 1 or (found and not self._by_path and self._stems[stem] > 1):
            raise TargetError(
                f"It is not clear which mask is that of {one_line(picture)}: "
                f"{first_few(map(str, found))}.",
                hint="Keep masks in folders as the pictures are, one for each.",
            )
        return found[0] if found else None


def _without_suffix(picture: str) -> str:
    return str(PurePosixPath(picture).with_suffix(""))


def _read(file: Path, picture: str, size: tuple[int, int]) -> Pixels:
    """A mask's class indices, [H, W, 1]."""
    try:
        with Image.open(file) as mask:
            mask.load()
            mode, values = mask.mode, np.asarray(mask)
    except Exception as error:  # Decoders meet hostile bytes with anything.
        reason = one_line(str(too_large(error) or error))
        raise TargetError(
            f"The mask of {one_line(picture)} cannot be read: {reason}.",
            where=str(file),
            hint=_HINT,
        ) from error
    if values.ndim == 3 and (values[..., :3] == values[..., :1]).all():
        mode, values = "L", values[..., 0]  # Gray that was saved as RGB.
    problem = None
    if mode not in _INDEX_MODES:
        problem = f"holds colours ({mode}), not class indices"
    elif values.min() < 0 or values.max() > IGNORED:
        problem = f"holds values up to {values.max()}; classes are 0 to 254, and 255 is unknown"
    elif not _same_shape(values.shape[:2], size):
        problem = "has {1} x {0} pixels, the picture {3} x {2}".format(*values.shape[:2], *size)
    if problem:
        raise TargetError(
            f"The mask of {one_line(picture)} {problem}.", where=str(file), hint=_HINT
        )
    return values.astype(np.uint8)[..., None]


def _same_shape(mask: tuple[int, ...], picture: tuple[int, int]) -> bool:
    """Whether both have the same proportions, up to a pixel of the smaller one."""
    (h, w), (height, width) = mask, picture
    return abs(h * width - w * height) <= max(height, width, h, w)
