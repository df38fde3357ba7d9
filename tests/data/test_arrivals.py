"""Files count once they are whole, and again once they have changed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from adabn_cli.data.arrivals import Arrivals
from adabn_cli.data.folder_files import PictureFile, SkippedPicture
from adabn_cli.errors import TargetError


def names(arrivals: Arrivals) -> list[str]:
    found = arrivals.look()
    assert all(isinstance(one, PictureFile) for one in found)
    return [one.name for one in found if isinstance(one, PictureFile)]


def write(file: Path, content: bytes, changed: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    os.utime(file, ns=(changed, changed))


def test_a_file_counts_once_it_was_the_same_in_two_looks(tmp_path: Path) -> None:
    write(tmp_path / "b.png", b"1")
    write(tmp_path / "a" / "c.jpg", b"1")
    arrivals = Arrivals(tmp_path)
    assert names(arrivals) == []
    assert names(arrivals) == ["a/c.jpg", "b.png"]
    write(tmp_path / "d.png", b"1")
    assert [names(arrivals) for _ in range(4)] == [[], ["d.png"], [], []]


def test_a_file_that_grows_or_changes_waits(tmp_path: Path) -> None:
    arrivals, file = Arrivals(tmp_path), tmp_path / "a.png"
    for number, content in enumerate((b"1", b"12", b"123")):
        write(file, content)
        assert names(arrivals) == [], number
    write(file, b"123", changed=10**9)
    assert names(arrivals) == []
    assert names(arrivals) == ["a.png"]


def test_hidden_and_partial_files_and_others_are_left_out(tmp_path: Path) -> None:
    for name in (".a.png", ".tmp/b.png", "c.png.part", "d.png.crdownload", "e.txt", "F.PNG"):
        write(tmp_path / name, b"1")
    arrivals = Arrivals(tmp_path)
    arrivals.look()
    assert names(arrivals) == ["F.PNG"]


def test_a_file_that_is_renamed_into_place_counts(tmp_path: Path) -> None:
    arrivals = Arrivals(tmp_path)
    write(tmp_path / "a.png.part", b"1")
    arrivals.look()
    (tmp_path / "a.png.part").rename(tmp_path / "a.png")
    assert [names(arrivals) for _ in range(3)] == [[], ["a.png"], []]


def test_a_file_that_is_overwritten_is_a_new_picture(tmp_path: Path) -> None:
    arrivals = Arrivals(tmp_path)
    write(tmp_path / "a.png", b"1")
    arrivals.look()
    assert names(arrivals) == ["a.png"]
    write(tmp_path / "a.png", b"another", changed=10**9)
    assert [names(arrivals) for _ in range(3)] == [[], ["a.png"], []]


def test_a_name_that_was_gone_is_a_new_picture(tmp_path: Path) -> None:
    arrivals = Arrivals(tmp_path)
    for _ in range(2):
        write(tmp_path / "a.png", b"1")
        assert [names(arrivals) for _ in range(2)] == [[], ["a.png"]]
        (tmp_path / "a.png").unlink()
        assert names(arrivals) == []


def test_what_is_no_file_is_told_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "nowhere")
    arrivals = Arrivals(tmp_path)
    assert arrivals.look() == []
    assert arrivals.look() == [
        SkippedPicture("a.png", "neither a file nor a folder"),
        SkippedPicture("b.png", "no such file or directory"),
    ]
    assert arrivals.look() == []


def test_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "inbox"
    folder.mkdir()
    arrivals = Arrivals(folder)
    arrivals.look()
    shutil.rmtree(folder)
    with pytest.raises(TargetError, match="cannot be read: No such file"):
        arrivals.look()
