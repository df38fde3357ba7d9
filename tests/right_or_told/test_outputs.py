"""What gives way to a report, what a dry run needs, how adapted models are called, and data files
that are not the graph's."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from adabn_cli.errors import ModelError
from adabn_cli.files import full_suffix
from adabn_cli.jobs.adapt import prepare
from adabn_cli.models.open import ModelRequest, open_model

_RENDERINGS = ("--html", "--md", "--junit", "--openmetrics", "--model-card")


@pytest.fixture
def few(sample_data, tmp_path) -> Path:
    """Six pictures of a class."""
    for number, file in enumerate(sorted((sample_data / "target" / "3").iterdir())[:6]):
        (tmp_path / "few").mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / f"few/{number}.png")
    return Path("few")


@pytest.mark.parametrize("option", _RENDERINGS)
def test_a_report_replaces_an_earlier_one_of_its_kind_and_nothing_else(command, project, option):
    run = project / "tests/records/schema_1.json"
    assert command("report", run, option, "file").code == 0
    written = Path("file").read_bytes()
    assert command("report", run, option, "file").code == 0
    assert Path("file").read_bytes() == written
    own = "# My net\n\nYears of work.\n\n"
    for other in (own, "x" * 1001 + written.decode(), f"{own}## Domain adaptation\n"):
        Path("file").write_text(other)
        done = command("report", run, option, "file")
        assert (done.code, "remove this one" in done.err) == (2, True)
        assert Path("file").read_text() == other
    Path("empty").touch()
    assert command("report", run, option, "empty").code == 0


def test_own_words_above_a_pasted_rendering_stay(command, project):
    run = project / "tests/records/schema_1.json"
    for option in ("--md", "--model-card"):
        assert command("report", run, option, f"section{option}").code == 0
        page = "# My net\n\nYears of work.\n\n" + Path(f"section{option}").read_text()
        Path("README.md").write_text(page)
        assert command("report", run, option, "README.md").code == 2
        assert Path("README.md").read_text() == page


@pytest.mark.parametrize("name", ["a" * 300, "a" * 300 + "/b"])
def test_a_name_that_is_too_long_is_an_error_and_no_bug(command, sample_data, few, name):
    model = sample_data / "digits_bn.pt"
    for given in (
        ("adapt", model, "-t", few, "-o", name),
        ("convert", model, "-o", f"{name}.safetensors"),
        ("profile", model, "--source", few, "-o", name),
        ("report", sample_data.parent / "tests/records/schema_1.json", "--md", name),
    ):
        done = command(*given)
        assert (done.code, "cannot be written" in done.err) == (3, True), given


def test_the_settings_of_the_folder_are_an_input(command, sample_data, few):
    Path("adabn.toml").write_text("seed = 3\n")
    model = sample_data / "digits_bn.pt"
    done = command("profile", model, "--source", few, "-o", "adabn.toml", "--force")
    assert (done.code, "An input is never overwritten" in done.err) == (2, True)
    assert Path("adabn.toml").read_text() == "seed = 3\n"


def test_a_dry_run_needs_no_force_and_touches_nothing(command, sample_data, few):
    Path("run").mkdir()
    Path("run/thesis.tex").write_text("years of work")
    before = sorted(Path().rglob("*"))
    given = ("adapt", sample_data / "digits_bn.pt", "-t", few, "-o", "run")
    for more in ((), ("--until-converged", "0.1")):
        assert command(*given, "--dry-run", *more).code == 0
    assert command(*given).code == 2
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("best.pth.tar", ".pth.tar"),
        ("best.pt", ".pt"),
        ("resnet18.v2.pth", ".pth"),
        ("epoch.12.tar", ".tar"),
        ("best", ""),
    ],
)
def test_a_suffix_is_what_people_call_it(name, suffix):
    assert full_suffix(Path(name)) == suffix


def test_a_pth_tar_leaves_as_one(command, sample_data, few):
    shutil.copy(sample_data / "digits_bn.pt", "best.pth.tar")
    done = command("adapt", "best.pth.tar", "-t", few, "-q")
    assert done.code == 0, done.err
    run = Path(done.out.strip())
    assert run.name.endswith("-best-few")
    assert (run / "model.pth.tar").is_file()
    converted = command("convert", "best.pth.tar", "-o", "state.pth.tar")
    assert converted.code == 0, converted.err


def test_rounds_open_the_model_once(command, sample_data, monkeypatch):
    opened = []

    def counted(request: ModelRequest):
        opened.append(request.path)
        return open_model(request)

    monkeypatch.setattr(prepare, "open_model", counted)
    given = ("adapt", sample_data / "digits_bn.pt", "-t", sample_data / "target", "--max-images")
    done = command(*given, 130, "--until-converged", "0.001", "-o", "run", "-q")
    assert done.code == 0, done.err
    assert len(opened) == 1


def _graph(folder: Path) -> onnx.ModelProto:
    """A BatchNorm of 8 channels, whose tensors lie in `w.bin`, 32 bytes each; saved there."""
    names = ("scale", "bias", "mean", "var")
    values = np.linspace(0.5, 1.5, 8, dtype=np.float32)
    held = [onnx.numpy_helper.from_array(values + i, name) for i, name in enumerate(names)]
    node = onnx.helper.make_node("BatchNormalization", ["x", *names], ["y"])
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 8, 4, 4])
        for name in "xy"
    ]
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:], held)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save_model(
        *(model, folder / "g.onnx"), save_as_external_data=True, location="w.bin", size_threshold=0
    )
    return onnx.load(folder / "g.onnx", load_external_data=False)


def _said(model: onnx.ModelProto, tensor: int, **words: object) -> None:
    """Says other words of where a tensor lies."""
    held = model.graph.initializer[tensor]
    said = {item.key: item.value for item in held.external_data} | words
    del held.external_data[:]
    for key, value in said.items():
        held.external_data.add(key=key, value=str(value))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"length": 16}, "takes 32 bytes, and 16 are named for it"),
        ({"offset": 1 << 40}, "of a file of"),
        ({"offset": 4}, "share some of its bytes"),
        ({"offset": -4}, "is not known"),
        ({"offset": "here"}, "is not known"),
        ({"checksum": "0" * 40}, "checksum"),
    ],
    ids=str,
)
def test_a_data_file_that_is_not_the_graphs_is_an_error(tmp_path, words, told):
    model = _graph(tmp_path)
    _said(model, 1, **words)
    onnx.save_model(model, tmp_path / "g.onnx")
    with pytest.raises(ModelError, match=told):
        open_model(ModelRequest(tmp_path / "g.onnx"))


def test_a_data_file_that_was_cut_or_is_longer_is_told(tmp_path):
    _graph(tmp_path)
    data = tmp_path / "w.bin"
    whole = data.read_bytes()
    data.write_bytes(whole[:-8])
    with pytest.raises(ModelError, match="is not the one of this graph"):
        open_model(ModelRequest(tmp_path / "g.onnx"))
    data.write_bytes(whole + bytes(100))
    notes = open_model(ModelRequest(tmp_path / "g.onnx")).notes
    assert [note for note in notes if "100 bytes more" in note]


def test_the_right_checksum_and_padding_are_no_matter(tmp_path):
    model = _graph(tmp_path)
    data = tmp_path / "w.bin"
    data.write_bytes(data.read_bytes().ljust(4096, b"\0"))
    _said(model, 0, checksum=hashlib.sha1(data.read_bytes()).hexdigest())
    onnx.save_model(model, tmp_path / "g.onnx")
    opened = open_model(ModelRequest(tmp_path / "g.onnx"))
    assert not [note for note in opened.notes if "bytes more" in note]
    np.testing.assert_array_equal(
        opened.model.state()["mean"].numpy(), np.linspace(0.5, 1.5, 8, dtype=np.float32) + 2
    )
