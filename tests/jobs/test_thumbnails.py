"""Thumbnails: small, upright, and of pictures below the target alone."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from adabn_cli.jobs.results.thumbnails import thumbnails
from adabn_cli.record import BrokenPicturePart, Record


@pytest.fixture
def record(project: Path, tmp_path: Path) -> Record:
    text = (project / "tests/records/schema_1.json").read_text(encoding="utf-8")
    found = Record.model_validate_json(text)
    (tmp_path / "target").mkdir()
    target = found.target.model_copy(update={"path": str(tmp_path / "target")})
    return found.model_copy(update={"target": target})


def _breaking(record, *paths):
    parts = [
        BrokenPicturePart(
            path=str(path), label="a", predicted="b", confidence_before=0.9, confidence_after=0.8
        )
        for path in paths
    ]
    return record.model_copy(update={"broken": tuple(parts)})


@pytest.mark.parametrize(
    ("mode", "name"),
    [("L", "a.png"), ("RGB", "a.jpg"), ("CMYK", "a.jpg"), ("P", "a.png"), ("I;16", "a.png")],
)
def test_pictures_of_any_kind_become_small_ones(record, mode, name):
    folder = Path(record.target.path)
    Image.new(mode, (400, 200)).save(folder / name)
    (picture,) = thumbnails(_breaking(record, name)).values()
    with Image.open(io.BytesIO(picture)) as small:
        assert small.size == (96, 48)
    assert len(picture) < 30_000


def test_small_pictures_keep_their_size_and_turned_ones_are_turned(record):
    folder = Path(record.target.path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(folder / "turned.jpg", exif=exif)
    (picture,) = thumbnails(_breaking(record, "turned.jpg")).values()
    with Image.open(io.BytesIO(picture)) as small:
        assert small.size == (20, 40)


def test_what_cannot_be_read_or_lies_elsewhere_is_left_out(record):
    folder = Path(record.target.path)
    outside = folder.parent / "outside.png"
    Image.new("L", (8, 8)).save(outside)
    Image.new("L", (8, 8)).save(folder / "in.png")
    (folder / "no.png").write_text("no picture")
    changed = _breaking(record, "in.png", "no.png", "gone.png", "../outside.png", outside)
    assert set(thumbnails(changed)) == {"in.png"}


def test_a_record_without_a_folder_or_broken_pictures_has_none(record):
    assert thumbnails(record) == {}
    target = record.target.model_copy(update={"path": None})
    live = _breaking(record, "in.png").model_copy(update={"target": target})
    assert thumbnails(live) == {}
