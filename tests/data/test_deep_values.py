"""More than 8 bits: what a value range makes of them, and what is told without one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adabn_cli.data.decoding import Decoded, decode
from adabn_cli.data.open import open_target
from adabn_cli.data.target import TargetRequest
from adabn_cli.errors import TargetError
from adabn_cli.preprocessing import Preprocessing

GRAY = Preprocessing((8, 8), (0.5,), (0.5,))
RGB = Preprocessing((8, 8), (0.5,) * 3, (0.5,) * 3)
RAMP = np.arange(64).reshape(8, 8) * 65  # 0 to 4095: 12 bits.
SHARES = np.rint(RAMP / 4095 * 255)


def levels(file: Path, value_range: tuple[float, float] | None, preprocessing=GRAY) -> np.ndarray:
    result = decode(lambda: file.open("rb"), preprocessing, value_range)
    assert isinstance(result, Decoded), result
    return result.pixels_HWC[..., 0] if preprocessing is GRAY else result.pixels_HWC


def reason(file: Path, value_range: tuple[float, float] | None = None) -> str:
    return decode(lambda: file.open("rb"), GRAY, value_range).reason


def dicom(file: Path, values: np.ndarray, **more: object) -> Path:
    pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    gray = values.ndim == 2
    fields = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "PhotometricInterpretation": "MONOCHROME2" if gray else "RGB",
        "SamplesPerPixel": 1 if gray else 3,
        "Rows": values.shape[0],
        "Columns": values.shape[1],
        "BitsAllocated": 8 * values.itemsize,
        "BitsStored": 8 * values.itemsize,
        "HighBit": 8 * values.itemsize - 1,
        "PixelRepresentation": int(values.dtype.kind == "i"),
        **({} if gray else {"PlanarConfiguration": 0}),
    }
    for name, value in {**fields, **more}.items():
        setattr(data, name, value)
    data.PixelData = values.tobytes()
    data.save_as(file, enforce_file_format=True)
    return file


@pytest.mark.parametrize(("suffix", "dtype"), [("png", "<u2"), ("tif", "<u2"), ("tif", ">u2")])
def test_a_range_says_what_is_black_and_white(tmp_path, suffix, dtype):
    file = tmp_path / f"x.{suffix}"
    Image.fromarray(RAMP.astype(dtype)).save(file)
    np.testing.assert_array_equal(levels(file, (0, 4095)), SHARES)
    cut = np.rint(((RAMP - 1000) / 2000).clip(0, 1) * 255)
    np.testing.assert_array_equal(levels(file, (1000, 3000)), cut)
    assert (levels(file, (0, 4095), RGB) == SHARES[..., None]).all()


def test_without_a_range_the_one_that_was_found_is_told(tmp_path):
    for name in ("a.png", "b.tif"):
        Image.fromarray(RAMP.astype(np.uint16)).save(tmp_path / name)
        assert "values from 0 to 4095" in reason(tmp_path / name)
        assert "--value-range LOW,HIGH" in reason(tmp_path / name)
    with pytest.raises(TargetError, match=r"None of 2 .*values from 0 to 4095"):
        open_target(TargetRequest(tmp_path, GRAY))
    target = open_target(TargetRequest(tmp_path, GRAY, value_range=(0, 4095)))
    assert target.conversions == {"0 to 4095 as 8-bit": 2}


def test_floats_and_32_bits_take_a_range_too(tmp_path):
    for dtype in (np.float32, np.int32):
        file = tmp_path / "x.tif"
        Image.fromarray((RAMP - 1024).astype(dtype)).save(file)
        assert "values from -1024 to 3071" in reason(file)
        np.testing.assert_array_equal(levels(file, (-1024, 3071)), SHARES)
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(file)
    assert "NaN" in reason(file, (0, 1))


@pytest.mark.parametrize("planar", [False, True])
def test_16_bit_colour_tiff_is_read(tmp_path, planar):
    tifffile = pytest.importorskip("tifffile")
    file, values_HWC = tmp_path / "x.tif", np.stack([RAMP, RAMP[::-1], RAMP.T], -1)
    values = values_HWC.transpose(2, 0, 1) if planar else values_HWC
    how = "separate" if planar else "contig"
    tifffile.imwrite(file, values.astype(np.uint16), photometric="rgb", planarconfig=how)
    wanted = np.rint(values_HWC / 4095 * 255)
    np.testing.assert_array_equal(levels(file, (0, 4095), RGB), wanted)
    assert "values from 0 to 4095" in reason(file)


def test_dicom_is_rescaled_and_inverted(tmp_path):
    stored = RAMP.astype(np.uint16)
    file = dicom(tmp_path / "x.dcm", stored)
    assert "values from 0 to 4095" in reason(file)
    np.testing.assert_array_equal(levels(file, (0, 4095)), SHARES)
    file = dicom(tmp_path / "x.dcm", stored, RescaleSlope=2, RescaleIntercept=-1024)
    assert "values from -1024 to 7166" in reason(file)
    np.testing.assert_array_equal(levels(file, (-1024, 7166)), SHARES)
    file = dicom(tmp_path / "x.dcm", stored, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(levels(file, (0, 4095)), 255 - SHARES)


def test_dicom_in_colour_needs_no_range(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(levels(dicom(tmp_path / "x.dcm", values), None, RGB), values)


def test_a_dicom_file_that_is_cut_off_or_without_pydicom_is_named(tmp_path, monkeypatch):
    file = dicom(tmp_path / "x.dcm", RAMP.astype(np.uint16))
    whole = file.read_bytes()
    for size in (132, 200, 400, len(whole) - 10):
        file.write_bytes(whole[:size])
        assert reason(file, (0, 4095))
    file.write_bytes(whole)
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    assert 'pip install "adabn[dicom]"' in reason(file, (0, 4095))


def test_pictures_of_8_bits_are_the_same_with_a_range(tmp_path):
    Image.fromarray(SHARES.astype(np.uint8)).save(tmp_path / "x.png")
    np.testing.assert_array_equal(levels(tmp_path / "x.png", (0, 4095)), SHARES)
