"""Every kind of picture file: what it becomes, or why it cannot be read."""

from __future__ import annotations

import io
import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adabn_cli.data.decoding import Decoded, Unreadable, convert, decode
from adabn_cli.data.picture_formats import DICOM_SUFFIXES, picture_suffixes
from adabn_cli.preprocessing import Preprocessing

GRAY = Preprocessing((8, 8), (0.5,), (0.5,))
RGB = Preprocessing((8, 8), (0.5,) * 3, (0.5,) * 3)

# Pillow warns of some of these files; the decoding of a whole folder keeps that in.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


def decoded(file: Path, preprocessing: Preprocessing = RGB) -> Decoded:
    result = decode(lambda: file.open("rb"), preprocessing)
    assert isinstance(result, Decoded), result
    return result


def reason(file: Path, preprocessing: Preprocessing = RGB) -> str:
    result = decode(lambda: file.open("rb"), preprocessing)
    assert isinstance(result, Unreadable)
    assert "\n" not in result.reason
    return result.reason


def save(file: Path, picture: Image.Image, **options: object) -> Path:
    picture.save(file, **options)
    return file


def ramp(height: int = 8, width: int = 8) -> np.ndarray:
    return np.arange(height * width).reshape(height, width)


@pytest.mark.parametrize("suffix", sorted(picture_suffixes() - DICOM_SUFFIXES))
def test_every_suffix_can_be_read(tmp_path, suffix):
    options = {"lossless": True} if suffix == ".webp" else {}
    mode = {".pbm": "1", ".pgm": "L"}.get(suffix, "RGB")
    file = save(
        tmp_path / f"x{suffix}", Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode), **options
    )
    assert decoded(file).pixels_HWC.min() >= 250


@pytest.mark.parametrize(
    ("mode", "colour", "steps", "rgb"),
    [
        ("1", 1, ("1-bit to RGB",), (255, 255, 255)),
        ("L", 100, ("gray to RGB",), (100, 100, 100)),
        ("LA", (100, 0), ("alpha dropped", "gray to RGB"), (100, 100, 100)),
        ("RGBA", (9, 8, 7, 0), ("alpha dropped",), (9, 8, 7)),
        ("P", 5, ("palette to RGB",), None),
    ],
)
def test_each_png_mode_becomes_rgb(tmp_path, mode, colour, steps, rgb):
    picture = Image.new(mode, (8, 8), colour)
    if mode == "P":
        picture.putpalette([level for index in range(256) for level in (index, 2 * index % 256, 3)])
        rgb = (5, 10, 3)
    result = decoded(save(tmp_path / "x.png", picture))
    assert result.conversions == steps
    assert tuple(result.pixels_HWC[4, 4]) == rgb


def test_an_rgb_picture_needs_no_conversion_for_rgb_and_one_for_gray(tmp_path):
    file = save(tmp_path / "x.png", Image.new("RGB", (8, 8), (255, 0, 0)))
    assert decoded(file).conversions == ()
    assert decoded(file, GRAY).conversions == ("RGB to gray",)
    assert decoded(file, GRAY).pixels_HWC[0, 0, 0] == 76  # ITU-R 601: 0.299 of 255.


def test_a_palette_with_transparency_drops_it(tmp_path):
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([0, 0, 0, 50, 60, 70])
    for transparency in (1, bytes([255, 0])):
        file = save(tmp_path / "x.png", picture, transparency=transparency)
        result = decoded(file)
        assert result.conversions == ("alpha dropped", "palette to RGB")
        assert tuple(result.pixels_HWC[0, 0]) == (50, 60, 70)
        assert decoded(file, GRAY).conversions == ("alpha dropped", "palette to gray")


@pytest.mark.parametrize("mode", ["La", "PA", "RGBa", "YCbCr", "HSV", "RGBX", "LAB"])
@pytest.mark.parametrize(("channels", "wanted"), [(1, "L"), (3, "RGB")])
def test_modes_that_few_files_have_are_converted_too(mode, channels, wanted):
    plain, _ = convert(Image.new(mode, (4, 4)), channels)
    assert plain.mode == wanted


