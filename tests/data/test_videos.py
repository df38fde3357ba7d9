"""Videos as pictures: which frames, what they are called, and the same bits every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adabn_cli.data.open import open_target
from adabn_cli.data.target import Target, TargetRequest
from adabn_cli.errors import TargetError, UsageError
from adabn_cli.preprocessing import Preprocessing

av = pytest.importorskip("av")
GRAY = Preprocessing((16, 16), (0.4,), (0.3,))


def video(file: Path, frames: int = 12, codec: str = "ffv1") -> Path:
    """A video whose n-th frame is of level 20 n, modulo 256."""
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height = 48, 32
        stream.pix_fmt = "yuv420p"
        for index in range(frames):
            pixels = np.full((32, 48, 3), 20 * index % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return file


def opened(location: object, **options: object) -> Target:
    return open_target(TargetRequest(location, GRAY, **options))


def levels(target: Target) -> list[int]:
    pixels_NHWC = target.pixels_NHWC[:].float()
    return [round(level) for level in pixels_NHWC.mean((1, 2, 3)).tolist()]


@pytest.mark.parametrize(
    ("name", "codec"), [("x.mkv", "ffv1"), ("x.mp4", "mpeg4"), ("x.avi", "mpeg4")]
)
def test_frames_are_called_by_their_number_and_come_in_order(tmp_path, name, codec):
    target = opened(video(tmp_path / name, codec=codec))
    assert target.kind == "video"
    assert target.pictures == tuple(f"{name}#{index:06}" for index in range(12))
    np.testing.assert_allclose(levels(target), [20 * index for index in range(12)], atol=4)
    assert set(target.sizes) == {(32, 48)}


@pytest.mark.parametrize("stride", [1, 5, 100])
def test_a_stride_takes_frames_by_number(tmp_path, stride):
    file = video(tmp_path / "x.mkv")
    target = opened(file, stride=stride)
    assert target.pictures == tuple(f"x.mkv#{index:06}" for index in range(0, 12, stride))
    assert levels(target) == levels(opened(file))[::stride]


def test_workers_draws_and_passes_do_not_change_a_frame(tmp_path):
    file = video(tmp_path / "x.mp4", codec="mpeg4")
    first = opened(file, workers=1)
    for workers in (1, 2, 4):
        assert opened(file, workers=workers).fingerprint == first.fingerprint
    drawn = opened(file, max_images=4)
    rows = [int(name[-6:]) for name in drawn.pictures]
    assert (drawn.pixels_NHWC[:] == first.pixels_NHWC[:][rows]).all()


def test_a_folder_holds_videos_and_pictures_both(tmp_path):
    for name in ("z/b.mkv", "z/a.mkv"):
        (tmp_path / "z").mkdir(exist_ok=True)
        video(tmp_path / name, 3)
    Image.new("L", (48, 32), 255).save(tmp_path / "z" / "b.png")
    target = opened(tmp_path)
    assert target.kind == "folder with 2 videos"
    frames = [f"z/{name}.mkv#{index:06}" for name in "ab" for index in range(3)]
    assert target.pictures == (*frames, "z/b.png")
    assert levels(target) == pytest.approx([0, 20, 40, 0, 20, 40, 255], abs=2)
    assert opened(f"{tmp_path}/*/*").kind == "pattern with 2 videos"
    (tmp_path / "x.txt").write_text("z/b.png\nz/a.mkv\n")
    assert opened(tmp_path / "x.txt").pictures == (*frames[:3], "z/b.png")


def test_a_video_that_is_cut_off_loses_the_frames_behind(tmp_path):
    file = video(tmp_path / "x.mkv", 40)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    target = opened(file, max_bad=40)
    assert 5 < len(target.pictures) < 40


def test_what_is_no_video_is_named(tmp_path):
    (tmp_path / "x.mp4").write_text("no video")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(TargetError, match=r"None of 2 .*empty.mp4: no readable video") as caught:
        opened(tmp_path)
    assert "x.mp4: no readable video: invalid data found" in caught.value.what


def test_without_pyav_a_video_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    (tmp_path / "x.mp4").touch()
    Image.new("L", (48, 32)).save(tmp_path / "a.png")
    target = opened(tmp_path, max_bad=1)
    assert target.pictures == ("a.png",)
    assert "adabn[video]" in target.skipped[0].reason


def test_a_stride_below_one_is_refused(tmp_path):
    with pytest.raises(UsageError, match="stride"):
        opened(tmp_path, stride=0)
