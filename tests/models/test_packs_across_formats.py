"""A pack measured on a checkpoint goes into every graph that was made of it, and out again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from graph_contract import adapted, network, pictures, read, silence
from torch import Tensor, nn

from adabn_cli.adaptation.fingerprint import fingerprint, learned_values
from adabn_cli.adaptation.packs import Pack, put_in, read_pack, take_out
from adabn_cli.cli.boundary import run
from adabn_cli.errors import ModelError
from adabn_cli.model import Model, statistics_of
from adabn_cli.models.live.module import EagerModel

SIZE = 32
Export = Callable[[nn.Module, Path], Path]


class Deployed(nn.Module):
    """A net as it is deployed: with its preprocessing in it, and all its layers' names longer."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, K]."""
        logits: Tensor = self.net(x - self.mean + self.mean)
        return logits


def example() -> Tensor:
    return torch.zeros(2, 3, SIZE, SIZE)


def exported(module: nn.Module, folder: Path) -> Path:
    dynamic = ({0: torch.export.Dim.DYNAMIC},)
    with silence():
        program = torch.export.export(module, (example(),), dynamic_shapes=dynamic)
        torch.export.save(program, folder / "model.pt2")
    return folder / "model.pt2"


def scripted(module: nn.Module, folder: Path) -> Path:
    with silence():
        torch.jit.script(module).save(str(folder / "model.pt"))
    return folder / "model.pt"


def traced(module: nn.Module, folder: Path) -> Path:
    with silence():
        torch.jit.trace(module, example()).save(str(folder / "model.pt"))
    return folder / "model.pt"


def onnx_by_tracing(module: nn.Module, folder: Path) -> Path:
    keeps: dict[str, Any] = {"dynamo": False, "do_constant_folding": False}
    return _onnx(module, folder, dynamic_axes={"x": {0: "n"}}, **keeps)


def onnx_by_dynamo(module: nn.Module, folder: Path) -> Path:
    dynamic = ({0: torch.export.Dim.DYNAMIC},)
    keeps: dict[str, Any] = {"dynamo": True, "optimize": False, "verbose": False}
    return _onnx(module, folder, dynamic_shapes=dynamic, **keeps)


def _onnx(module: nn.Module, folder: Path, **options: Any) -> Path:
    path = folder / "model.onnx"
    with silence():
        torch.onnx.export(module, (example(),), str(path), input_names=["x"], **options)
    return path


def onnx_renamed(module: nn.Module, folder: Path) -> Path:
    """As some exporters write it: every tensor and node by a number."""
    path = onnx_by_tracing(module, folder)
    proto = onnx.load(path)
    new = {x.name: f"onnx::{n}" for n, x in enumerate(proto.graph.initializer)}
    for tensor in proto.graph.initializer:
        tensor.name = new[tensor.name]
    for place, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type}_{place}"
        node.input[:] = [new.get(name, name) for name in node.input]
        if node.op_type == "Identity":  # Equal tensors were shared: their other names too.
            new[node.output[0]] = f"onnx::i{place}"
            node.output[0] = new[node.output[0]]
    onnx.save(proto, path)
    return path


EXPORTS: dict[str, Export] = {
    "pt2": exported,
    "scripted": scripted,
    "traced": traced,
    "onnx by tracing": onnx_by_tracing,
    "onnx by dynamo": onnx_by_dynamo,
    "onnx with numbers for names": onnx_renamed,
    "pt2 of a wrapper": lambda module, folder: exported(Deployed(module).eval(), folder),
    "traced wrapper": lambda module, folder: traced(Deployed(module).eval(), folder),
    "onnx of a wrapper": lambda module, folder: onnx_by_tracing(Deployed(module).eval(), folder),
}


@pytest.fixture(scope="module")
def module() -> nn.Module:
    """A ResNet-18 of 7 classes."""
    return network("resnet18")


