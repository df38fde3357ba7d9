"""Draws that grow: the target that each alone would be, and every picture decoded once."""

from __future__ import annotations

import tarfile
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adabn_cli.data import open as folder_module
from adabn_cli.data.open import Draws, open_target
from adabn_cli.data.store import Keeping
from adabn_cli.data.target import Target, TargetRequest
from adabn_cli.errors import TargetError
from adabn_cli.preprocessing import Preprocessing

GRAY = Preprocessing((8, 8), (0.4,), (0.3,))
BYTES = 8 * 8
DRAWS = (4, 9, None)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twenty pictures, colored, gray and large, and two that cannot be read."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(20):
        shape = [(8, 8), (8, 8, 3), (16, 24)][index % 3]
        file = folder / f"{index * 7 % 20:02}.png"
        Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(file)
    for name in ("05.png", "11.png"):
        (folder / name).write_bytes(b"not a picture")
    return folder


def in_tar(folder: Path) -> Path:
    """Its pictures in one file, in another order than that of their names."""
    file = folder.with_suffix(".tar")
    with tarfile.open(file, "w") as shard:
        for picture in sorted(folder.iterdir(), reverse=True):
            shard.add(picture, picture.name)
    return file


def in_list(folder: Path) -> Path:
    file = folder.with_suffix(".txt")
    file.write_text("".join(f"{picture}\n" for picture in sorted(folder.iterdir())))
    return file


def in_video(folder: Path) -> Path:
    av = pytest.importorskip("av")
    file = folder.with_suffix(".mkv")
    with av.open(str(file), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for index in range(20):
            pixels = np.full((32, 48, 3), 12 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return file


def require_same(one: Target, other: Target) -> None:
    for field in fields(Target):
        if field.name not in ("pixels_NHWC", "listing"):
            assert getattr(one, field.name) == getattr(other, field.name), field.name
    assert torch.equal(one.pixels_NHWC[:], other.pixels_NHWC[:])
    assert all(map(torch.equal, one.batches(), other.batches()))


@pytest.mark.parametrize("fit", [100, 6, 0], ids=["in memory", "later on disk", "on disk"])
@pytest.mark.parametrize("kept_as", [Path, in_tar, in_list, in_video])
def test_each_draw_is_the_target_that_it_would_be_alone(monkeypatch, pictures, kept_as, fit):
    decoded: list[object] = []
    decode = folder_module.decode
    monkeypatch.setattr(
        folder_module, "decode", lambda *asked: decoded.append(asked) or decode(*asked)
    )
    keeping = Keeping(fit * BYTES, pictures.parent)
    request = TargetRequest(kept_as(pictures), GRAY, 4, max_bad=0.9, seed=1, keeping=keeping)
    with closing(Draws(request)) as draws:
        targets = [draws.target(most) for most in DRAWS]
    assert len(decoded) == 20
    for most, target in zip(DRAWS, targets, strict=True):
        require_same(target, open_target(target.request))
        assert target.request.max_images == most
    assert len(targets[-1].pictures) == (20 if kept_as is in_video else 18)


def test_too_many_that_cannot_be_read_are_told_by_the_draw_that_has_them(pictures):
    request = TargetRequest(pictures, GRAY, max_bad=1)
    with closing(Draws(request)) as draws:
        assert len(draws.target(2).pictures) == 2
        with pytest.raises(TargetError, match="2 of 20 pictures cannot be read"):
            draws.target(None)
