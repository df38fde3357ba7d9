"""A folder of pictures as batches: what is kept, what is skipped, and when that is an error."""

from __future__ import annotations

import _thread
import os
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adabn_cli.data import store as pixel_store
from adabn_cli.data.open import open_target
from adabn_cli.data.target import Target, TargetRequest
from adabn_cli.errors import TargetError, UsageError
from adabn_cli.preprocessing import Preprocessing

GRAY = Preprocessing((8, 8), (0.4,), (0.3,))
RGB = Preprocessing((8, 8), (0.4, 0.5, 0.6), (0.1, 0.2, 0.3))


def opened(path: Path, preprocessing: Preprocessing = GRAY, **options: object) -> Target:
    return open_target(TargetRequest(path, preprocessing, **options))


def picture(file: Path, seed: int = 0, size: tuple[int, int] = (12, 10), mode: str = "RGB") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(file)
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten intact pictures."""
    for index in range(10):
        picture(tmp_path / "pictures" / f"{index}.png", index)
    return tmp_path / "pictures"


def assert_same(first: Target, second: Target) -> None:
    pairs = zip(first.batches(), second.batches(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert first.fingerprint == second.fingerprint


def test_pictures_are_sorted_by_path_and_named_from_the_root(tmp_path):
    for name in ("b.png", "a/z.png", "a/b/c.PNG", "a.jpg", "10.png", "9.png"):
        picture(tmp_path / name)
    assert opened(tmp_path).pictures == (
        "10.png", "9.png", "a.jpg", "a/b/c.PNG", "a/z.png", "b.png",
    )  # fmt: skip


def test_batches_are_what_torchvision_makes_of_the_folder(tmp_path):
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    for index in range(5):
        picture(tmp_path / "x" / f"{index}.png", index, (20 + 3 * index, 31))
    preprocessing = Preprocessing((16, 16), RGB.mean, RGB.std, 0.875, "bicubic")
    steps = transforms.Compose([
        transforms.Resize(18, transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(16),
        transforms.ToTensor(),
        transforms.Normalize(RGB.mean, RGB.std),
    ])  # fmt: skip
    theirs = torch.stack([image for image, _ in ImageFolder(str(tmp_path), steps)])
    assert torch.equal(torch.cat(list(opened(tmp_path, preprocessing).batches())), theirs)


def test_the_last_batch_is_shorter_and_passes_are_equal_to_the_bit(folder):
    target = opened(folder, RGB, batch_size=4)
    batches = target.batches()
    first, second = list(batches), list(batches)
    assert [len(batch) for batch in first] == [4, 4, 2]
    assert len(batches) == 3
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert {batch.dtype for batch in first} == {torch.float32}


def test_a_batch_changed_in_place_does_not_change_the_next_pass(folder):
    target = opened(folder)
    before = [batch.clone() for batch in target.batches()]
    for batch in target.batches():
        batch.zero_()
    assert all(torch.equal(*pair) for pair in zip(before, target.batches(), strict=True))


def test_colour_batches_are_channels_last_and_gray_ones_contiguous(folder):
    colour = next(iter(opened(folder, RGB).batches()))
    assert colour.shape == (10, 3, 8, 8)
    assert colour.is_contiguous(memory_format=torch.channels_last)
    gray = next(iter(opened(folder).batches()))
    assert gray.stride() == (64, 64, 8, 1)


def test_workers_do_not_change_the_pixels(folder):
    first = opened(folder, RGB, workers=0)
    for workers in (1, 2, 4, None):
        assert_same(first, opened(folder, RGB, workers=workers))


@pytest.mark.parametrize("share", [0, 1])
def test_pictures_beyond_memory_are_kept_on_disk_with_the_same_pixels(
    folder, tmp_path, monkeypatch, share
):
    in_memory = opened(folder, RGB)
    monkeypatch.setattr(pixel_store, "MEMORY_BYTES", 0)
    spill = tmp_path / "spill"
    spill.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spill))
    if share:
        (folder / "bad.png").touch()
    on_disk = opened(folder, RGB, max_bad=share)
    assert not isinstance(on_disk.pixels_NHWC, torch.Tensor)
    assert torch.equal(on_disk.pixels_NHWC[:], in_memory.pixels_NHWC)
    assert torch.equal(on_disk.spread(2), in_memory.spread(2))
    assert_same(in_memory, on_disk)
    assert list(spill.iterdir()) == []


@pytest.mark.parametrize("buffering", [0, 1 << 20])
def test_a_full_disk_says_what_to_do(folder, monkeypatch, buffering):
    monkeypatch.setattr(pixel_store, "MEMORY_BYTES", 0)
    full = Path("/dev/full").open("r+b", buffering)  # noqa: SIM115 (the store closes it)
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: full)
    with pytest.raises(TargetError, match="No space left") as caught:
        opened(folder)
    assert full.closed
    assert "--max-images" in caught.value.hint


def test_equal_data_has_an_equal_fingerprint_and_any_change_another(folder, tmp_path):
    first = opened(folder).fingerprint
    copy = tmp_path / "copy"
    for file in folder.iterdir():
        Image.open(file).save(picture(copy / file.name), compress_level=1)
    assert opened(copy).fingerprint == first
    (copy / "9.png").rename(copy / "99.png")
    assert opened(copy).fingerprint != first
    (copy / "99.png").rename(copy / "9.png")
    picture(copy / "9.png", seed=77)
    assert opened(copy).fingerprint != first
    assert opened(folder, RGB).fingerprint != first


def test_unreadable_pictures_are_named_and_the_rest_is_kept(folder):
    (folder / "bad.png").touch()
    (folder / "3.jpg").write_text("text")
    target = opened(folder, max_bad=2)
    assert [(lost.path, lost.reason) for lost in target.skipped] == [
        ("3.jpg", "not a picture in a known format"),
        ("bad.png", "empty file"),
    ]
    assert target.pictures == tuple(f"{index}.png" for index in range(10))


@pytest.mark.parametrize(("max_bad", "passes"), [(0, False), (1, False), (2, True), (0.15, False)])
def test_more_unreadable_pictures_than_allowed_are_an_error(folder, max_bad, passes):
    (folder / "a\nb.png").touch()
    (folder / "c.png").touch()
    if passes:
        assert len(opened(folder, max_bad=max_bad).skipped) == 2
        return
    with pytest.raises(TargetError, match=r"2 of 12 pictures .*a\\nb.png: empty file") as caught:
        opened(folder, max_bad=max_bad)
    assert "--max-bad 2" in caught.value.hint
    assert caught.value.exit_code == 3
    assert len(str(caught.value).splitlines()) == 3


def test_a_share_is_held_to_the_picture(tmp_path):
    for index in range(100):
        file = tmp_path / f"{index}.png"
        file.touch() if index < 29 else picture(file)
    assert len(opened(tmp_path, max_bad=0.29).skipped) == 29  # 0.29 * 100 < 29 in floats.


def test_no_readable_picture_is_an_error_whatever_is_allowed(tmp_path):
    (tmp_path / "x.png").touch()
    with pytest.raises(TargetError, match="None of 1 picture can be read"):
        opened(tmp_path, max_bad=1.0)


def test_a_folder_without_pictures_says_what_is_in_it(tmp_path):
    (tmp_path / "a.txt").touch()
    (tmp_path / "c.txt").touch()
    (tmp_path / "b.heic").touch()
    with pytest.raises(TargetError, match=r"no picture .* 2 .txt, 1 .heic") as caught:
        opened(tmp_path)
    assert ".png" in caught.value.hint


@pytest.mark.parametrize("name", ["missing", "picture.png"])
def test_a_target_that_is_no_folder_is_an_error(tmp_path, name):
    picture(tmp_path / "picture.png")
    with pytest.raises(TargetError) as caught:
        opened(tmp_path / name)
    assert caught.value.where == str(tmp_path / name)
    assert caught.value.hint


def test_other_files_are_counted_and_hidden_ones_are_not(folder):
    for name in ("notes.txt", "Thumbs.db", "sub/x.json", ".DS_Store", ".hidden/x.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "0.png").touch()
    target = opened(folder)
    assert target.other_files == 3
    assert len(target.pictures) == 10
    assert target.skipped == ()


def test_conversions_and_sizes_are_told(folder):
    picture(folder / "k.jpg", 1, (30, 40), "CMYK")
    picture(folder / "l.png", 1, (9, 8), "L")
    target = opened(folder)
    assert target.conversions == {"CMYK to gray": 1, "RGB to gray": 10}
    assert (min(target.sizes), max(target.sizes)) == ((9, 8), (30, 40))


def test_a_draw_is_repeatable_sorted_and_without_repetition(folder):
    first = opened(folder, max_images=6, seed=3)
    assert first.subsample == {"drawn": 6, "of": 10, "seed": 3}
    assert len(set(first.pictures)) == 6
    assert list(first.pictures) == sorted(first.pictures)
    assert_same(first, opened(folder, max_images=6, seed=3))
    others = {opened(folder, max_images=6, seed=seed).pictures for seed in range(8)}
    assert len(others) > 4


def test_a_draw_is_the_same_on_every_platform(folder):
    # random.Random(0) gives .84 .76 .42 .26 .51 .40 .78 .30 .48 .58: the least are 3, 7 and 5.
    assert opened(folder, max_images=3).pictures == ("3.png", "5.png", "7.png")


def test_a_larger_draw_holds_the_smaller(folder):
    drawn = [set(opened(folder, max_images=n).pictures) for n in (2, 5, 9)]
    assert drawn[0] < drawn[1] < drawn[2]


@pytest.mark.parametrize("n", [10, 11])
def test_a_draw_of_all_is_no_draw(folder, n):
    assert opened(folder, max_images=n).subsample is None


def test_broken_pictures_among_the_drawn_are_named(folder):
    for index in range(5):
        (folder / f"{index}.png").write_bytes(b"")
    target = opened(folder, max_images=8, max_bad=5)
    assert len(target.pictures) + len(target.skipped) == 8
    assert target.subsample == {"drawn": 8, "of": 10, "seed": 0}


def test_progress_is_told_after_each_picture_in_order(folder):
    told = []
    open_target(TargetRequest(folder, GRAY, workers=3), lambda *count: told.append(count))
    assert told == [(done, 10) for done in range(1, 11)]


@pytest.mark.parametrize(
    "options",
    [{"batch_size": 0}, {"workers": -1}, {"max_images": 0}, {"max_bad": -1}, {"max_bad": 1.5}],
)
def test_a_request_without_sense_is_refused(folder, options):
    with pytest.raises(UsageError):
        opened(folder, **options)


def test_warnings_of_pillow_stay_inside(folder):
    palette = Image.new("P", (8, 8), 1)
    palette.save(folder / "p.png", transparency=bytes([255, 0]))
    exif = b"II*\x00\x08\x00\x00\x00\x05\x00\x0f\x01\x02\x00\xff\xff\x00\x00\xff\xff"
    Image.new("RGB", (8, 8)).save(folder / "e.jpg", exif=b"Exif\x00\x00" + exif)
    Image.new("1", (12000, 8000)).save(folder / "large.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filters = list(warnings.filters)
        assert opened(folder).skipped == ()
        assert warnings.filters == filters


def test_an_interrupt_comes_through_at_once(folder, monkeypatch):
    def slow(*_args: object) -> None:
        time.sleep(0.5)

    for index in range(200):
        (folder / f"slow{index}.png").touch()
    monkeypatch.setattr("adabn_cli.data.open.decode", slow)
    timer = threading.Timer(0.1, _thread.interrupt_main)
    started = time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        opened(folder, workers=2)
    assert time.monotonic() - started < 1.6  # Those in flight would take 2 seconds, all of them 50.
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_hostile_names_are_read_and_told_as_valid_text(tmp_path):
    names = ["a\nb.png", "é ü 日本.png", "x" * 246 + ".png", "-rf.png", "<b>&.png", " .png"]
    for name in names:
        picture(tmp_path / name)
    target = opened(tmp_path)
    assert target.pictures == tuple(sorted(names))


def test_a_name_that_is_no_utf8_is_escaped(tmp_path):
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).write_bytes(
            picture(tmp_path / "a.png").read_bytes()
        )
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    target = opened(tmp_path)
    assert target.pictures == ("\\xff.png", "a.png")


def test_a_folder_named_like_a_picture_is_a_folder(tmp_path):
    picture(tmp_path / "x.png" / "y.png")
    target = opened(tmp_path)
    assert target.pictures == ("x.png/y.png",)
    assert target.skipped == ()


def test_links_are_followed_but_not_in_circles(tmp_path):
    picture(tmp_path / "elsewhere" / "a.png")
    picture(tmp_path / "root" / "b.png")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "back").symlink_to(tmp_path / "root")
    (tmp_path / "root" / "c.png").symlink_to("b.png")
    assert opened(tmp_path / "root").pictures == ("b.png", "c.png", "link/a.png")


def test_links_to_nothing_and_pipes_are_named_and_never_wait(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "gone.png").symlink_to("nothing.png")
    (tmp_path / "round.png").symlink_to("round.png")
    os.mkfifo(tmp_path / "pipe.png")
    target = opened(tmp_path, max_bad=3)
    assert {lost.path: lost.reason for lost in target.skipped} == {
        "gone.png": "no such file or directory",
        "pipe.png": "neither a file nor a folder",
        "round.png": "too many levels of symbolic links",
    }


def test_a_folder_that_cannot_be_listed_is_named(folder, monkeypatch):
    (folder / "closed").mkdir()
    scandir = os.scandir

    def guarded(path: Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("os.scandir", guarded)
    target = opened(folder, max_bad=1)
    assert [(lost.path, lost.reason) for lost in target.skipped] == [
        ("closed/", "folder: permission denied")
    ]


def test_real_digits_are_decoded_once_in_seconds_and_equal_on_every_pass(shared_data):
    digits = shared_data / "digits" / "optdigits_1797"
    preprocessing = Preprocessing((16, 16), (0.2471,), (0.2994,))
    opened(digits, preprocessing, max_images=2)
    started = time.process_time()
    target = opened(digits, preprocessing, workers=4, batch_size=200)
    assert time.process_time() - started < 6  # About 1.5 where nothing else runs.
    assert (len(target.pictures), target.skipped, target.conversions) == (1797, (), {})
    assert set(target.sizes) == {(8, 8)}
    assert_same(target, target)
    assert_same(target, opened(digits, preprocessing, workers=1, batch_size=200))


def test_real_digits_are_what_torchvision_makes_of_them(shared_data):
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    digits = shared_data / "digits" / "mnist_1000"
    steps = transforms.Compose([
        transforms.Grayscale(), transforms.Resize(18), transforms.CenterCrop(16),
        transforms.PILToTensor(),
    ])  # fmt: skip
    theirs = torch.stack([image for image, _ in ImageFolder(str(digits), steps)])
    target = opened(digits, Preprocessing((16, 16), (0.2471,), (0.2994,), 0.875))
    ours = target.pixels_NHWC.permute(0, 3, 1, 2)
    assert (ours.int() - theirs.int()).abs().max() <= 1