@pytest.fixture(scope="module")
def checkpoint(module: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a bare state dict."""
    path = tmp_path_factory.mktemp("checkpoint") / "resnet18.pth"
    torch.save(module.state_dict(), path)
    return path


def pack_of(model: Model, images: Tensor) -> Pack:
    """The pack that adapting writes; the model is adapted after."""
    source = statistics_of(model)
    target, _ = adapted(model, images)
    return Pack(
        fingerprint=fingerprint(model),
        architecture=model.architecture,
        target=target,
        source=source,
        images=len(images),
        sites=tuple(site.name for site in model.sites),
        learned=learned_values(model),
    )


@pytest.fixture(scope="module")
def pack(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pack of the checkpoint."""
    path = tmp_path_factory.mktemp("pack") / "pack.safetensors"
    path.write_bytes(pack_of(read(checkpoint), pictures(8, SIZE)).as_bytes())
    return path


@pytest.fixture(scope="module")
def live(checkpoint: Path, pack: Path) -> Model:
    """The checkpoint with the pack in it."""
    model = read(checkpoint)
    put_in(read_pack(pack), model)
    return model


@pytest.mark.parametrize("name", EXPORTS)
def test_the_pack_of_a_checkpoint_goes_into_its_exports_and_out_again(
    name: str, module: nn.Module, pack: Path, live: Model, tmp_path: Path
) -> None:
    path = EXPORTS[name](module, tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    inside, back = tmp_path / "in" / path.name, tmp_path / "out" / path.name
    assert run(["apply", str(path), str(pack), "-q", "-o", str(inside)]) == 0
    images = pictures(4, SIZE)
    expected, found = live.forward(images), read(inside).forward(images)
    assert isinstance(expected, Tensor)
    assert isinstance(found, Tensor)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    before = read(path).forward(images)
    assert isinstance(before, Tensor)
    assert not torch.allclose(before, expected, rtol=1e-2)
    assert run(["apply", str(inside), str(pack), "--revert", "-q", "-o", str(back)]) == 0
    for file in back.parent.iterdir():
        assert file.read_bytes() == (path.parent / file.name).read_bytes()
    assert {file.name for file in back.parent.iterdir()} == {
        file.name for file in path.parent.iterdir() if file.is_file()
    }


def test_an_onnx_export_with_the_pack_predicts_what_the_adapted_checkpoint_does(
    module: nn.Module, pack: Path, live: Model, tmp_path: Path
) -> None:
    path, out = onnx_renamed(module, tmp_path), tmp_path / "adapted.onnx"
    assert run(["apply", str(path), str(pack), "-q", "-o", str(out)]) == 0
    onnx.checker.check_model(out)
    images = pictures(1000, SIZE)
    with_it, without = (
        onnxruntime.InferenceSession(str(file)).run(None, {"x": images.numpy()})[0].argmax(1)
        for file in (out, path)
    )
    logits = [live.forward(chunk) for chunk in images.split(250)]
    expected = torch.cat([x for x in logits if isinstance(x, Tensor)]).argmax(1).numpy()
    assert len(np.unique(expected)) > 1
    assert (with_it == expected).mean() >= 0.999
    assert (without == expected).mean() < 0.9


def test_the_bytes_of_a_pack_do_not_depend_on_the_container(
    module: nn.Module, pack: Path, tmp_path: Path
) -> None:
    known = read_pack(pack)
    for export in (exported, traced):
        found = pack_of(read(export(module, tmp_path)), pictures(8, SIZE))
        # What a network is called is the one thing that a graph does not know.
        renamed = Pack(**{**vars(found), "architecture": known.architecture})
        assert renamed.as_bytes() == pack.read_bytes()


def test_the_pack_of_an_export_goes_into_the_checkpoint(
    module: nn.Module, checkpoint: Path, tmp_path: Path
) -> None:
    found = pack_of(read(onnx_renamed(module, tmp_path)), pictures(8, SIZE))
    model = read(checkpoint)
    before = statistics_of(model)
    put_in(found, model)
    placed = sorted(float(x.double().sum()) for x in statistics_of(model).values())
    wanted = sorted(float(x.double().sum()) for x in found.target.values())
    assert placed == wanted
    take_out(found, model)
    assert all(torch.equal(before[place], value) for place, value in statistics_of(model).items())


def test_an_export_of_other_weights_is_refused(
    module: nn.Module, pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = network("resnet18")
    with torch.no_grad():
        other.layer4[1].conv2.weight[0, 0] += 0.01  # type: ignore[union-attr,index]
    for export, told in ((onnx_by_tracing, "other weights"), (onnx_renamed, "its sites")):
        path, out = export(other, tmp_path), tmp_path / "out.onnx"
        assert run(["apply", str(path), str(pack), "-o", str(out)]) == 3
        assert told in " ".join(capsys.readouterr().err.split())
        assert not out.exists()


class WithHead(nn.Module):
    """A net with a head that only training uses."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.aside = nn.Sequential(nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5))
        self.top = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6))

    def forward(self, x: Tensor) -> Tensor:
        """What the top gives [N, 6, H, W]."""
        top: Tensor = self.top(self.body(x))
        return top


def test_a_head_that_the_export_lacks_is_not_missed(tmp_path: Path) -> None:
    module = WithHead().eval()
    model = EagerModel(module)
    known = pack_of(model, pictures(8, SIZE))
    visited = ("body.1", "top.1")
    parts = {
        side: {place: x for place, x in getattr(known, side).items() if place[0] in visited}
        for side in ("target", "source")
    }
    found = Pack(**{**vars(known), **parts, "sites": visited})
    graph = read(onnx_by_tracing(WithHead().eval(), tmp_path))
    assert [site.name for site in graph.sites] == list(visited)
    put_in(found, graph)
    assert all(torch.equal(found.target[place], x) for place, x in statistics_of(graph).items())


def alike(count: int) -> nn.Module:
    """Layers whose normalizers hold the same: as they were made."""
    torch.manual_seed(0)
    layers = [layer for _ in range(count) for layer in (nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))]
    return nn.Sequential(*layers).eval()


def test_sites_that_hold_the_same_are_taken_in_order(tmp_path: Path) -> None:
    known = pack_of(EagerModel(alike(3)), pictures(8, SIZE))
    wrapped = EagerModel(Deployed(alike(3)))
    put_in(known, wrapped)
    found = statistics_of(wrapped)
    for name, role in known.target:
        assert torch.equal(found[f"net.{name}", role], known.target[name, role])


def test_sites_that_cannot_be_told_apart_are_refused() -> None:
    known = pack_of(EagerModel(alike(3)), pictures(8, SIZE))
    some = {side: dict(list(getattr(known, side).items())[:2]) for side in ("target", "source")}
    one_of_three = Pack(**{**vars(known), **some})
    of_unknown_order = Pack(**{**vars(known), "sites": ()})
    for pack in (one_of_three, of_unknown_order):
        wrapped = EagerModel(Deployed(alike(3)))
        before = statistics_of(wrapped)
        with pytest.raises(ModelError, match="cannot be matched by the statistics"):
            put_in(pack, wrapped)
        assert all(torch.equal(before[place], x) for place, x in statistics_of(wrapped).items())


def test_a_pack_of_before_still_goes_into_its_model(checkpoint: Path, pack: Path) -> None:
    """Packs once held neither the order of the sites nor hashes of single tensors."""
    old = Pack(**{**vars(read_pack(pack)), "sites": (), "learned": frozenset()})
    model = read(checkpoint)
    put_in(old, model)
    assert all(torch.equal(old.target[place], x) for place, x in statistics_of(model).items())
    take_out(old, model)
    assert all(torch.equal(old.source[place], x) for place, x in statistics_of(model).items())
