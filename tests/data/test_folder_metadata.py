"""Folders with Hugging Face's imagefolder metadata: where labels come from."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from adabn_cli.data.open import open_target
from adabn_cli.data.target import Target, TargetRequest
from adabn_cli.data.truth.labels import LabelRequest, read_labels
from adabn_cli.errors import TargetError
from adabn_cli.preprocessing import Preprocessing

CSV = "file_name,label\na.png,1\nsub/b.png,0\n"
JSONL = '{"file_name": "a.png", "label": 1}\n\n{"file_name": "sub/b.png", "label": 0}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "sub/b.png", "c.png"):
        Image.new("L", (8, 8), 7).save(tmp_path / name)
    return tmp_path


def opened(location: Path, **options: object) -> Target:
    return open_target(TargetRequest(location, Preprocessing((8, 8), (0.4,), (0.3,)), **options))


def labels(target: Target) -> tuple[list[int], str | None]:
    request = LabelRequest(target.path, n_outputs=2, listing=target.listing)
    read = read_labels(target.pictures, request)
    return list(read.indices_N), read.origin


@pytest.mark.parametrize(("name", "text"), [("metadata.csv", CSV), ("metadata.jsonl", JSONL)])
def test_labels_are_those_of_the_metadata(folder, name, text):
    (folder / name).write_text(text)
    target = opened(folder)
    assert target.kind == f"folder with {name}"
    assert target.pictures == ("a.png", "c.png", "sub/b.png")
    assert labels(target) == ([1, -1, 0], f"labels in {name} as class indices")
    assert target.fingerprint == opened(folder, kind="folder").fingerprint


def test_metadata_may_lie_in_the_folders_below(folder):
    (folder / "sub" / "metadata.csv").write_text("file_name,label\nb.png,1\n")
    assert labels(opened(folder))[0] == [-1, -1, 1]


def test_the_format_folder_ignores_the_metadata(folder):
    (folder / "metadata.csv").write_text(CSV)
    target = opened(folder, kind="folder")
    assert (target.kind, labels(target)[1]) == ("folder", None)


def test_metadata_of_another_kind_is_another_file(folder):
    (folder / "metadata.csv").write_text("camera,place\n1,here\n")
    target = opened(folder)
    assert (target.kind, target.other_files) == ("folder", 1)


def test_metadata_without_labels_leaves_folder_names(folder):
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a cat"}\n')
    assert labels(opened(folder))[1] is None


def test_a_picture_that_is_not_there_is_named_with_its_line(folder):
    (folder / "metadata.csv").write_text(CSV + "gone.png,1\n")
    assert [(lost.path, lost.reason) for lost in opened(folder, max_bad=1).skipped] == [
        ("gone.png", "no such file or directory (metadata.csv, line 4)")
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metadata.csv", CSV + "a.png\n", "line 4: 1 fields"),
        ("metadata.csv", CSV + "./a.png,0\n", "line 4: a.png has a row further up"),
        ("metadata.jsonl", JSONL + "{\n", "line 4: "),
        ("metadata.jsonl", JSONL + "{}\n", "line 4: no text called file_name"),
    ],
)
def test_metadata_that_cannot_be_used_says_where(folder, name, text, message):
    (folder / name).write_text(text)
    with pytest.raises(TargetError, match=message) as caught:
        opened(folder)
    assert caught.value.where == str(folder / name)


def test_the_format_asked_for_has_to_be_there(folder):
    with pytest.raises(TargetError, match=r"There is no metadata.csv or metadata.jsonl"):
        opened(folder, kind="imagefolder")