def test_a_lab_tiff_becomes_its_colour(tmp_path):
    # Pillow keeps a and b with 128 for their zero: this is white.
    lab = Image.merge("LAB", [Image.new("L", (8, 8), level) for level in (255, 128, 128)])
    result = decoded(save(tmp_path / "x.tif", lab))
    assert result.conversions == ("LAB to RGB",)
    assert result.pixels_HWC.min() >= 253


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_becomes_its_colour_also_where_adobe_inverts_it(tmp_path, suffix):
    ink = Image.new("CMYK", (8, 8), (255, 0, 0, 0))  # Full cyan, nothing else.
    result = decoded(save(tmp_path / f"x.{suffix}", ink))
    assert result.conversions == ("CMYK to RGB",)
    assert np.abs(result.pixels_HWC[4, 4].astype(int) - (0, 255, 255)).max() <= 3
    if suffix == "jpg":
        assert b"Adobe" in (tmp_path / "x.jpg").read_bytes()


def test_floats_are_read_where_they_are_shares(tmp_path):
    result = decoded(save(tmp_path / "x.tif", Image.fromarray((ramp() / 63).astype(np.float32))))
    assert result.conversions == ("float to 8-bit", "gray to RGB")
    np.testing.assert_array_equal(result.pixels_HWC[:, :, 0], np.rint(ramp() / 63 * 255))
    for wrong, text in ((ramp(), "from 0 to 63"), (np.full((8, 8), np.nan), "nan")):
        file = save(tmp_path / "y.tif", Image.fromarray(wrong.astype(np.float32)))
        assert text in reason(file)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_a_rotated_picture_is_turned_upright(tmp_path, suffix):
    half = np.zeros((16, 32, 3), np.uint8)
    half[:, 16:] = 255  # The right half is white; turned by 90 degrees clockwise it is below.
    exif = Image.Exif()
    exif[0x0112] = 6
    file = save(tmp_path / f"x.{suffix}", Image.fromarray(half), exif=exif)
    result = decoded(file)
    assert result.conversions == ("EXIF rotation",)
    assert result.size == (32, 16)
    assert result.pixels_HWC[0].mean() < 30
    assert result.pixels_HWC[7].mean() > 220


