"""Lists, manifests and patterns as sources: what is taken, what its label is, what is an error."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from adabn_cli.data.open import open_target
from adabn_cli.data.readers.kinds import list_pictures
from adabn_cli.data.readers.path_list import list_of
from adabn_cli.data.readers.path_pattern import expanded
from adabn_cli.data.target import Target, TargetRequest
from adabn_cli.data.truth.labels import LabelRequest, Labels, read_labels
from adabn_cli.errors import TargetError, UsageError
from adabn_cli.preprocessing import Preprocessing

GRAY = Preprocessing((8, 8), (0.4,), (0.3,))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six pictures in two folders, in the folder where the tests run."""
    for index in range(6):
        file = tmp_path / "ab"[index % 2] / f"{index}.png"
        file.parent.mkdir(exist_ok=True)
        Image.new("L", (8, 8), 40 * index).save(file)
    monkeypatch.chdir(tmp_path)
    return tmp_path


NAMES = ("a/0.png", "a/2.png", "a/4.png", "b/1.png", "b/3.png", "b/5.png")


def opened(location: object, **options: object) -> Target:
    return open_target(TargetRequest(location, GRAY, **options))


def write(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8")
    return file


def labels(target: Target, classes=("a", "b"), n_outputs: int = 2) -> Labels:
    request = LabelRequest(target.path, "auto", classes, n_outputs, None, target.listing)
    return read_labels(target.pictures, request)


def parquet(target: Path, **columns: list[object]) -> Path:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    write_table(arrow.table(columns), target)
    return target


def every_source(data: Path) -> dict[str, object]:
    shuffled = NAMES[3:] + NAMES[:3]
    return {
        "folder": data,
        "CSV manifest": write(data / "x.csv", "path\n" + "\n".join(shuffled)),
        "TSV manifest": write(data / "x.tsv", "n\tpath\n" + "\n".join(f"1\t{n}" for n in shuffled)),
        "Parquet manifest": parquet(data / "x.parquet", path=list(shuffled)),
        "list of paths": write(data / "x.txt", "\ufeff./" + "\r\n\r\n".join(shuffled)),
        "list on stdin": list_of("\n".join(shuffled).encode(), Path()),
        "pattern": "**/*.png",
    }


def test_every_source_gives_the_same_pictures_in_the_same_order(data):
    found = {kind: opened(location) for kind, location in every_source(data).items()}
    assert {kind: target.kind for kind, target in found.items()} == {kind: kind for kind in found}
    assert {target.pictures for target in found.values()} == {NAMES}
    assert len({target.fingerprint for target in found.values()}) == 1


@pytest.mark.parametrize("n", [1, 3])
def test_the_same_pictures_are_drawn_whatever_the_source(data, n):
    drawn = {
        opened(location, max_images=n, seed=5).pictures for location in every_source(data).values()
    }
    assert len(drawn) == 1


def test_folder_names_are_labels_where_a_list_has_none(data):
    for location in every_source(data).values():
        read = labels(opened(location))
        assert list(read.indices_N) == [0, 0, 0, 1, 1, 1]
        assert read.origin == "folder names"


def test_labels_in_a_manifest_come_before_folder_names(data):
    file = write(data / "x.csv", "Path,Label\na/0.png,b\nb/1.png,a\nb/3.png,\n")
    read = labels(opened(file))
    assert list(read.indices_N) == [1, 0, -1]
    assert read.origin == "labels in x.csv"
    assert read.notes == ("1 of 3 pictures have no label in their source.",)


def test_numbers_in_a_manifest_are_indices_also_beyond_ten(data):
    file = write(data / "x.csv", "path,label\na/0.png,10\nb/1.png,9\n")
    read = labels(opened(file), None, 12)
    assert list(read.indices_N) == [10, 9]
    assert read.origin == "labels in x.csv as class indices"


def test_labels_of_which_only_some_are_classes_are_an_error(data):
    file = write(data / "x.csv", "path,label\na/0.png,a\nb/1.png,bb\n")
    with pytest.raises(TargetError, match="1 of 2 labels are not among the model's classes: bb"):
        labels(opened(file))


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        ([0, 1, None], [0, 1, -1]),
        ([0.0, 1.0, float("nan")], [0, 1, -1]),
        (["a", "b", ""], [0, 1, -1]),
    ],
)
def test_labels_in_parquet_are_text_or_whole_numbers(data, column, wanted):
    file = parquet(data / "x.parquet", path=list(NAMES[:3]), label=column)
    assert list(labels(opened(file)).indices_N) == wanted


def test_paths_are_relative_to_the_manifest_or_absolute(data, monkeypatch):
    monkeypatch.chdir("/")
    (data / "sub").mkdir()
    rows = ["path", "../a/0.png", str(data / "b/1.png"), "..\\a\\2.png"]
    target = opened(write(data / "sub" / "x.csv", "\n".join(rows)))
    assert target.pictures == ("../a/0.png", "../a/2.png", str(data / "b/1.png"))


