"""Tar shards as a source: keys and labels, hostile names, and files that are cut off."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from adabn_cli.data.open import open_target
from adabn_cli.data.readers.kinds import list_pictures
from adabn_cli.data.target import Target, TargetRequest
from adabn_cli.data.truth.labels import LabelRequest, read_labels
from adabn_cli.errors import TargetError
from adabn_cli.preprocessing import Preprocessing

GRAY = Preprocessing((8, 8), (0.4,), (0.3,))


def png(level: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (8, 8), level).save(stream, "PNG")
    return stream.getvalue()


def shard(file: Path, members: Mapping[str, bytes]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    how = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(file.suffix, "w")
    with tarfile.open(file, how) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file


def opened(location: object, **options: object) -> Target:
    return open_target(TargetRequest(location, GRAY, **options))


def labels(target: Target, **known: object) -> list[int]:
    request = LabelRequest(target.path, listing=target.listing, **known)
    return list(read_labels(target.pictures, request).indices_N)


TEN = {f"{index:04}.png": png(20 * index) for index in range(10)}


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"])
@pytest.mark.parametrize("workers", [1, 3])
def test_shards_give_what_a_folder_gives_in_any_order_of_members(tmp_path, suffix, workers):
    for name, content in TEN.items():
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(content)
    shuffled = [list(TEN)[7 * index % 10] for index in range(10)]
    for number in range(3):
        part = {name: TEN[name] for name in shuffled[number::3]}
        shard(tmp_path / "shards" / f"x-{number:03}{suffix}", part)
    folder = opened(tmp_path / "folder", workers=workers)
    for location in (tmp_path / "shards", f"{tmp_path}/shards/x-{{000..002}}{suffix}"):
        target = opened(location, workers=workers)
        assert target.kind == "3 tar shards"
        assert target.pictures == tuple(TEN)
        assert target.fingerprint == folder.fingerprint
        assert (target.pixels_NHWC[:] == folder.pixels_NHWC[:]).all()
        assert (target.pixels_NHWC[2:5] == folder.pixels_NHWC[2:5]).all()
        assert (target.spread(4) == folder.spread(4)).all()
        drawn = opened(location, max_images=4, workers=workers)
        assert drawn.pictures == opened(tmp_path / "folder", max_images=4).pictures
        assert drawn.sizes == ((8, 8),) * 4


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_broken_pictures_in_a_shard_are_named(tmp_path, suffix):
    members = {**TEN, "0003.png": b"", "0005.png": b"text"}
    target = opened(shard(tmp_path / f"x{suffix}", members), max_bad=2)
    assert target.kind == "1 tar shard"
    assert [(lost.path, lost.reason) for lost in target.skipped] == [
        ("0003.png", "empty file"),
        ("0005.png", "not a picture in a known format"),
    ]
    assert len(target.pictures) == 8


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_labels_are_beside_the_pictures(tmp_path, suffix):
    members = {
        **{"a.png": png(0), "a.cls": b"1\n", "b.cls": b"dog", "b.png": png(1)},
        **{"c.png": png(2), "c.json": b'{"label": "cat", "id": 7}', "d.png": png(3)},
        **{"e.png": png(4), "e.json": b'{"id": 7}', "f.json": b"0", "f.jpg": png(5)},
    }
    target = opened(shard(tmp_path / f"x{suffix}", members))
    with pytest.raises(TargetError, match=r"2 of 4 labels are not among .*: 0, 1"):
        labels(target, classes=["cat", "dog"], n_outputs=2)
    members["a.cls"], members["f.json"] = b"dog", b'"cat"'
    target = opened(shard(tmp_path / f"x{suffix}", members))
    assert labels(target, classes=["cat", "dog"], n_outputs=2) == [1, 1, 0, -1, -1, 0]
    assert target.listing.labels_from == "labels in the shards"
    assert target.other_files == 5


def test_numbers_are_class_indices(tmp_path):
    members = {f"{i}.cls": str(i).encode() for i in range(12)}
    target = opened(shard(tmp_path / "x.tar", members | {f"{i}.png": png(i) for i in range(12)}))
    order = [0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9]
    assert labels(target, n_outputs=12) == order


def test_other_fields_of_a_sample_are_no_pictures_and_dots_in_names_are(tmp_path):
    members = {"a.jpg": png(1), "a.mask.png": png(2), "my.photo.png": png(3), "a.b/c.png": png(4)}
    assert opened(shard(tmp_path / "x.tar", members)).pictures == (
        "a.b/c.png", "a.jpg", "my.photo.png",
    )  # fmt: skip


def test_folders_in_a_shard_are_labels_where_there_are_no_others(tmp_path):
    target = opened(shard(tmp_path / "x.tar", {"a/1.png": png(1), "./b/1.png": png(2)}))
    assert target.pictures == ("a/1.png", "b/1.png")
    assert labels(target, classes=["b", "a"], n_outputs=2) == [1, 0]


def test_equal_names_in_two_shards_begin_with_the_shards(tmp_path):
    for number in range(2):
        shard(tmp_path / f"{number}.tar", {"x.png": png(number), f"{number}.png": png(9)})
    assert opened(tmp_path).pictures == (
        "0.tar/0.png", "0.tar/x.png", "1.tar/1.png", "1.tar/x.png",
    )  # fmt: skip


def test_hostile_members_open_nothing_and_write_nothing(tmp_path):
    file = shard(tmp_path / "in" / "x.tar", {})
    with tarfile.open(file, "w") as tar:
        for name in ("/etc/a.png", "../../b.png", "c/../../../d.png", "n\nl.png"):
            member = tarfile.TarInfo(name)
            member.size = len(png(1))
            tar.addfile(member, io.BytesIO(png(1)))
        for kind, name in ((tarfile.SYMTYPE, "link.png"), (tarfile.LNKTYPE, "hard.png")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        for name in (".hidden.png", "__MACOSX/e.png", "._a.png"):
            tar.addfile(tarfile.TarInfo(name))
    target = opened(file, max_bad=2)
    assert target.pictures == ("b.png", "d.png", "etc/a.png", "n\nl.png")
    assert [lost.path for lost in target.skipped] == ["hard.png", "link.png"]
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "x.tar"]


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.xz"])
def test_a_shard_that_is_cut_off_anywhere_is_an_error(tmp_path, suffix):
    file = shard(tmp_path / f"x{suffix}", TEN)
    whole = file.read_bytes()
    # Of a plain tar file all behind the two blocks of zeros is padding.
    end = 10 * 1024 + 512 if suffix == ".tar" else len(whole) - 1
    for size in (0, 1, 511, 512, 600, 1024, 1025, 5 * 1024, end // 2, end - 512, end - 1):
        file.write_bytes(whole[: min(size, end - 1)])
        with pytest.raises(TargetError, match=r"cannot be read to its end|no tar") as caught:
            list_pictures(file)
        assert caught.value.where == str(file)
        assert len(str(caught.value).splitlines()) == 3


def test_text_named_tar_and_damaged_labels_are_errors(tmp_path):
    (tmp_path / "x.tar").write_text("text" * 1000)
    with pytest.raises(TargetError, match="cannot be read to its end"):
        list_pictures(tmp_path / "x.tar")
    for name, content in (("a.json", b"{"), ("a.cls", b"\xff")):
        with pytest.raises(TargetError, match=f"{name} is no"):
            list_pictures(shard(tmp_path / "x.tar", {name: content, "a.png": png(1)}))


def test_a_missing_shard_is_named(tmp_path):
    shard(tmp_path / "x-0.tar", TEN)
    with pytest.raises(TargetError, match=r"1 files of the pattern are not there: .*x-1.tar"):
        list_pictures(f"{tmp_path}/x-{{0..1}}.tar")


def test_a_shard_without_pictures_says_what_is_in_it(tmp_path):
    with pytest.raises(TargetError, match=r"no picture here \(1 tar shard; files: 1 .txt\)"):
        list_pictures(shard(tmp_path / "x.tar", {"a.txt": b""}))


def test_tar_files_beside_pictures_are_other_files(tmp_path):
    shard(tmp_path / "x.tar", TEN)
    (tmp_path / "a.png").write_bytes(png(1))
    target = opened(tmp_path)
    assert (target.kind, target.pictures, target.other_files) == ("folder", ("a.png",), 1)
