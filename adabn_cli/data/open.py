"""Pictures of any kind, decoded once and kept for every pass.

Knows no reader, no label, no model and no engine.
"""

from __future__ import annotations

import math
import os
import random
import warnings
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace

import torch

from adabn_cli.data.decoding import Decoded, Unreadable, decode
from adabn_cli.data.intake import Intake
from adabn_cli.data.listing import Picture, in_turn, reading_order
from adabn_cli.data.picture_size import up_to
from adabn_cli.data.readers.kinds import list_pictures
from adabn_cli.data.shared_pictures import in_own_batches, own_share
from adabn_cli.data.store import InRows, PixelStore
from adabn_cli.data.target import Target, TargetRequest
from adabn_cli.errors import UsageError
from adabn_cli.model import Progress, no_progress

# More in flight than workers, so that one slow picture does not leave the others idle.
_IN_FLIGHT = 4


def open_target(request: TargetRequest, on_progress: Progress = no_progress) -> Target:
    """The pictures there, decoded. Calls `on_progress` after each, on this thread.

    Raises TargetError where there is no readable picture, or more unreadable ones than
    `request.max_bad`; UsageError where the request makes no sense.
    """
    with closing(Draws(request)) as draws:
        return draws.target(request.max_images, on_progress)


class Draws:
    """Draws of one target, each larger than the one before, so that it holds all of its pictures.

    No picture is decoded twice; a video or a tar file is read again from the front in every draw
    that takes more of it. Several ranks, and a shard, take one draw: their share of a larger one is
    another. Raises what `open_target` does.
    """

    def __init__(self, request: TargetRequest) -> None:
        _check(request)
        self._request = request
        self._listing = list_pictures(request.path, request.kind, request.stride, request.columns)
        shape = (*request.preprocessing.size, request.preprocessing.channels)
        self._store = PixelStore(0, shape, request.keeping)
        first = request.ranks.index == request.shard.index == 0
        self._intake = Intake(self._store, self._listing.skipped if first else ())
        self._read: Sequence[Picture] = ()

    def close(self) -> None:
        """Draws no more; the targets stay valid."""
        self._store.close()

    def target(self, max_images: int | None, on_progress: Progress = no_progress) -> Target:
        """So many pictures, or all; calls `on_progress` after each that is decoded."""
        request = replace(self._request, max_images=max_images)
        drawn, subsample = _draw(self._listing.pictures, request)
        ranks, intake = request.ranks, self._intake
        _require_batches(len(drawn), request)
        drawn = drawn[own_share(len(drawn), request.batch_size, request.shard)]
        drawn = drawn[own_share(len(drawn), request.batch_size, ranks)]
        self._decode(drawn, request, on_progress)
        pixels_NHWC, rows = self._store.pixels(), intake.sorted_rows()
        if rows != list(range(len(rows))):
            pixels_NHWC = InRows(pixels_NHWC, torch.tensor(rows))
        before = intake.join(ranks)
        intake.check(request.max_bad, str(request.path))
        if ranks.size > 1:
            n, size = len(intake.pictures), request.batch_size
            pixels_NHWC = in_own_batches(pixels_NHWC, before, n, size, ranks)
        return Target(
            path=request.path,
            pictures=tuple(intake.pictures),
            skipped=tuple(sorted(intake.skipped, key=lambda picture: picture.path)),
            left_out=dict(sorted(self._listing.other_suffixes.items())),
            frames_left_out=intake.frames_left_out,
            conversions=dict(sorted(intake.conversions.items())),
            sizes=tuple(intake.sizes),
            subsample=subsample,
            fingerprint=intake.fingerprint,
            request=request,
            pixels_NHWC=pixels_NHWC,
            listing=self._listing,
        )

    def _decode(
        self, drawn: Sequence[Picture], request: TargetRequest, on_progress: Progress
    ) -> None:
        """Decodes those of the pictures that no earlier draw had."""
        known = {picture.name for picture in self._read}
        new = reading_order(picture for picture in drawn if picture.name not in known)
        self._read = drawn
        self._store.make_room(len(drawn))
        with _decoding(new, request) as results:
            for done, (picture, result) in enumerate(zip(new, results, strict=True), start=1):
                self._intake.take(picture.name, result)
                on_progress(done, len(new))


def _check(request: TargetRequest) -> None:
    bad = request.max_bad
    for wrong, what, hint in (
        (request.batch_size < 1, "A batch holds at least one picture.", "--batch-size 32"),
        (
            request.workers is not None and request.workers < 0,
            "Workers cannot be negative.",
            "--workers 2",
        ),
        (
            request.max_images is not None and request.max_images < 1,
            "At least one picture is needed.",
            "--max-images 256",
        ),
        (request.stride < 1, "A stride is at least 1.", "--stride 25"),
        (not bad >= 0, "The number of unreadable pictures is negative.", "--max-bad 5%"),
        (isinstance(bad, float) and bad > 1, "A share is at most 1.", "--max-bad 5%"),
    ):
        if wrong:
            raise UsageError(what, hint=f"Write {hint}.")


def _require_batches(pictures: int, request: TargetRequest) -> None:
    """Raises UsageError where there would be a shard without a picture."""
    batches = math.ceil(pictures / request.batch_size)
    if 1 < request.shard.size > batches:
        raise UsageError(
            f"{request.shard.size} shards take as many batches, and there are {batches} of "
            f"{request.batch_size} pictures.",
            where=str(request.path),
            hint="Take fewer shards, or a smaller --batch-size for all of them.",
        )


def _draw(
    found: Sequence[Picture], request: TargetRequest
) -> tuple[Sequence[Picture], Mapping[str, int] | None]:
    """`max_images` of them, drawn without replacement, in their old order; or all."""
    n = request.max_images
    if n is None or n >= len(found):
        return found, None
    # Python promises the same random() for a seed on every version and platform; of sample() it
    # does not.
    generator = random.Random(request.seed)
    lots = [generator.random() for _ in found]
    drawn = sorted(range(len(found)), key=lots.__getitem__)[:n]
    subsample = {"drawn": n, "of": len(found), "seed": request.seed}
    return [found[index] for index in sorted(drawn)], subsample


@contextmanager
def _decoding(
    pictures: Sequence[Picture], request: TargetRequest
) -> Generator[Iterator[Decoded | Unreadable]]:
    """Their pixels, in order, decoded by threads that end with this context."""
    processors = min(os.cpu_count() or 1, 8)
    workers = max(1, processors if request.workers is None else request.workers)
    # Set around all threads: warning filters belong to the process. What Pillow warns of is either
    # harmless or fails as well, and is then named with its reason.
    with warnings.catch_warnings(), up_to(request.max_pixels):
        warnings.filterwarnings("ignore", module=r"PIL\.")
        pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        try:
            yield _in_order(pool, pictures, request, workers * _IN_FLIGHT)
        finally:
            pool.shutdown(cancel_futures=True)


def _in_order(
    pool: ThreadPoolExecutor,
    pictures: Sequence[Picture],
    request: TargetRequest,
    in_flight: int,
) -> Iterator[Decoded | Unreadable]:
    waiting: deque[Future[Decoded | Unreadable]] = deque()
    for opening in in_turn(pictures):
        if len(waiting) == in_flight:
            yield waiting.popleft().result()
        asked = (request.preprocessing, request.value_range, request.max_pixels)
        waiting.append(pool.submit(decode, opening, *asked))
    while waiting:
        yield waiting.popleft().result()
