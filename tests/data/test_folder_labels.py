"""When folder names are labels, and when they are not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from adabn_cli.data.readers.kinds import list_pictures
from adabn_cli.data.truth.labels import LabelRequest, Labels, read_labels
from adabn_cli.errors import TargetError

DIGITS = tuple(map(str, range(10)))


def make(root: Path, *names: str) -> tuple[str, ...]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return tuple(sorted(names))


def labels(
    root: Path,
    pictures: Sequence[str],
    classes: Sequence[str] | None = None,
    n_outputs: int | None = None,
    class_map: Path | None = None,
) -> Labels:
    """The labels that folders give, after checking what holds for all of them."""
    known = n_outputs if n_outputs is not None or classes is None else len(classes)
    read = read_labels(pictures, LabelRequest(root, "auto", classes, known, class_map))
    assert read.indices_N.dtype == "int64"
    assert read.indices_N.shape == (len(pictures),)
    assert (read.origin is None) == (read.indices_N < 0).all()
    flat = all("/" not in picture for picture in pictures)
    why = any(note.startswith("Unlabeled: ") for note in read.notes)
    assert read.origin is not None or flat or why
    return read


def in_folders(root: Path, *folders: str) -> tuple[str, ...]:
    return make(root, *(f"{folder}/x.png" for folder in folders))


def write(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8")
    return file


def test_folders_that_are_the_classes_are_labels(tmp_path):
    pictures = make(tmp_path, "cat/1.png", "cat/2.png", "dog/1.png")
    read = labels(tmp_path, pictures, ["dog", "cat"])
    assert list(read.indices_N) == [1, 1, 0]
    assert read.origin == "folder names"
    assert read.classes == ("dog", "cat")
    assert read.notes == ()


def test_case_hyphen_underscore_and_space_are_folded(tmp_path):
    names = ("Great_White-shark", "TENCH", "cafe\u0301")
    read = labels(
        tmp_path, in_folders(tmp_path, *names), ["tench", "great white shark", "caf\u00e9"]
    )
    assert list(read.indices_N) == [1, 0, 2]


def test_an_equal_name_comes_before_a_similar_one(tmp_path):
    read = labels(tmp_path, in_folders(tmp_path, "A", "a"), ["a", "A"])
    assert list(read.indices_N) == [1, 0]


def test_a_name_of_two_classes_is_an_error_that_names_both(tmp_path):
    pictures = in_folders(tmp_path, "crane")
    with pytest.raises(TargetError, match="crane is the name of classes 0 and 2") as caught:
        labels(tmp_path, pictures, ["crane", "gull", "crane"])
    assert "--class-map" in caught.value.hint


def test_absent_classes_are_told(tmp_path):
    read = labels(tmp_path, in_folders(tmp_path, "b"), ["a", "b", "c"])
    assert list(read.indices_N) == [1]
    assert any("1 of the model's 3 classes" in note for note in read.notes)


def test_folders_of_which_only_some_are_classes_are_an_error(tmp_path):
    pictures = in_folders(tmp_path, "cat", "dogs", "misc")
    with pytest.raises(TargetError, match="2 of 3 folders") as caught:
        labels(tmp_path, pictures, ["cat", "dog"])
    assert caught.value.exit_code == 3
    assert "dogs (nearest: dog)" in caught.value.what
    assert "misc" in caught.value.what
    assert "--class-map FILE" in caught.value.hint
    assert "--labels none" in caught.value.hint


def test_folders_that_are_no_classes_may_be_cameras(tmp_path):
    read = labels(tmp_path, in_folders(tmp_path, "camera1", "camera2"), ["cat", "dog"])
    assert list(read.indices_N) == [-1, -1]
    assert "camera1, camera2" in read.notes[0]


def test_pictures_without_folders_are_unlabeled_and_nothing_is_remarked(tmp_path):
    read = labels(tmp_path, make(tmp_path, "a.png", "b.png"), DIGITS)
    assert read.origin is None
    assert read.notes == ()


def test_pictures_beside_the_folders_have_no_label(tmp_path):
    read = labels(tmp_path, make(tmp_path, "a/x.png", "b/x.png", "stray.png"), ["a", "b"])
    assert list(read.indices_N) == [0, 1, -1]
    assert "1 picture next to the class folders: no label." in read.notes


def test_folders_within_a_class_folder_belong_to_it(tmp_path):
    read = labels(tmp_path, make(tmp_path, "a/day/x.png", "b/night/deep/x.png"), ["a", "b"])
    assert list(read.indices_N) == [0, 1]


def test_classes_in_a_single_folder_are_found(tmp_path):
    read = labels(
        tmp_path, make(tmp_path, "data/images/a/x.png", "data/images/b/x.png"), ["a", "b"]
    )
    assert list(read.indices_N) == [0, 1]


@pytest.mark.parametrize("classes", [("a", "b"), None])
def test_a_single_class_folder_with_pictures_of_its_own_is_not_left(tmp_path, classes):
    read = labels(
        tmp_path, make(tmp_path, "a/x.png", "a/b/x.png"), classes, 1 if not classes else 2
    )
    assert list(read.indices_N) == [0, 0]


def test_a_single_folder_that_is_a_class_is_not_left_for_those_in_it(tmp_path):
    read = labels(tmp_path, make(tmp_path, "a/a/x.png", "a/b/x.png"), ["a", "b"])
    assert list(read.indices_N) == [0, 0]


def test_numbers_are_indices_and_that_is_said(tmp_path):
    read = labels(tmp_path, in_folders(tmp_path, "0", "7", "9"), None, 10)
    assert list(read.indices_N) == [0, 7, 9]
    assert read.origin == "folder names as class indices"
    assert "class indices" in read.notes[0]
    assert read.classes is None


@pytest.mark.parametrize("classes", [tuple("abcdefghij"), tuple(f"{i} - digit" for i in range(10))])
def test_numbers_are_indices_also_where_classes_have_other_names(tmp_path, classes):
    read = labels(tmp_path, in_folders(tmp_path, *DIGITS), classes)
    assert list(read.indices_N) == list(range(10))
    assert read.classes == classes
    assert "not class names" in read.notes[0]


def test_numbers_that_are_class_names_are_names(tmp_path):
    read = labels(tmp_path, in_folders(tmp_path, *DIGITS), DIGITS[::-1])
    assert list(read.indices_N) == list(range(9, -1, -1))
    assert read.origin == "folder names"


@pytest.mark.parametrize(
    ("names", "outputs"),
    [
        ([str(index) for index in range(11)], 11),
        (["2", "10"], 11),
        (["1", "2"], 100),  # Of 100 unpadded classes in text order, "2" is the 13th.
        (["50", "51"], 100),
        (["1", "01"], 10),
    ],
)
def test_numbers_whose_order_as_text_could_be_meant_are_unlabeled(tmp_path, names, outputs):
    read = labels(tmp_path, in_folders(tmp_path, *names), None, outputs)
    assert read.origin is None
    assert "ambiguous" in read.notes[0]
    assert "--class-map" in read.notes[0]


def test_padded_numbers_are_not_ambiguous(tmp_path):
    names = [f"{index:02}" for index in range(12)]
    assert list(labels(tmp_path, in_folders(tmp_path, *names), None, 12).indices_N) == list(
        range(12)
    )


def test_numbers_that_are_all_beyond_the_outputs_may_be_cameras(tmp_path):
    read = labels(tmp_path, in_folders(tmp_path, "101", "102"), None, 9)
    assert read.origin is None
    assert "from 101 to 102" in read.notes[0]
    assert "from 0 to 8" in read.notes[0]


def test_numbers_of_which_only_some_are_classes_are_an_error(tmp_path):
    pictures = in_folders(tmp_path, *map(str, range(1, 10)))
    with pytest.raises(
        TargetError, match="1 of 9 folders are not a class of the model: 9"
    ) as caught:
        labels(tmp_path, pictures, None, 9)
    assert "Give --label-offset 1" in caught.value.hint
    with pytest.raises(TargetError, match="folders are not a class") as caught:
        labels(tmp_path, in_folders(tmp_path / "b", "0", "9"), None, 9)
    assert "--label-offset" not in caught.value.hint


def test_numbers_are_counted_from_where_it_was_said(tmp_path):
    pictures = in_folders(tmp_path, *map(str, range(1, 13)))
    read = read_labels(pictures, LabelRequest(tmp_path, n_outputs=12, offset=1))
    assert [int(name.split("/")[0]) - 1 for name in pictures] == list(read.indices_N)
    assert read.origin == "folder names as class indices, counted from 1"
    assert read.known_by == "number"


@pytest.mark.parametrize(
    "names",
    [
        ["1.Alb", "2.Bet", "10.Lar"],
        ["class_1", "class_2", "class_10"],
        ["c2", "c10", "c7"],
        ["10-foo", "9-bar", "x"],
        ["Zebra", "cat", "dog"],
    ],
)
def test_another_natural_order_is_offered_beside_that_of_the_text(tmp_path, names):
    pictures = in_folders(tmp_path, *names)
    read = labels(tmp_path, pictures, None, 3)
    assert read.classes == tuple(sorted(names))
    assert read.natural is not None
    timm = pytest.importorskip("timm.utils.misc")
    expected = sorted(names, key=timm.natural_key)
    assert read.natural.classes == tuple(expected)
    folders = [picture.split("/")[0] for picture in pictures]
    assert list(read.natural.indices_N) == [expected.index(folder) for folder in folders]


def test_one_order_is_taken_where_both_agree_or_it_was_said(tmp_path):
    assert (
        labels(tmp_path / "a", in_folders(tmp_path / "a", "c1", "c2", "c3"), None, 3).natural
        is None
    )
    pictures = in_folders(tmp_path, "2", "10", "1")
    for order, classes in (("natural", ("1", "2", "10")), ("text", ("1", "10", "2"))):
        read = read_labels(pictures, LabelRequest(tmp_path, n_outputs=3, order=order))
        assert (read.classes, read.natural, read.known_by) == (classes, None, "order")


def test_as_many_folders_as_outputs_are_in_alphabetical_order(tmp_path):
    read = labels(tmp_path, in_folders(tmp_path, "dog", "Zebra", "cat"), None, 3)
    assert read.origin == "folder names in alphabetical order"
    assert read.classes == ("Zebra", "cat", "dog")
    assert list(read.indices_N) == [0, 1, 2]
    assert "0 = Zebra, 1 = cat, 2 = dog" in read.notes[0]


def test_another_number_of_folders_than_outputs_is_unlabeled(tmp_path):
    read = labels(tmp_path, in_folders(tmp_path, "a", "b"), None, 3)
    assert "3 outputs" in read.notes[0]
    assert "2 folders (a, b)" in read.notes[0]


@pytest.mark.parametrize("names", [("a", "b"), ("0", "1")])
def test_without_any_word_of_classes_there_are_no_labels(tmp_path, names):
    assert labels(tmp_path, in_folders(tmp_path, *names)).origin is None


def test_classes_do_not_depend_on_which_pictures_were_drawn(tmp_path):
    pictures = in_folders(tmp_path, "a", "b", "c")
    request = LabelRequest(tmp_path, n_outputs=3, listing=list_pictures(tmp_path))
    assert list(read_labels(pictures[2:], request).indices_N) == [2]


def test_folders_without_pictures_are_no_classes(tmp_path):
    pictures = in_folders(tmp_path, "a", "b")
    make(tmp_path, "annotations/x.xml", ".git/x.png")
    assert list(labels(tmp_path, pictures, None, 2).indices_N) == [0, 1]


def test_class_names_that_do_not_fit_the_outputs_are_not_used(tmp_path):
    read = labels(tmp_path, in_folders(tmp_path, "a", "b"), ["b", "a", "c"], 2)
    assert list(read.indices_N) == [0, 1]
    assert "names 3 classes and has 2 outputs" in read.notes[0]


def test_labels_can_be_switched_off(tmp_path):
    request = LabelRequest(tmp_path, "none", ["a"], 1)
    read = read_labels(in_folders(tmp_path, "a"), request)
    assert (list(read.indices_N), read.origin) == ([-1], None)
    assert read.notes


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.txt", "dog\ncat\n\n"),
        ("m.json", '["dog", "cat"]'),
        ("m.json", '{"dog": 0, "cat": 1, "cow": 0}'),
        ("m.csv", "folder,class\ndog,0\ncat,1\n"),
        ("m.csv", "folder,index\ndog,0\ncat,1\n"),
        ("m.csv", "folder,index,name\ndog,0,Hund\ncat,1,Katze\n"),
        ("m.csv", "dog,0,Hund\ncat,1,Katze\n"),
        ("m.json", '{"0": "dog", "1": "cat"}'),
        ("m.csv", "\ufeffdog,0\r\n\r\n cat , 1 \r\n"),
    ],
)
def test_every_kind_of_class_map_gives_the_classes(tmp_path, name, text):
    class_map = write(tmp_path / name, text)
    pictures = in_folders(tmp_path / "root", "cat", "dog")
    read = labels(tmp_path / "root", pictures, None, 2, class_map)
    assert list(read.indices_N) == [1, 0]


def test_a_class_map_leads_from_folders_to_class_names(tmp_path):
    class_map = write(tmp_path / "m.json", json.dumps({"n01": "tench", "n02": "Gold_Fish"}))
    pictures = in_folders(tmp_path / "root", "n01", "n02")
    read = labels(tmp_path / "root", pictures, ["gold fish", "tench"], 2, class_map)
    assert list(read.indices_N) == [1, 0]
    assert read.origin == "folder names in the class map"
    assert read.classes == ("gold fish", "tench")


@pytest.mark.parametrize("folders", [("1", "3"), ("circle", "square")])
def test_a_class_map_names_indices_and_the_rest_is_called_by_number(tmp_path, folders):
    class_map = write(tmp_path / "m.json", '{"1": "circle", "3": "square"}')
    read = labels(tmp_path / "root", in_folders(tmp_path / "root", *folders), None, 4, class_map)
    assert list(read.indices_N) == [1, 3]
    assert read.classes == ("0", "circle", "2", "square")
    assert read.known_by == ("number" if folders[0] == "1" else "name")


def test_a_class_map_of_folder_index_and_name_names_the_outputs(tmp_path):
    class_map = write(tmp_path / "m.csv", "folder,index,name\nn01,1,tench\nn02,0,goldfish\n")
    pictures = in_folders(tmp_path / "root", "n01", "n02")
    read = labels(tmp_path / "root", pictures, None, 2, class_map)
    assert (list(read.indices_N), read.classes) == ([1, 0], ("goldfish", "tench"))
    assert read.known_by == "name"


def test_a_class_map_settles_unpadded_numbers(tmp_path):
    names = [str(index) for index in range(11)]
    class_map = write(tmp_path / "m.txt", "\n".join(sorted(names)))
    pictures = in_folders(tmp_path / "root", *names)
    read = labels(tmp_path / "root", pictures, None, 11, class_map)
    assert list(read.indices_N) == list(range(11))
    assert [picture.split("/")[0] for picture in pictures][2] == "10"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.txt", "a\n\nb\n", "line 2 is empty"),
        ("m.txt", "", "no class name"),
        ("m.txt", "a\nb\nc\n", "names 3 classes, the model has 2 outputs"),
        ("m.json", '{\n"a": 0,\n"b" 1}', "line 3"),
        ("m.json", "[1, 2]", "neither a list of class names"),
        ("m.json", '{"a": ["x", "y"]}', "the class of a is neither a name nor an index"),
        ("m.json", '{"a": true}', "the class of a is neither a name nor an index"),
        ("m.json", '{"a": 2}', "class 2 is not between 0 and 1"),
        ("m.json", '{"a": -1}', "-1 is not a number"),
        ("m.csv", "a,0\nb\n", "line 2: two fields"),
        ("m.csv", "a,0,x,y\n", "line 1: two fields"),
        ("m.csv", "a,0,x\nb,1\n", "line 2: two fields"),
        ("m.csv", "a,zero,x\n", "line 1: zero is no index"),
        ("m.csv", "a,0,x\nb,0,y\n", "line 2: class 0 has another name further up"),
        ("m.csv", "a,0,x\nb,2,y\n", "class 2 is not between 0 and 1"),
        ("m.json", '{"1": "x", "2": "y"}', "class 2 is not between 0 and 1"),
        ("m.json", '{"a": "x", "b": "y"}', "x is not a number, and the class names are unknown"),
        ("m.csv", "a,0\na,1\n", "line 2: a has another class"),
        ("m.csv", "folder,class\n", "no folder"),
        ("m.csv", 'a,"0\n', "line 1"),
        ("m.csv", "a,0\n", "1 of 2 folders are not in the class map: b"),
        ("m.csv", "a,cat\n", "cat is not a number, and the class names are unknown"),
        ("m.yaml", "a: 0", "unknown kind"),
    ],
)
def test_a_class_map_that_is_wrong_says_where(tmp_path, name, text, message):
    class_map = write(tmp_path / name, text)
    pictures = in_folders(tmp_path / "root", "a", "b")
    with pytest.raises(TargetError) as caught:
        labels(tmp_path / "root", pictures, None, 2, class_map)
    assert message in caught.value.what
    assert caught.value.hint
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_class_map_that_cannot_be_read_is_an_error(tmp_path, content):
    class_map = tmp_path / "m.txt"
    if content is not None:
        class_map.write_bytes(content)
    with pytest.raises(TargetError, match="cannot be read"):
        labels(tmp_path, ("a/x.png",), None, 2, class_map)


def test_real_digits_are_labelled_by_their_folders(shared_data):
    root = shared_data / "digits" / "optdigits_1797"
    pictures = sorted(str(file.relative_to(root)) for file in root.glob("*/*.png"))
    read = labels(root, pictures, None, 10)
    assert [int(picture[0]) for picture in pictures] == list(read.indices_N)
