"""Labels from a CSV file."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from adabn_cli.data.listing import Listing, Picture
from adabn_cli.data.truth.labels import LabelRequest, Labels, read_labels
from adabn_cli.errors import TargetError

PICTURES = ("a.png", "b/c.png", "d.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A target's folder without any picture on disk."""
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def labels(root: Path, text: str, **options: object) -> Labels:
    file = root.parent / "x.csv"
    file.write_text(text, encoding="utf-8")
    return read_labels(PICTURES, LabelRequest(root, str(file), **options))


def test_names_and_indices_are_labels(root):
    text = "path,label\nd.png,cat\na.png,1\nb/c.png,Dog\n"
    read = labels(root, text, classes=["cat", "dog"], n_outputs=2)
    assert list(read.indices_N) == [1, 1, 0]
    assert read.indices_N.dtype == "int64"
    assert read.origin == "labels file x.csv"
    assert read.classes == ("cat", "dog")
    assert read.notes == ()


def test_more_columns_other_order_and_windows_habits_are_fine(root):
    text = '\ufeffid;,"Label",x,PATH\r\n1,0,,.\\b\\c.png\r\n\r\n2,1,,./a.png\r\n3,0,,"d.png"\r\n'
    assert list(labels(root, text, n_outputs=2).indices_N) == [1, 0, 0]


def test_a_class_that_is_called_like_a_number_is_that_class(root):
    read = labels(root, "path,label\na.png,1\n", classes=["1", "0"], n_outputs=2)
    assert read.indices_N[0] == 0


def test_a_class_map_applies_to_labels_too(root):
    class_map = root.parent / "m.json"
    class_map.write_text('{"kitten": 1}')
    read = labels(root, "path,label\na.png,kitten\n", n_outputs=2, class_map=class_map)
    assert read.indices_N[0] == 1


def test_pictures_without_a_label_are_unknown_and_counted(root):
    read = labels(root, "path,label\na.png,0\nb/c.png,\n", n_outputs=2)
    assert list(read.indices_N) == [0, -1, -1]
    assert read.notes == ("2 of 3 pictures have no label in x.csv.",)


def test_labels_of_pictures_not_there_are_counted(root):
    listed = [Picture(name, io.BytesIO) for name in (*PICTURES, "undrawn.png")]
    listing = Listing(kind="folder", pictures=listed)
    rows = "a.png,0\nb/c.png,0\nd.png,0\ngone.png,1\nundrawn.png,1\n" + "x" * 300 + ".png,1\n"
    read = labels(root, "path,label\n" + rows, n_outputs=2, listing=listing)
    missing = f"gone.png, {'x' * 300}.png"
    assert read.notes == (f"2 labels are for pictures not there: {missing}.",)


def test_the_same_label_twice_is_no_error(root):
    assert labels(root, "path,label\na.png,0\na.png,0\n", n_outputs=2).indices_N[0] == 0


def test_numbers_are_counted_from_where_it_was_said(root):
    text = "path,label\na.png,1\nb/c.png,2\nd.png,1\n"
    read = labels(root, text, n_outputs=2, offset=1)
    assert (list(read.indices_N), read.known_by) == ([0, 1, 0], "number")
    assert read.origin == "labels file x.csv, counted from 1"
    # Names that are numbers do not count then: label 1 is the third output, after a background.
    assert list(labels(root, text, classes=["1", "2", "3", "4"], offset=-1).indices_N) == [2, 3, 2]


def test_all_labels_that_are_no_class_are_counted_and_the_offset_is_named(root):
    text = "path,label\na.png,1\nb/c.png,4\nd.png,4\n"
    with pytest.raises(TargetError, match=r"line 3: class 4 .*, and 1 more such labels") as caught:
        labels(root, text, n_outputs=4)
    assert caught.value.hint.endswith("Give --label-offset 1 if the first class is 1.")
    with pytest.raises(TargetError, match="class 4 is not between 5 and 8"):
        labels(root, text.replace(",1", ",8"), n_outputs=4, offset=5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column path in the header (there is none)"),
        ("a.png,0\n", "no column path in the header (a.png, 0)"),
        ("path,label\na.png,0,0\n", "line 2: 3 fields where the header has 2"),
        ("path,label\na.png,0\na.png,1\n", "line 3: a.png has another label"),
        ("path,label\na.png,dgo\n", "line 2: no class is called dgo; the nearest is dog"),
        ("path,label\na.png,2\n", "line 2: class 2 is not between 0 and 1"),
        ("path,label\n/else/a.png,0\n", "labels no picture of the target, such as a.png"),
        ('path,label\n"a.png,0\n', "line 2"),
    ],
)
def test_a_wrong_file_says_where(root, text, message):
    with pytest.raises(TargetError) as caught:
        labels(root, text, classes=["cat", "dog"], n_outputs=2)
    assert message in caught.value.what
    assert caught.value.where.endswith("x.csv")
    assert "path and label" in caught.value.hint
    assert len(str(caught.value).splitlines()) == 3


def test_names_without_known_classes_are_an_error(root):
    with pytest.raises(TargetError, match="line 2: cat is not a number") as caught:
        labels(root, "path,label\na.png,cat\n", n_outputs=2)
    assert caught.value.exit_code == 3


def test_a_missing_file_says_what_the_option_takes(root):
    with pytest.raises(TargetError, match="no such file") as caught:
        read_labels(PICTURES, LabelRequest(root, "atuo"))
    assert "auto, none or a CSV" in caught.value.hint
