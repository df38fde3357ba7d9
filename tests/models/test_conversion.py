"""`adabn convert`: the same network in another format, which adapts as before."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
import torch
from graph_contract import adapted, network, pictures, read, require_same, silence
from safetensors import safe_open
from torch import nn

from adabn_cli.adaptation.fingerprint import fingerprint
from adabn_cli.cli.boundary import run
from adabn_cli.errors import ModelError, UsageError
from adabn_cli.jobs.convert import Converted, convert
from adabn_cli.model import statistics_of
from adabn_cli.models.formats.exported_program import ExportedProgram
from adabn_cli.models.open import ModelRequest, open_model

SIZE = (32, 32)


def converted(source: Path, out: Path, **said: str) -> Converted:
    return convert(ModelRequest(source, **said), out, size=SIZE, force=False)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("resnet") / "model.pth"
    # With its name: without one, two networks of the same keys are run and compared.
    state = network("resnet18").state_dict()
    torch.save({"state_dict": state, "arch": "torchvision:resnet18"}, path)
    return path


@pytest.mark.parametrize("ending", [".pth", ".safetensors", ".pt2", ".onnx"])
def test_adapted_then_converted_is_converted_then_adapted(
    ending: str, resnet: Path, tmp_path: Path
) -> None:
    images = pictures(size=32)
    first, second = tmp_path / f"first{ending}", tmp_path / f"second{ending}"
    model = read(resnet)
    expected, outputs = adapted(model, images)
    model.save(tmp_path / "adapted.pth")
    done = converted(tmp_path / "adapted.pth", first)
    assert done.sites == 20
    assert done.difference is not None
    assert done.difference < 1e-5
    converted(resnet, second)
    again = read(second)
    assert fingerprint(again) == fingerprint(model)
    found, found_outputs = adapted(again, images)
    stored = statistics_of(read(first))
    if ending == ".onnx":
        onnx.checker.check_model(second)
        for place, value in expected.items():
            torch.testing.assert_close(found[place], value, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found_outputs, outputs, rtol=1e-4, atol=1e-4)
    else:
        require_same(found, expected)
        assert torch.equal(found_outputs, outputs)
    require_same(stored, expected)


@pytest.mark.parametrize("source", ["script.pt", "program.pt2"])
def test_a_graph_gives_its_state_dict_back(source: str, resnet: Path, tmp_path: Path) -> None:
    path = tmp_path / source
    if source == "script.pt":
        with silence():
            torch.jit.script(network("resnet18")).save(str(path))
    else:
        converted(resnet, path)
    done = converted(path, tmp_path / "back.safetensors")
    assert done.difference is not None
    back, first = read(tmp_path / "back.safetensors").state(), read(resnet).state()
    assert back.keys() == first.keys()
    assert all(torch.equal(back[key], first[key]) for key in first)
    with pytest.raises(ModelError, match="another graph") as caught:
        converted(path, tmp_path / "graph.onnx")
    assert f"adabn convert {source} -o weights.pth" in caught.value.hint
    assert not (tmp_path / "graph.onnx").exists()


class Buffered(nn.Module):
    """A buffer that no state dict has, one that every state dict has, and shared weights."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 3, 1)
        self.two = nn.Conv2d(3, 3, 1)
        self.two.weight = self.one.weight
        self.bn = nn.BatchNorm2d(3)
        self.register_buffer("scale", torch.ones(3, 1, 1), persistent=False)
        self.register_buffer("shift", torch.ones(3, 1, 1))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits in a dict."""
        x = self.bn(self.two(self.one(x))) * self.scale + self.shift
        return {"aux": x, "logits": x.mean([2, 3])}


NETS = """
from test_conversion import Buffered
"""


def test_a_network_of_ones_own_goes_through_every_format(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Buffered().eval()
    torch.save(module.state_dict(), tmp_path / "a.pth")
    (tmp_path / "nets.py").write_text(NETS)
    arch = f"{tmp_path}/nets.py:Buffered"
    for ending in (".pt2", ".onnx", ".safetensors"):
        done = converted(tmp_path / "a.pth", tmp_path / f"b{ending}", arch=arch)
        assert done.difference is not None
        assert done.difference < 1e-6
    done = converted(tmp_path / "b.pt2", tmp_path / "c.pth")
    assert done.difference is None  # Nobody said what network the entries belong to.
    saved = torch.load(tmp_path / "c.pth", weights_only=True)["state_dict"]
    assert saved.keys() == module.state_dict().keys()
    # As the entries are those of the module, it takes them back.
    module.load_state_dict(saved)


def test_preprocessing_and_classes_go_along(sample_data: Path, tmp_path: Path) -> None:
    source = read(sample_data / "digits_bn.pt")
    assert source.preprocessing is not None
    for ending in (".pt2", ".onnx"):
        out = tmp_path / f"digits{ending}"
        convert(ModelRequest(sample_data / "digits_bn.pt"), out, size=None, force=False)
        model = read(out)
        assert model.preprocessing is not None
        assert model.preprocessing.mean == source.preprocessing.mean
        assert model.preprocessing.size == source.preprocessing.size
        assert list(model.classes or ()) == list(source.classes or ())
        assert len(list(model.suspended(torch.zeros(5, 1, *source.preprocessing.size)))) == 4
    out = tmp_path / "digits.safetensors"
    convert(ModelRequest(sample_data / "digits_bn.pt"), out, size=None, force=False)
    with safe_open(out, "pt") as file:
        assert json.loads(file.metadata()["adabn"])["preprocessing"]["size"] == [16, 16]


@pytest.mark.parametrize("name", ["digits_renorm", "digits_wn"])
def test_what_a_graph_would_lose_is_not_converted_to_one(
    name: str, sample_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="Only BatchNorm stays") as caught:
        converted(sample_data / f"{name}.pt", tmp_path / "a.pt2")
    assert ".safetensors" in caught.value.hint


def test_a_file_with_other_outputs_is_not_written(
    resnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = ExportedProgram.exported

    def off(known: ExportedProgram, module: nn.Module, images: torch.Tensor, said: str) -> bytes:
        with torch.no_grad():
            module.fc.bias.add_(1)  # type: ignore[union-attr, operator]
        return plain(known, module, images, said)

    monkeypatch.setattr(ExportedProgram, "exported", off)
    with pytest.raises(ModelError, match="other outputs") as caught:
        converted(resnet, tmp_path / "a.pt2")
    assert caught.value.where == str(tmp_path / "a.pt2")
    assert not list(tmp_path.iterdir())


def test_an_export_that_folds_is_not_written(
    resnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.onnx.TrainingMode, "PRESERVE", torch.onnx.TrainingMode.EVAL)
    plain = torch.onnx.export

    def folding(*given: object, **options: object) -> object:
        return plain(*given, **{**options, "do_constant_folding": True})  # type: ignore[arg-type]

    monkeypatch.setattr(torch.onnx, "export", folding)
    with pytest.raises(ModelError, match="the model has 20"):
        converted(resnet, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_outputs_that_are_taken_or_unknown_are_refused(resnet: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken.pth"
    taken.touch()
    for out, told in ((resnet, "never overwritten"), (taken, "exists"), (tmp_path / "a", "format")):
        with pytest.raises(UsageError, match=told):
            converted(resnet, out)
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(UsageError, match="folder"):
        converted(resnet, tmp_path / "folder.pth")
    with pytest.raises(ModelError, match="ONNX graph cannot be converted"):
        converted(Path(convert_digits(tmp_path)), tmp_path / "b.pth")


def convert_digits(folder: Path) -> Path:
    torch.save(Buffered().state_dict(), folder / "own.pth")
    (folder / "nets.py").write_text(NETS)
    arch = f"{folder}/nets.py:Buffered"
    converted(folder / "own.pth", folder / "own.onnx", arch=arch)
    return folder / "own.onnx"


def test_a_graph_without_a_size_asks_for_it(tmp_path: Path) -> None:
    torch.save(Buffered().state_dict(), tmp_path / "own.pth")
    (tmp_path / "nets.py").write_text(NETS)
    request = ModelRequest(tmp_path / "own.pth", arch=f"{tmp_path}/nets.py:Buffered")
    with pytest.raises(UsageError, match="size") as caught:
        convert(request, tmp_path / "own.pt2", size=None, force=False)
    assert "--img-size" in caught.value.hint


def test_the_command_says_what_was_compared(
    sample_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "digits.pt2"
    assert run(["convert", str(sample_data / "digits_bn.pt"), "-o", str(out)]) == 0
    assert "4 sites; outputs differ by 0 of the largest" in capsys.readouterr().out
    again = ["convert", str(sample_data / "digits_bn.pt"), "-o", str(out), "--force"]
    assert run([*again, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["difference"] == 0.0
    assert run([*again, "-q"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert open_model(ModelRequest(out)).model.architecture
