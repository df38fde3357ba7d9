"""Adapts to the pictures that arrive in a folder, batch by batch, for as long as it is watched.

Every batch goes through the source model, which tells how far the stream is from the source and
whether it drifts, and then through the online engine. Memory does not grow with the pictures seen,
but for the names of those that are there. Knows no signal of the system and no console.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from adabn_cli.adaptation.engines.observe import observe
from adabn_cli.adaptation.engines.online import Stream
from adabn_cli.adaptation.engines.passes import Passes
from adabn_cli.adaptation.installer import Installer
from adabn_cli.adaptation.methods import Adaptation
from adabn_cli.data.arrivals import Arrivals
from adabn_cli.data.decoding import Unreadable, decode
from adabn_cli.data.folder_files import PictureFile, SkippedPicture
from adabn_cli.data.framing import Pixels
from adabn_cli.data.listing import opener
from adabn_cli.data.picture_size import up_to
from adabn_cli.data.target import PictureBatches
from adabn_cli.errors import AdabnError, TargetError
from adabn_cli.files import cannot_be_written, require_apart, write_whole
from adabn_cli.jobs.checks.adaptable import left_out_warning, require_adaptable, require_signal
from adabn_cli.jobs.checks.believing import (
    PICTURES_TWICE,
    Belief,
    believe_adapted,
    require_sound,
)
from adabn_cli.jobs.checks.probing import first_outputs
from adabn_cli.jobs.packing import empty_pack, filled
from adabn_cli.jobs.preprocessing import (
    borrowed_note,
    resolve_preprocessing,
)
from adabn_cli.jobs.scored_data import unscored
from adabn_cli.jobs.watch.drift import Regime
from adabn_cli.jobs.watch.request import Clock, WatchRequest, require_usable
from adabn_cli.measures.confidence import summarise as summarise_confidence
from adabn_cli.measures.divergence import summarise, symmetric_kl_nats
from adabn_cli.measures.scores import Scores
from adabn_cli.model import Model, entries_of, no_progress, statistics_of
from adabn_cli.models.open import OpenedModel, open_model
from adabn_cli.preprocessing import Preprocessing
from adabn_cli.text import valid_text

#: What happened, by name, ready for JSON. "event" and "time" (UTC, ISO 8601) are always there.
Event = Mapping[str, Any]

_Reason = Literal["interrupted", "--max-images", "--once"]


def watch(request: WatchRequest, clock: Clock, tell: Callable[[Event], None]) -> None:
    """Adapts until the clock is stopped; `tell` gets every event as it happens.

    Raises UsageError, ModelError or TargetError before the first event; after it, what goes wrong
    is told by the event "stopped" too, and the pack that was last written stays.
    """
    require_usable(request)
    adaptation = Adaptation(
        method="adabn", momentum=request.momentum, adapt_initial=request.adapt_initial
    )
    opened = open_model(request.model)
    require_apart(request.pack, opened.files)
    require_adaptable(opened.model, with_profile=False, path=request.model.path)
    require_sound(opened.model, request.model.path)  # The stream is held against the source.
    belief = believe_adapted(opened.model, adaptation, request.model.path)
    preprocessing = resolve_preprocessing(opened.model, request.preprocessing)
    notes = _tried(opened.model, preprocessing, request.every, belief)
    installer = Installer.of(opened.model, adaptation, images=request.every)
    try:
        request.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_be_written(request.out, error) from error
    watching = _Watching(request, clock, tell, installer, preprocessing)
    watching.tell_start(opened, (*notes, *left_out_warning(installer)))
    try:
        reason = watching.until_stopped()
    except AdabnError as error:
        watching.tell_end(error.what)
        raise
    watching.tell_end(reason)


def _tried(
    model: Model, preprocessing: Preprocessing, every: int, belief: Belief
) -> tuple[str, ...]:
    """What running the model on random pictures shows that is to be told, before any arrives."""
    shape = (min(PICTURES_TWICE, every), *preprocessing.size, preprocessing.channels)
    pixels_NHWC = torch.randint(
        256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    images = next(iter(PictureBatches(pixels_NHWC, preprocessing, PICTURES_TWICE)))
    why = unscored(first_outputs(model, images))
    return (*belief.run_twice(model, images).warnings, *([why] if why else []))


class _Watching:
    """One stream: what waits for the next batch, and what came of those before."""

    def __init__(
        self,
        request: WatchRequest,
        clock: Clock,
        tell: Callable[[Event], None],
        installer: Installer,
        preprocessing: Preprocessing,
    ) -> None:
        self._request, self._clock, self._tell_event = request, clock, tell
        self._installer, self._preprocessing = installer, preprocessing
        self._empty = empty_pack(installer.model)
        self._stream, self._regime = Stream(installer), Regime()
        self._adapted = installer.original
        self._waiting: list[Pixels] = []
        self._last_arrival = clock.now()
        self._images = self._skipped = self._drifts = 0
        self._arrivals = Arrivals(request.folder)
        self._conversions: Counter[str] = Counter()

    def until_stopped(self) -> _Reason:
        """Goes on with what arrives; returns why it ends."""
        request, clock, arrivals = self._request, self._clock, self._arrivals
        arrivals.look()
        with warnings.catch_warnings():
            # Of what Pillow warns of the harmful fails as well, and is told with its reason.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            while True:
                clock.wait(request.interval)
                for found in arrivals.look() if not clock.stopped else ():
                    self._take(found)
                    if clock.stopped or self._is_enough():
                        break
                if clock.stopped:
                    return "interrupted"
                if request.once or self._is_enough() or self._is_overdue():
                    self._adapt()
                if self._is_enough():
                    return "--max-images"
                if request.once:
                    self._require_any()
                    return "--once"

    def _require_any(self) -> None:
        """Raises TargetError where there was nothing to adapt to: the pack there is another's."""
        if not self._images:
            raise TargetError(
                f"There is no readable picture in it ({self._skipped} were skipped).",
                where=str(self._request.folder),
                hint="Leave out --once to wait for pictures.",
            )

    def _is_enough(self) -> bool:
        most = self._request.max_images
        return most is not None and self._images + len(self._waiting) >= most

    def _is_overdue(self) -> bool:
        patience = self._request.patience
        waited = (self._clock.now() - self._last_arrival).total_seconds()
        return patience is not None and waited >= patience

    def _take(self, found: PictureFile | SkippedPicture) -> None:
        """Decodes what has arrived; a full batch is adapted to."""
        if isinstance(found, SkippedPicture):
            self._tell_skipped(found.path, found.reason)
            return
        asked = self._request
        with up_to(asked.max_pixels):
            decoded = decode(
                opener(found.file),
                self._preprocessing,
                asked.value_range,
                asked.max_pixels,
            )
        if isinstance(decoded, Unreadable):
            self._tell_skipped(found.name, decoded.reason)
            return
        self._last_arrival = self._clock.now()
        self._conversions.update(decoded.conversions)
        self._waiting.append(decoded.pixels_HWC)
        if len(self._waiting) == self._request.every:
            self._adapt()

    def _adapt(self) -> None:
        """Takes what waits through the model, and writes the pack."""
        if not self._waiting:
            return
        pixels_NHWC = torch.from_numpy(np.stack(self._waiting))
        images = next(iter(PictureBatches(pixels_NHWC, self._preprocessing, len(pixels_NHWC))))
        before = self._observe(images)
        after = self._go_along(images)
        self._waiting.clear()
        self._images += len(images)
        sites = tuple(self._stream.running)
        pack = filled(self._empty, self._installer, sites, self._images)
        path = self._request.pack
        write_whole(path, pack.as_bytes())
        site, kl_nats = self._worst_site()
        self._tell(
            "adapted",
            pictures=self._images,
            batch=len(images),
            pack=str(path),
            site=site,
            kl_nats=kl_nats,
            confidence_before=_confidence(before),
            confidence_after=_confidence(after),
        )

    def _observe(self, images: Tensor) -> Scores:
        """What the source model says of the batch; tells where the batch has drifted."""
        model, scores = self._installer.model, Scores()
        self._installer.undo()
        seen = observe(model, Passes.over([images]), scores, no_progress)
        require_signal(self._installer, seen)
        drift = self._regime.take(self._installer.sites, seen, len(images))
        if drift is not None:
            self._drifts += 1
            self._tell("drift", pictures=self._images + len(images), **asdict(drift))
        return scores

    def _go_along(self, images: Tensor) -> Scores:
        """What the adapted model says of the batch, once it has taken it in."""
        model, scores = self._installer.model, Scores()
        model.load_state(entries_of(model, self._adapted))
        scores(0, self._stream.take(images))
        self._adapted = statistics_of(model)
        return scores

    def _worst_site(self) -> tuple[str | None, float | None]:
        """The site that sees the largest shift from the source since the last drift, in nats."""
        means: dict[str, float] = {}
        for name, seen in self._regime.seen.items():
            source = self._installer.comparable.get(name)
            if source is not None:
                eps = self._installer.sites[name].eps
                kl_C = symmetric_kl_nats(source, seen.pixels, eps)
                means[name] = summarise(kl_C, seen.pixels.dead_C).mean or 0.0
        if not means:
            return None, None
        worst = max(means, key=lambda name: means[name])
        return worst, means[worst]

    def tell_start(self, opened: OpenedModel, notes: tuple[str, ...]) -> None:
        """Tells what is watched with what."""
        self._tell(
            "started",
            model=valid_text(str(self._request.model.path)),
            architecture=opened.model.architecture,
            folder=valid_text(str(self._request.folder)),
            sites=len(self._installer.selected),
            momentum=self._request.momentum,
            every=self._request.every,
            preprocessing=self._preprocessing.source,
            notes=[*opened.notes, *borrowed_note(self._preprocessing), *notes],
        )

    def tell_end(self, reason: str) -> None:
        """Tells what came of it; `unused` pictures had arrived and filled no batch."""
        self._tell(
            "stopped",
            reason=reason,
            pictures=self._images,
            skipped=self._skipped,
            left_out=dict(sorted(self._arrivals.left_out.items())),
            converted=dict(sorted(self._conversions.items())),
            drifts=self._drifts,
            unused=len(self._waiting),
            pack=str(self._request.pack) if self._images else None,
        )

    def _tell_skipped(self, name: str, reason: str) -> None:
        self._skipped += 1
        self._tell("skipped", picture=name, reason=reason)

    def _tell(self, event: str, **figures: Any) -> None:
        time = self._clock.now().isoformat(timespec="milliseconds")
        plain = {name: _plain(value) for name, value in figures.items()}
        self._tell_event({"event": event, "time": time, **plain})


def _confidence(scores: Scores) -> float | None:
    """The mean of the largest probability; None where the outputs are no class scores."""
    return summarise_confidence(
        scores.predicted_N, scores.confidence_N, scores.entropy_N, scores.n_classes
    ).confidence_mean


def _plain(value: Any) -> Any:
    """The value as JSON has it: four digits are enough, and there is no NaN."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.4g}") if math.isfinite(value) else None
