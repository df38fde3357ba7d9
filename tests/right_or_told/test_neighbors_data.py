"""Lists, tables and pictures as other people write them: the labels that are read, or what is said.

The pictures are `a.png`, `b.png`, `sub/c d.png` and, called by ids, `ids/1.jpg` to `ids/3.jpg`.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
import torch
from PIL import Image

from adabn_cli.data.decoding import decode
from adabn_cli.data.open import open_target
from adabn_cli.data.picture_size import up_to
from adabn_cli.data.tables.columns import BY_HEADER, Columns
from adabn_cli.data.target import TargetRequest
from adabn_cli.data.truth.labels import LabelRequest, Labels, read_labels
from adabn_cli.data.truth.masks import read_masks
from adabn_cli.data.truth.values import read_value_table
from adabn_cli.errors import AdabnError
from adabn_cli.jobs.results.truth import TruthRequest, read_truth
from adabn_cli.preprocessing import Preprocessing

NAMES = ("a.png", "b.png", "sub/c d.png")
GRAY = Preprocessing((8, 8), (0.4,), (0.3,))


@pytest.fixture(autouse=True)
def pictures(tmp_path: Path) -> Path:
    for name in (*NAMES, "ids/1.jpg", "ids/2.jpg", "ids/3.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (8, 8), 7).save(tmp_path / name)
    return tmp_path


def as_target(file: Path, **options: object) -> Labels:
    """The labels of a file that lists the pictures itself."""
    columns = options.pop("columns", BY_HEADER)
    target = open_target(TargetRequest(file, GRAY, columns=columns, max_bad=0))
    options = {"n_outputs": 3} | options
    return read_labels(target.pictures, LabelRequest(file, listing=target.listing, **options))


def as_labels(file: Path, pictures: tuple[str, ...] = NAMES, **options: object) -> Labels:
    """The labels of a file that is given with --labels."""
    options = {"n_outputs": 3} | options
    return read_labels(pictures, LabelRequest(file.parent, str(file), **options))


#: Name, content, what else is known -> the classes of a.png, b.png and "sub/c d.png".
FILES = {
    "caffe-list": ("val.txt", "a.png 2\nb.png 0\nsub/c d.png 1\n", {}, [2, 0, 1]),
    "tab-list": ("val.lst", "a.png\t2\r\n\r\nb.png\t0\r\nsub/c d.png\t1\r\n", {}, [2, 0, 1]),
    "aligned-list": ("val.txt", "a.png   2\nb.png   0\nsub/c d.png 1\n", {}, [2, 0, 1]),
    "names-in-a-list": (
        "val.txt",
        "a.png\tbig dog\nb.png\tcat\nsub/c d.png\tbig dog\n",
        {"classes": ("cat", "big dog", "owl")},
        [1, 0, 1],
    ),
    "utf-16-list": (
        "val.txt",
        "a.png 2\r\nb.png 0\r\nsub/c d.png 1\r\n".encode("utf-16"),
        {},
        [2, 0, 1],
    ),
    "semicolons": ("x.csv", "path;label\na.png;2\nb.png;0\nsub/c d.png;1\n", {}, [2, 0, 1]),
    "pipes-crlf": ("x.csv", "label|file\r\n2|a.png\r\n0|b.png\r\n1|sub/c d.png\r\n", {}, [2, 0, 1]),
    "tabs-in-csv": ("x.csv", "path\tlabel\na.png\t2\nb.png\t0\nsub/c d.png\t1\n", {}, [2, 0, 1]),
    "commas-in-tsv": ("x.tsv", "path,label\na.png,2\nb.png,0\nsub/c d.png,1\n", {}, [2, 0, 1]),
    "quoted-blank-trailing": (
        "x.csv",
        '"filename","class",\n\n"a.png","2",\n"b.png","0",\n"sub/c d.png","1"\n\n',
        {},
        [2, 0, 1],
    ),
    "byte-order-mark": (
        "x.csv",
        "\ufeffpath,label\na.png,2\nb.png,0\nsub/c d.png,1\n".encode(),
        {},
        [2, 0, 1],
    ),
    "latin-1": (
        "x.csv",
        "path;label\na.png;Käfer\nb.png;Bär\nsub/c d.png;Käfer\n".encode("latin-1"),
        {"classes": ("Bär", "Käfer", "x")},
        [1, 0, 1],
    ),
    "utf-16": (
        "x.csv",
        "path\tlabel\na.png\t2\nb.png\t0\nsub/c d.png\t1\n".encode("utf-16"),
        {},
        [2, 0, 1],
    ),
    "floats": ("x.csv", "path,label\na.png,2.0\nb.png,0.0\nsub/c d.png,1.0\n", {}, [2, 0, 1]),
    "numpy-floats": ("x.csv", "path,y\na.png,2.000e+00\nb.png,0.\nsub/c d.png,1\n", {}, [2, 0, 1]),
    "other-names": (
        "x.csv",
        "id,Image_Path,Target\n9,a.png,2\n8,b.png,0\n7,sub/c d.png,1\n",
        {},
        [2, 0, 1],
    ),
    "one-hot-by-order": (
        "x.csv",
        "image,MEL,NV,BCC\na.png,0.0,0.0,1.0\nb.png,1.0,0.0,0.0\nsub/c d.png,0,1,0\n",
        {},
        [2, 0, 1],
    ),
    "one-hot-by-name": (
        "x.csv",
        "image,MEL,NV,BCC,UNK\na.png,0,0,1,0\nb.png,1,0,0,0\nsub/c d.png,0,1,0,0\n",
        {"classes": ("bcc", "mel", "nv")},
        [0, 1, 2],
    ),
    "one-hot-of-pandas": (
        "x.csv",
        ",path,u,v,w\n0,a.png,False,False,True\n1,b.png,True,False,False\n"
        "2,sub/c d.png,False,True,False\n",
        {},
        [2, 0, 1],
    ),
    "one-hot-with-a-class-called-as-a-label": (
        "x.csv",
        "image,w,x,y\na.png,0,0,1\nb.png,1,0,0\nsub/c d.png,0,1,0\n",
        {},
        [2, 0, 1],
    ),
    "a-column-label-of-zeros-by-a-split": (
        "x.csv",
        "path,label,train,test\na.png,0,1,0\nb.png,0,1,0\nsub/c d.png,0,0,1\n",
        {},
        [0, 0, 0],
    ),
    "a-class-of-zeros-by-a-split": (
        "x.csv",
        "path,y,train,test\na.png,0,1,0\nb.png,0,1,0\nsub/c d.png,0,0,1\n",
        {},
        [0, 0, 0],
    ),
    "columns-by-name": (
        "x.csv",
        "foto,art,label\na.png,2,0\nb.png,0,0\nsub/c d.png,1,0\n",
        {"columns": Columns("foto", "ART")},
        [2, 0, 1],
    ),
}


def write(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


@pytest.mark.parametrize("read", [as_target, as_labels])
@pytest.mark.parametrize(("name", "content", "known", "wanted"), FILES.values(), ids=FILES)
def test_a_file_has_these_labels(pictures, read, name, content, known, wanted):
    found = read(write(pictures, name, content), **known)
    assert found.indices_N.tolist() == wanted


@pytest.mark.parametrize("row", ["semicolons", "tabs-in-csv", "commas-in-tsv", "floats"])
def test_a_table_reads_as_pandas_reads_it(pictures, row):
    pandas = pytest.importorskip("pandas")
    name, content, known, _ = FILES[row]
    table = pandas.read_csv(io.StringIO(content), sep=None, engine="python")
    path = next(name for name in ("path", "file", "filename") if name in table)
    label = next(name for name in ("label", "class") if name in table)
    expected = dict(zip(table[path], table[label].astype(int), strict=True))
    found = as_target(write(pictures, name, content), **known)
    assert found.indices_N.tolist() == [expected[name] for name in NAMES]


def test_a_sniffed_table_reads_as_pythons_csv_reads_it(pictures):
    name, content, known, _ = FILES["semicolons"]
    rows = csv.DictReader(io.StringIO(content), dialect=csv.Sniffer().sniff(content, ",;\t|"))
    expected = {row["path"]: int(row["label"]) for row in rows}
    found = as_labels(write(pictures, name, content), **known)
    assert found.indices_N.tolist() == [expected[name] for name in NAMES]


@pytest.mark.parametrize("read", [as_target, as_labels])
def test_ids_without_suffix_are_named_and_read(pictures, read):
    file = write(pictures, "ids/train.csv", "image_id,label\n3,1\n1,2\n2,0\n")
    options = {} if read is as_target else {"pictures": ("1.jpg", "2.jpg", "3.jpg")}
    with pytest.raises(AdabnError) as caught:
        read(file, **options)
    assert "--path-suffix .jpg" in caught.value.hint
    found = read(file, columns=Columns(path_suffix=".jpg"), **options)
    assert found.indices_N.tolist() == [2, 0, 1]


def test_parquet_has_the_same_columns_and_one_hot(pictures):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    for read in (as_target, as_labels):
        file = pictures / "x.parquet"
        write_table(arrow.table({"foto": list(NAMES), "art": [2.0, 0.0, 1.0]}), file)
        assert read(file, columns=Columns("foto", "art")).indices_N.tolist() == [2, 0, 1]
        bits = {"u": [0, 1, 0], "v": [0.0, 0.0, 1.0], "w": [True, False, False]}
        write_table(arrow.table({"image": list(NAMES), "bytes": [b"x"] * 3, **bits}), file)
        found = read(file)
        assert found.indices_N.tolist() == [2, 0, 1]
        assert found.classes == ("u", "v", "w")


def test_a_parquet_table_of_numbers_is_read(pictures):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    file = pictures / "x.parquet"
    write_table(arrow.table({"image": list(NAMES), "u": [0.5, None, 2.0], "v": [1, 2, 3]}), file)
    table = read_value_table(file, NAMES)
    assert table.names == ("u", "v")
    assert str(table.values_ND.tolist()) == "[[0.5, 1.0], [nan, 2.0], [2.0, 3.0]]"
    assert read_value_table(file, NAMES, columns=Columns(label="v")).values_ND.tolist() == [
        [1.0],
        [2.0],
        [3.0],
    ]


def test_metadata_of_a_folder_has_the_same_columns(pictures):
    lines = '{"bild": "a", "art": 2.0}\n{"bild": "b", "art": 0.0}\n'
    write(pictures, "metadata.jsonl", lines)
    columns = Columns("bild", "art", ".png")
    target = open_target(TargetRequest(pictures, GRAY, columns=columns))
    request = LabelRequest(pictures, n_outputs=3, listing=target.listing)
    labels = read_labels(target.pictures, request)
    assert dict(zip(target.pictures, labels.indices_N.tolist(), strict=True)) == {
        **dict.fromkeys(("ids/1.jpg", "ids/2.jpg", "ids/3.jpg", "sub/c d.png"), -1),
        "a.png": 2,
        "b.png": 0,
    }


def test_what_was_guessed_is_told(pictures):
    name, content, known, _ = FILES["latin-1"]
    notes = as_labels(write(pictures, name, content), **known).notes
    assert any("read as latin-1" in note for note in notes)
    target = open_target(TargetRequest(pictures / name, GRAY))
    assert "read as latin-1" in target.listing.notes[0]
    for read in (as_target, as_labels):
        name, content, known, _ = FILES["one-hot-by-order"]
        (note,) = read(write(pictures, name, content), **known).notes
        assert note == (
            "The one-hot columns are read as one label, and as classes in their order: "
            "0 = MEL, 1 = NV, 2 = BCC."
        )


@pytest.mark.parametrize("read", [as_target, as_labels])
def test_a_number_in_a_name_is_no_class(pictures, read):
    Image.new("L", (8, 8), 7).save(pictures / "scan 2", "PNG")
    Image.new("L", (8, 8), 7).save(pictures / "scan", "PNG")
    file = write(pictures, "list.txt", "scan 2\nscan 3\n")
    Image.new("L", (8, 8), 7).save(pictures / "scan 3", "PNG")
    if read is as_target:
        target = open_target(TargetRequest(file, GRAY, max_bad=0))
        assert target.pictures == ("scan 2", "scan 3")
        assert as_target(file).origin is None
    else:
        with pytest.raises(AdabnError, match="no class after the paths"):
            as_labels(file, ("scan 2", "scan 3"))


#: Name, content, known -> what the error says, and what its hint says.
ERRORS = {
    "half-a-list": ("v.txt", "a.png 2\nb.png\n", {}, "line 2: no class after the path", ""),
    "two-labels": ("x.csv", "path,label\na.png,1\na.png,2\n", {}, "line 3", ""),
    "fraction": ("x.csv", "path,label\na.png,2.5\nb.png,0.0\n", {}, "no whole number: 2.5", ""),
    "two-path-columns": (
        "x.csv",
        "image,file,label\na.png,b.png,1\n",
        {},
        "image and file could both be the path",
        "--path-column NAME",
    ),
    "two-label-columns": (
        "x.csv",
        "path,class,category\na.png,1,0\n",
        {},
        "class and category could both be the label",
        "--label-column NAME",
    ),
    "unknown-header": ("x.csv", "foto,art\na.png,1\n", {}, "(foto, art)", "--path-column NAME"),
    "no-such-column": (
        "x.csv",
        "foto,art\na.png,1\n",
        {"columns": Columns("photo")},
        "--path-column photo is not in the header (foto, art)",
        "--path-column NAME",
    ),
    "one-hot-of-others": (
        "x.csv",
        "path,u,v\na.png,1,0\nb.png,0,1\n",
        {"classes": ("u", "y", "z")},
        "v are not classes of the model",
        "--class-map FILE",
    ),
    "no-path": (
        "x.csv",
        "path,label\n,1\n",
        {"columns": Columns(path_suffix=".png")},
        "no path",
        "",
    ),
    "ragged": ("x.csv", "path;label\na.png;1;2\n", {}, "line 2: 3 fields", ""),
    "binary": ("x.csv", b"\x89PNG\0\xff", {}, "no text", "UTF-8"),
}


@pytest.mark.parametrize("read", [as_target, as_labels])
@pytest.mark.parametrize(("name", "content", "known", "what", "hint"), ERRORS.values(), ids=ERRORS)
def test_a_file_that_is_not_understood_says_why(pictures, read, name, content, known, what, hint):
    with pytest.raises(AdabnError) as caught:
        read(write(pictures, name, content), **known)
    assert what in caught.value.what
    assert hint in caught.value.hint
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("known", "reason"),
    [({}, "not as many as the model's outputs"), ({"classes": ("x", "y", "z")}, "named like none")],
)
def test_columns_of_0_and_1_may_be_of_something_else(pictures, known, reason):
    file = write(pictures, "x.csv", "path,day,night\na.png,1,0\nb.png,0,1\n")
    found = as_target(file, **known)
    assert found.origin is None
    assert reason in found.notes[0]
    with pytest.raises(AdabnError, match=reason):
        as_labels(file, **known)


def test_several_ones_in_a_row_are_no_class(pictures):
    file = write(pictures, "x.csv", "path,u,v\na.png,1,1\nb.png,0,1\n")
    with pytest.raises(AdabnError, match="line 2 has no single 1 in the columns u, v"):
        as_labels(file, n_outputs=2)
    table = read_value_table(file, NAMES, allowed=(0.0, 1.0))
    assert table.values_ND[:2].tolist() == [[1, 1], [0, 1]]


def test_a_table_of_numbers_takes_the_same_columns(pictures):
    file = write(pictures, "x.csv", "bild;alter;ort\na;2.5;x\nb;1;y\n".encode("utf-16"))
    columns = Columns("bild", "alter", ".png")
    table = read_value_table(file, NAMES[:2], columns=columns)
    assert table.names == ("alter",)
    assert table.values_ND.tolist() == [[2.5], [1.0]]
    with pytest.raises(AdabnError) as caught:
        read_value_table(file, NAMES[:2], columns=Columns("bild", "alter"))
    assert caught.value.hint == "Give --path-suffix .png."


def test_labels_that_fit_no_picture_show_one_of_each(pictures):
    file = write(pictures, "x.csv", "path,label\nother/a.png,1\n")
    with pytest.raises(AdabnError) as caught:
        as_labels(file)
    assert "such as a.png" in caught.value.what
    assert "other/a.png" in caught.value.what


PLACES = {"adapt": "-t", "evaluate": "-d", "profile": "-s", "collect": "-t"}


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (("--labels", "gone.csv"), 3, "gone.csv"),
        (("--class-map", "gone.json"), 3, "gone.json"),
        (("--path-column", "image"), 2, "--path-column image is for tables"),
        (("--label-column", "y"), 2, "--label-column y is for tables"),
        (("--path-suffix", ".jpg"), 2, "--path-suffix .jpg is for tables"),
        (("--path-suffix", "jpg"), 2, "Write --path-suffix .jpg"),
        (("--max-pixels", "many"), 2, "Write --max-pixels 200M"),
    ],
)
def test_commands_refuse_before_the_model_is_opened(pictures, command, name, options, code, told):
    shard = ("--shard", "1/2") if name == "collect" else ()
    done = command(name, "no-model.pt", PLACES[name], pictures / "sub", *shard, *options)
    assert (done.code, told in " ".join(done.err.split())) == (code, True)


def test_a_command_reads_a_table_by_name(command, sample_data, pictures):
    folder = sample_data / "target"
    files = [f for one in sorted(folder.iterdir()) for f in sorted(one.iterdir())[:2]]
    rows = [f"{file.with_suffix('')};{file.parent.name}.0;x" for file in files]
    write(pictures, "t.csv", "\n".join(["bild;art;label", *rows]))
    columns = ("--path-column", "bild", "--label-column", "art", "--path-suffix", ".png")
    model = sample_data / "digits_bn.pt"
    done = command("evaluate", model, "-d", "t.csv", *columns, "-q")
    write(
        pictures, "plain.csv", "\n".join(["path,label", *(f"{f},{f.parent.name}" for f in files)])
    )
    plain = command("evaluate", model, "-d", "plain.csv", "-q")
    assert done.code == plain.code == 0
    assert done.out == plain.out


def test_pictures_that_are_too_large_are_counted_and_can_be_read(pictures, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 25)  # Pillow refuses from twice as many on.
    with pytest.raises(AdabnError) as caught:
        open_target(TargetRequest(pictures, GRAY, max_bad=1))
    assert "1 million pixels, more than --max-pixels allows" in caught.value.what
    assert "6 are too large" in caught.value.hint
    assert "--max-pixels 1M" in caught.value.hint
    target = open_target(TargetRequest(pictures, GRAY, max_pixels=64))
    assert len(target.pictures) == 6
    assert Image.MAX_IMAGE_PIXELS == 25
    monkeypatch.undo()
    assert open_target(TargetRequest(pictures, GRAY)).fingerprint == target.fingerprint


def test_masks_and_what_arrives_have_the_same_limit(pictures, monkeypatch):
    Image.new("L", (8, 8), 1).save(pictures / "sub" / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 25)
    given = (pictures / "sub", ("a.png",), ((8, 8),), GRAY)
    with pytest.raises(AdabnError, match="more than --max-pixels allows"):
        read_masks(*given)
    assert read_masks(*given, max_pixels=64).values == {1}
    picture = (lambda: (pictures / "a.png").open("rb"), GRAY, None)
    assert "more than --max-pixels allows" in decode(*picture).reason
    with up_to(64):
        assert decode(*picture, 64).size == (8, 8)
    assert "more than --max-pixels allows" in decode(*picture, 63).reason


def test_a_lower_limit_holds_and_failures_put_the_limit_back(pictures):
    own = Image.MAX_IMAGE_PIXELS
    for most in (63, 10**9):
        write(pictures, "broken.png", b"x")
        with pytest.raises(AdabnError):
            open_target(TargetRequest(pictures, GRAY, max_pixels=most, max_bad=0))
        assert own == Image.MAX_IMAGE_PIXELS


def test_labels_that_maps_and_boxes_cannot_use_are_refused(pictures):
    file = write(pictures, "x.csv", "path,label\na.png,0\n")
    asked = TruthRequest(task="segmentation", labels=str(file), masks=None)
    with pytest.raises(AdabnError, match="--labels FILE is for classes") as caught:
        read_truth(asked, open_target(TargetRequest(pictures, GRAY)), None, torch.zeros(1, 2, 8, 8))
    assert caught.value.exit_code == 2
