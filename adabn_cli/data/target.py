"""Decoded pictures as batches of normalized tensors, made anew from bytes on every pass.

Shapes: n pictures a batch, C channels, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adabn_cli.data.deep_values import ValueRange
from adabn_cli.data.folder_files import SkippedPicture
from adabn_cli.data.listing import Listing, Location
from adabn_cli.data.shared_pictures import OwnBatches, own_share, spread_rows
from adabn_cli.data.store import Keeping, StoredPixels
from adabn_cli.data.tables.columns import BY_HEADER, Columns
from adabn_cli.model import Batches
from adabn_cli.preprocessing import Preprocessing
from adabn_cli.ranks import ALONE, WHOLE, Ranks, Shard


@dataclass(frozen=True)
class TargetRequest:
    """Which pictures to read, and how.

    `max_bad` is how many may be unreadable: an int counts them, a float is their share.
    `max_images` draws that many with `seed`. `workers` threads decode, by default one a processor
    and at most 8. `kind` is the name of a reader; the path tells where it is None. Of videos every
    `stride`-th frame is taken. `value_range` is black and white where there are more than 8 bits.
    `columns` are those of a table. Pictures of more than `max_pixels` are not read; where it is
    None Pillow's limit holds.
    Of several `ranks` each decodes a part, and of a `shard` nothing but it is read.
    """

    path: Location
    preprocessing: Preprocessing
    batch_size: int = 32
    workers: int | None = None
    max_images: int | None = None
    max_bad: int | float = 0.05
    seed: int = 0
    keeping: Keeping | None = None
    kind: str | None = None
    stride: int = 1
    value_range: ValueRange | None = None
    columns: Columns = BY_HEADER
    max_pixels: int | None = None
    ranks: Ranks = ALONE
    shard: Shard = WHOLE


@dataclass(frozen=True, eq=False)
class Target:
    """Decoded pictures, in the order of their batches, and what became of the rest.

    `pictures` are their names, sorted: in a folder paths relative to it, with "/" between folders.
    `left_out` counts other files by suffix, `frames_left_out` what follows the first frame of a
    file. `conversions` says what was done to how many pictures; sizes are (height, width) as
    stored, in order of the pictures. Equal `fingerprint`: equal names and equal decoded pixels, in
    the same order.
    """

    path: Location
    pictures: tuple[str, ...]
    skipped: tuple[SkippedPicture, ...]
    left_out: Mapping[str, int]
    frames_left_out: int
    conversions: Mapping[str, int]
    sizes: tuple[tuple[int, int], ...]
    subsample: Mapping[str, int] | None
    fingerprint: str
    request: TargetRequest
    pixels_NHWC: StoredPixels = field(repr=False)
    listing: Listing = field(repr=False)

    @property
    def kind(self) -> str:
        """What the pictures lie in: "folder", "3 tar shards"."""
        return self.listing.kind

    @property
    def other_files(self) -> int:
        """How many files were left out, as they are no pictures."""
        return sum(self.left_out.values())

    def spread(self, most: int) -> Tensor:
        """At most that many pictures, evenly spread over all of them, as one batch."""
        chosen = torch.linspace(0, len(self.pictures) - 1, min(most, len(self.pictures)))
        return next(self._batches_of(chosen.round().long(), most))

    def few(self, most: int) -> Tensor:
        """The same of no more than a batch: a model may accept no more."""
        return self.spread(min(most, self.request.batch_size))

    def some(self, rows: Tensor, batch_size: int = 16) -> Iterator[Tensor]:
        """Batches of the pictures of these numbers, no larger than those of a pass.

        All ranks ask for the same.
        """
        return self._batches_of(rows, min(batch_size, self.request.batch_size))

    def _batches_of(self, rows: Tensor, batch_size: int) -> Iterator[Tensor]:
        own = self.pixels_NHWC
        for part in torch.split(rows, batch_size):
            if isinstance(own, OwnBatches):
                pixels = spread_rows(own, part, self.request.ranks)
            else:
                pixels = own[part]
            yield from PictureBatches(pixels, self.request.preprocessing, batch_size)

    @property
    def first_batch(self) -> int:
        """The number of the first batch of this rank or shard."""
        if isinstance(self.pixels_NHWC, OwnBatches):
            return self.pixels_NHWC.first
        n, size = self.listed, self.request.batch_size
        first: int = own_share(n, size, self.request.shard).start // size
        return first

    @property
    def listed(self) -> int:
        """How many pictures there are, or were drawn of them: on all ranks, in all shards."""
        found = len(self.listing.pictures)
        return min(found, self.request.max_images or found)

    def batches(self) -> Batches:
        """The pictures as float32 [n, C, H, W], normalized; channels_last where C > 1."""
        return PictureBatches(self.pixels_NHWC, self.request.preprocessing, self.request.batch_size)


@dataclass(frozen=True, eq=False)
class PictureBatches:
    """Batches made anew from bytes on every pass, with the same bits; the last may be shorter."""

    pixels_NHWC: StoredPixels
    preprocessing: Preprocessing
    batch_size: int

    def __len__(self) -> int:
        return math.ceil(len(self.pixels_NHWC) / self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        mean_C = torch.tensor(self.preprocessing.mean)
        std_C = torch.tensor(self.preprocessing.std)
        for start in range(0, len(self.pixels_NHWC), self.batch_size):
            part_NHWC = self.pixels_NHWC[start : start + self.batch_size]
            # In this order of operations the result is torchvision's ToTensor and Normalize, to
            # the bit.
            images_NHWC = part_NHWC.float().div_(255).sub_(mean_C).div_(std_C)
            n, H, W, C = images_NHWC.shape
            yield images_NHWC.permute(0, 3, 1, 2) if C > 1 else images_NHWC.view(n, C, H, W)