def test_a_picture_that_is_not_there_is_named_with_its_line(data):
    file = write(data / "x.csv", "path\na/0.png\ngone.png\n")
    assert [(lost.path, lost.reason) for lost in opened(file, max_bad=1).skipped] == [
        ("gone.png", "no such file or directory (line 3)")
    ]
    with pytest.raises(TargetError, match=r"1 of 2 .*gone.png: no such file or directory \(line 3"):
        opened(file, max_bad=0)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.csv", "", "no column path in the header (there is none)"),
        ("x.csv", "foto,label\n", "no column path in the header (foto, label)"),
        ("x.csv", "path,label\na/0.png\n", "line 2: 1 fields where the header has 2"),
        ("x.csv", "path,label\n,a\n", "line 2: no path"),
        ("x.csv", 'path\n"a/0.png\n', "line 2"),
        ("x.csv", "path\na/0.png\nb/1.png\n./a/0.png\n", "line 4: a/0.png is listed at line 2 too"),
        ("x.tsv", "foto\tlabel\n", "no column path in the header (foto, label)"),
        ("x.txt", "a/0.png\n\na/0.png\n", "line 3: a/0.png is listed at line 1 too"),
        ("x.txt", "\n", "no picture here (list of paths)"),
        ("x.csv", "path\n", "no picture here (CSV manifest)"),
    ],
)
def test_a_list_that_cannot_be_used_says_where(data, name, text, message):
    with pytest.raises(TargetError) as caught:
        list_pictures(write(data / name, text))
    assert message in caught.value.what
    assert caught.value.where.endswith(name)
    assert caught.value.hint


def test_a_parquet_file_that_cannot_be_used_says_why(data):
    pytest.importorskip("pyarrow")
    for file, message in (
        (write(data / "no.parquet", "text"), "cannot be used"),
        (parquet(data / "x.parquet", foto=["a"]), r"no column path in the header \(foto\)"),
        (parquet(data / "y.parquet", path=["a", None]), "row 2: the path is NoneType"),
        (parquet(data / "z.parquet", path=["a"], label=[[1]]), "row 1: the label is neither"),
        (parquet(data / "u.parquet", path=["a", "a"]), "row 2: a is listed at row 1 too"),
    ):
        with pytest.raises(TargetError, match=message) as caught:
            list_pictures(file)
        assert caught.value.where == str(file)


def test_without_pyarrow_the_error_says_what_to_install(data, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(TargetError, match="needs the package pyarrow") as caught:
        list_pictures(write(data / "x.parquet", ""))
    assert caught.value.hint == 'pip install "adabn[parquet]"'


def test_the_format_can_be_said_where_the_path_does_not_tell(data):
    file = write(data / "x.log", "path,label\na/0.png,a\n")
    with pytest.raises(TargetError, match="not a folder or a list of pictures"):
        opened(file)
    assert opened(file, kind="csv").kind == "CSV manifest"
    with pytest.raises(UsageError, match="--target-format vcs is unknown") as caught:
        opened(file, kind="vcs")
    assert "csv" in caught.value.hint
    with pytest.raises(TargetError, match="cannot be read: Not a directory"):
        opened(file, kind="folder")


def test_a_pattern_takes_pictures_alone_and_names_them_from_its_fixed_part(data):
    write(data / "a" / "notes.txt", "")
    write(data / "a" / ".hidden.png", "")
    target = opened(f"{data}/a/*")
    assert target.pictures == ("0.png", "2.png", "4.png")
    assert target.other_files == 1
    assert opened(f"{data}/{{b,a}}/[01].png").pictures == ("a/0.png", "b/1.png")


def test_a_name_with_the_letters_of_a_pattern_is_a_name(data):
    (data / "a").rename(data / "[a]")
    assert len(opened("[a]").pictures) == 3


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("x-{000..002}.tar", ["x-000.tar", "x-001.tar", "x-002.tar"]),
        ("{9..11}", ["9", "10", "11"]),
        ("{a,b}{0..1}", ["a0", "a1", "b0", "b1"]),
        ("plain", ["plain"]),
        ("{2..1}", []),
    ],
)
def test_braces_are_written_out(pattern, names):
    assert expanded(pattern) == names


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("*.jpg", "No file matches"),
        ("a/{0,1}.png", r"1 files of the pattern are not there: a/1.png"),
        ("{0..99999999}.png", "too many names"),
        ("missing", "No such file or directory"),
        ("x" * 300, "File name too long"),
    ],
)
@pytest.mark.usefixtures("data")
def test_a_pattern_without_a_match_says_so(pattern, message):
    with pytest.raises(TargetError, match=message) as caught:
        list_pictures(pattern)
    assert caught.value.hint