def test_an_upright_picture_with_exif_is_left_alone(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 1
    file = save(tmp_path / "x.jpg", Image.new("RGB", (8, 8)), exif=exif)
    assert decoded(file).conversions == ()


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_of_an_animation_the_first_frame_is_read(tmp_path, suffix):
    first, second = Image.new("RGB", (8, 8), (250, 0, 0)), Image.new("RGB", (8, 8), (0, 250, 0))
    options = {} if suffix in ("png", "tif", "gif") else {"lossless": True}
    file = save(tmp_path / f"x.{suffix}", first, save_all=True, append_images=[second], **options)
    result = decoded(file)
    assert "first frame of several" in result.conversions
    assert tuple(result.pixels_HWC[4, 4]) == (250, 0, 0)


def test_the_suffix_need_not_be_that_of_the_format(tmp_path):
    assert decoded(save(tmp_path / "x.jpg", Image.new("RGB", (8, 8)), format="PNG"))


def test_an_empty_file_is_named_as_such(tmp_path):
    (tmp_path / "x.png").touch()
    assert reason(tmp_path / "x.png") == "empty file"


def test_text_named_jpg_is_no_picture(tmp_path):
    (tmp_path / "x.jpg").write_text("404 not found\n")
    assert reason(tmp_path / "x.jpg") == "not a picture in a known format"


def test_postscript_is_never_handed_to_an_interpreter(tmp_path):
    file = save(tmp_path / "x.png", Image.new("RGB", (8, 8)), format="EPS")
    assert reason(file) == "not a picture in a known format"


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "tif", "webp", "jp2", "ppm"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_never_passes_for_a_picture(tmp_path, suffix, share):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    file = save(tmp_path / f"x.{suffix}", Image.fromarray(pixels))
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    assert reason(file)


@pytest.mark.parametrize(
    "suffix", ["jpg", "png", "gif", "bmp", "tif", "webp", "ppm", "avif", "jp2"]
)
def test_corrupt_bytes_never_raise(tmp_path, suffix):
    if f".{suffix}" not in picture_suffixes():
        pytest.skip("this Pillow cannot write it")
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(
        stream, format={"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}.get(suffix, suffix)
    )
    generator = np.random.default_rng(1)
    for _ in range(40):
        data = bytearray(stream.getvalue())
        for position in generator.integers(0, len(data), 8):
            data[position] = generator.integers(0, 256)
        (tmp_path / "x.jpg").write_bytes(data)
        assert isinstance(decode((tmp_path / "x.jpg").open, RGB), Decoded | Unreadable)


def test_a_decompression_bomb_is_not_decoded(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    (tmp_path / "x.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    )
    assert "3600 million pixels, more than --max-pixels allows" in reason(tmp_path / "x.png")


def test_a_sliver_that_would_grow_beyond_memory_is_named(tmp_path):
    file = save(tmp_path / "x.png", Image.new("L", (1, 30000)))
    large = Preprocessing((224, 224), (0.5,), (0.5,))
    assert "too narrow" in reason(file, large)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_file_without_permission_is_named(tmp_path):
    file = save(tmp_path / "x.png", Image.new("L", (8, 8)))
    file.chmod(0)
    assert reason(file) == "permission denied"


def test_an_error_of_the_system_is_told_in_its_words(tmp_path, monkeypatch):
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise PermissionError(13, "Permission denied", "/secret\nname.png")

    monkeypatch.setattr(Path, "open", refuse)
    assert reason(tmp_path / "x.png") == "permission denied"


def test_a_bug_in_our_own_framing_is_not_taken_for_a_bad_picture(tmp_path, monkeypatch):
    def broken(*_args: object) -> None:
        raise TypeError("a bug")

    monkeypatch.setattr("adabn_cli.data.decoding.frame", broken)
    file = save(tmp_path / "x.png", Image.new("L", (8, 8)))
    with pytest.raises(TypeError, match="a bug"):
        decode(lambda: file.open("rb"), RGB)


def photograph(width: int, height: int) -> Image.Image:
    """Smooth shapes and fine grain, as a camera's picture has both."""
    noise = np.random.default_rng(0)
    coarse = Image.fromarray(noise.integers(0, 256, (height // 50, width // 50, 3), np.uint8))
    grain = noise.integers(-4, 5, (height, width, 1))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("orientation", [1, 6])
def test_fast_decoding_takes_fewer_pixels_of_a_large_jpeg_and_comes_close(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = save(tmp_path / "x.jpg", photograph(1600, 1204), quality=92, exif=exif)
    plainly = Preprocessing((96, 96), (0.5,) * 3, (0.5,) * 3, 0.875)
    whole, fast = decoded(file, plainly), decoded(file, replace(plainly, fast_decode=True))
    assert fast.size == whole.size == ((1204, 1600) if orientation == 1 else (1600, 1204))
    assert "JPEG decoded at 1/4" in fast.conversions
    assert set(whole.conversions) < set(fast.conversions)
    off = np.abs(whole.pixels_HWC.astype(int) - fast.pixels_HWC)
    assert 0 < off.max() <= 4
    assert off.mean() < 0.5


def test_fast_decoding_leaves_all_else_as_it_is(tmp_path):
    fast = replace(RGB, size=(96, 96), fast_decode=True)
    for name, width in (("small.jpg", 300), ("odd.jpg", 1603), ("large.png", 1600)):
        file = save(tmp_path / name, photograph(width, width))
        whole, quick = decoded(file, replace(fast, fast_decode=False)), decoded(file, fast)
        assert np.array_equal(whole.pixels_HWC, quick.pixels_HWC)
        assert (whole.size, whole.conversions) == (quick.size, quick.conversions)
