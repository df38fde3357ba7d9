"""A folder is watched by a clock that the test holds: no real second passes."""

from __future__ import annotations

import errno
import gc
import random
import shutil
import tracemalloc
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image

from adabn_cli.adaptation.methods import Adaptation
from adabn_cli.adaptation.packs import read_pack
from adabn_cli.errors import InputError, TargetError, UsageError
from adabn_cli.jobs.adapt.adabn import adapt
from adabn_cli.jobs.adapt.request import AdaptRequest
from adabn_cli.jobs.watch.stream import Event, WatchRequest, watch
from adabn_cli.models.open import ModelRequest

Turn = Callable[[], object]


class Turns:
    """A clock whose waits are turns: one function is called in each, and it stops behind them."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self.stopped = False
        self._turns = list(turns)
        self._now = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self._now

    def wait(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        if not self._turns:
            self.stopped = True
            return
        self._turns.pop(0)()


def nothing() -> None:
    """A turn in which nothing happens."""


class Inbox:
    """The watched folder, and sample pictures in a random order to put into it."""

    def __init__(self, folder: Path, source: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._left = sorted(source.rglob("*.png"))
        random.Random(0).shuffle(self._left)
        self._number = 0

    def put(self, n: int, brightness: float = 1.0) -> Turn:
        """A turn in which so many pictures are put there."""

        def turn() -> None:
            for _ in range(n):
                self._number += 1
                with Image.open(self._left.pop()) as picture:
                    dimmed = picture.point(lambda level: int(level * brightness))
                dimmed.save(self.folder / f"{self._number:05}.png")

        return turn


@pytest.fixture
def inbox(tmp_path: Path, sample_data: Path) -> Inbox:
    return Inbox(tmp_path / "inbox", sample_data / "target")


@pytest.fixture
def watched(tmp_path: Path, sample_data: Path, inbox: Inbox) -> Callable[..., list[Event]]:
    """Watches the inbox for so many turns; the events, into `told` where it is given."""

    def run(*turns: Turn, told: list[Event] | None = None, **options: object) -> list[Event]:
        events: list[Event] = [] if told is None else told
        model = ModelRequest(sample_data / "digits_bn.pt")
        given = {"folder": inbox.folder, "out": tmp_path / "out", **options}
        watch(WatchRequest(model=model, **given), Turns(turns), events.append)
        return events

    return run


def kinds(events: Sequence[Event]) -> list[str]:
    return [event["event"] for event in events]


def test_every_full_batch_is_adapted_to_as_it_arrives(watched, inbox, tmp_path):
    events = watched(inbox.put(20), nothing, inbox.put(20), nothing, inbox.put(40), nothing)
    assert kinds(events) == ["started", "adapted", "adapted", "stopped"]
    started, first, second, stopped = events
    assert [event["time"][:19] for event in events] == [
        f"2026-01-01T00:00:{second:02}" for second in (0, 8, 12, 14)
    ]
    assert (started["sites"], started["momentum"], started["every"]) == (4, 0.1, 32)
    assert (first["pictures"], second["pictures"], second["batch"]) == (32, 64, 32)
    assert first["site"] == "13"
    assert first["kl_nats"] > 0.5
    assert 0 < first["confidence_after"] <= 1
    assert 0 < first["confidence_before"] <= 1
    assert (stopped["reason"], stopped["pictures"], stopped["unused"]) == ("interrupted", 64, 16)
    assert stopped["pack"] == str(tmp_path / "out" / "pack.safetensors")


def test_what_is_there_at_the_start_has_arrived(watched, inbox):
    inbox.put(32)()
    assert kinds(watched(nothing)) == ["started", "adapted", "stopped"]


def test_the_pack_is_that_of_the_online_engine(watched, inbox, tmp_path, sample_data):
    inbox.put(50)()
    watched(nothing, once=True, momentum=0.3, every=16)
    request = AdaptRequest(
        model=ModelRequest(sample_data / "digits_bn.pt"),
        target=inbox.folder,
        adaptation=Adaptation(momentum=0.3),
        engine="online",
        folder=tmp_path / "run",
    )
    pictures = type(request.pictures)(batch_size=16, labels="none")
    adapt(AdaptRequest(**{**vars(request), "pictures": pictures}))
    found, expected = (tmp_path / name / "pack.safetensors" for name in ("out", "run"))
    assert found.read_bytes() == expected.read_bytes()


def test_a_stream_of_like_pictures_does_not_drift_and_darker_ones_do_once(watched, inbox):
    calm = [inbox.put(32) for _ in range(20)]
    events = watched(*calm, nothing, inbox.put(32, 0.6), inbox.put(32, 0.6), nothing, nothing)
    drifts = [event for event in events if event["event"] == "drift"]
    assert [drift["pictures"] for drift in drifts] == [21 * 32]
    assert drifts[0]["shift_std"] > 0.1
    assert drifts[0]["noise_std"] < drifts[0]["shift_std"]
    assert events[-1]["drifts"] == 1
    assert kinds(events).count("adapted") == 22


def test_unreadable_pictures_are_told_once_and_not_tried_again(watched, inbox):
    inbox.put(8)()
    (inbox.folder / "broken.png").write_bytes(b"no picture")
    (inbox.folder / "link.png").symlink_to(inbox.folder / "nowhere")
    events = watched(nothing, nothing, nothing, every=8)
    assert kinds(events) == ["started", "adapted", "skipped", "skipped", "stopped"]
    assert events[2]["picture"] == "broken.png"
    assert events[2]["reason"] == "not a picture in a known format"
    assert (events[-1]["skipped"], events[-1]["pictures"]) == (2, 8)


def test_once_takes_what_is_there_and_ends(watched, inbox):
    inbox.put(40)()
    events = watched(nothing, nothing, nothing, once=True)
    assert [event["batch"] for event in events if event["event"] == "adapted"] == [32, 8]
    assert (events[-1]["reason"], events[-1]["unused"]) == ("--once", 0)


def test_once_in_an_empty_folder_writes_no_pack(watched, inbox, tmp_path):
    with pytest.raises(TargetError, match="no readable picture"):
        watched(nothing, once=True)
    assert not list((tmp_path / "out").iterdir())


def test_max_images_ends_at_so_many(watched, inbox):
    inbox.put(60)()
    events = watched(nothing, nothing, max_images=40)
    assert (events[-1]["reason"], events[-1]["pictures"]) == ("--max-images", 40)
    assert [event["batch"] for event in events if event["event"] == "adapted"] == [32, 8]


def test_patience_takes_fewer_where_none_come(watched, inbox):
    turns = (inbox.put(5), *[nothing] * 6)
    assert kinds(watched(*turns)) == ["started", "stopped"]
    events = watched(*[nothing] * 6, patience=6.0)
    assert kinds(events) == ["started", "adapted", "stopped"]
    # Taken at 2 s, and 6 s without another.
    assert (events[1]["batch"], events[1]["time"][17:19]) == (5, "08")


def test_whoever_reads_the_pack_finds_it_whole(watched, inbox, tmp_path):
    seen = []

    class Reading(list[Event]):
        def append(self, event: Event) -> None:
            super().append(event)
            folder = tmp_path / "out"
            assert {file.name for file in folder.iterdir()} <= {"pack.safetensors"}
            if event["event"] == "adapted":
                seen.append(read_pack(Path(event["pack"])).images)

    watched(inbox.put(40), nothing, nothing, told=Reading(), every=8)
    assert seen == [8, 16, 24, 32, 40]


def test_the_pack_may_lie_in_the_watched_folder(watched, inbox):
    inbox.put(32)()
    events = watched(nothing, nothing, nothing, out=inbox.folder)
    assert kinds(events) == ["started", "adapted", "stopped"]


def test_a_pack_that_is_there_is_replaced_only_where_that_is_asked_for(watched, inbox, tmp_path):
    inbox.put(32)()
    watched(nothing)
    written = (tmp_path / "out" / "pack.safetensors").read_bytes()
    with pytest.raises(UsageError, match="The output file exists"):
        watched(nothing)
    assert (tmp_path / "out" / "pack.safetensors").read_bytes() == written
    assert kinds(watched(nothing, force=True)) == ["started", "adapted", "stopped"]
    assert (tmp_path / "out" / "pack.safetensors").read_bytes() == written


def test_a_full_disk_ends_it_and_keeps_the_pack_before(watched, inbox, tmp_path, monkeypatch):
    def full() -> None:
        def write(self: Path, content: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", write)
        inbox.put(32)()

    told: list[Event] = []
    with pytest.raises(InputError, match="No space left"):
        watched(inbox.put(32), nothing, full, nothing, told=told)
    assert kinds(told) == ["started", "adapted", "stopped"]
    assert "No space left" in told[-1]["reason"]
    assert read_pack(tmp_path / "out" / "pack.safetensors").images == 32


def test_a_folder_that_goes_away_ends_it(watched, inbox):
    told: list[Event] = []
    with pytest.raises(TargetError, match="cannot be read"):
        watched(inbox.put(32), nothing, lambda: shutil.rmtree(inbox.folder), told=told)
    assert kinds(told) == ["started", "adapted", "stopped"]
    assert "cannot be read" in told[-1]["reason"]


def test_memory_does_not_grow_with_the_pictures_that_were_seen(watched, inbox):
    held = []

    class Measuring(list[Event]):
        def append(self, event: Event) -> None:
            if event["event"] == "adapted" and event["pictures"] in (80, 480):
                gc.collect()
                held.append(tracemalloc.get_traced_memory()[0])

    # Each is gone before the next comes, as from a spool: names are held while they are there.
    def replaced() -> None:
        for file in inbox.folder.iterdir():
            file.unlink()
        inbox.put(8)()

    turns = [turn for _ in range(60) for turn in (replaced, nothing)]
    tracemalloc.start()
    try:
        watched(*turns, told=Measuring(), every=8)
    finally:
        tracemalloc.stop()
    # The pixels of these 400 pictures alone are 102,400 bytes.
    assert held[1] - held[0] < 60_000
