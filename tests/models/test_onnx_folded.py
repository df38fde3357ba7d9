"""ONNX graphs with BatchNorm folded away, held against the checkpoint from before the fold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from graph_contract import adapted, pictures, read, shaken, silence
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from adabn_cli.adaptation.fingerprint import fingerprint
from adabn_cli.cli.boundary import run
from adabn_cli.errors import ModelError
from adabn_cli.model import Model
from adabn_cli.models.live.module import EagerModel
from adabn_cli.models.open import ModelRequest, open_model
from adabn_cli.record import Record

SIZE = 64


def trained(module: nn.Module) -> nn.Module:
    """The module as training leaves it: no two channels alike, some of them almost silent."""
    shaken(module)
    generator = torch.Generator().manual_seed(3)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            with torch.no_grad():
                layer.weight.uniform_(0.5, 1.5, generator=generator)
                layer.weight[0] *= -1
                layer.bias.normal_(0, 0.2, generator=generator)
    return module


def export(module: nn.Module, path: Path) -> Path:
    """As torch.onnx.export writes it by default: folded."""
    axes = {"x": {0: "n"}}
    with silence():
        torch.onnx.export(
            module,
            (torch.zeros(2, 3, SIZE, SIZE),),
            str(path),
            input_names=["x"],
            dynamo=False,
            dynamic_axes=axes,
        )
    return path


def opened(path: Path, reference: Path) -> Model:
    return open_model(ModelRequest(path, reference=reference)).model


def checkpoint(module: nn.Module, path: Path) -> Path:
    """Its tensors, in the format that the name says."""
    state = {key: value.contiguous() for key, value in module.state_dict().items()}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 3}, path)
    return path


def deployed(path: Path, images: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(str(path))
    return torch.from_numpy(session.run(None, {"x": images.numpy()})[0])


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_a_folded_export_adapts_as_the_unfolded_network_does(name: str, tmp_path: Path) -> None:
    import torchvision

    torch.manual_seed(0)
    module = trained(torchvision.models.get_model(name, weights=None, num_classes=7))
    path = export(module, tmp_path / "model.onnx")
    live = EagerModel(module)
    model = opened(path, checkpoint(module, tmp_path / "model.pth"))
    assert [site.channels for site in model.sites] == [site.channels for site in live.sites]
    assert {site.kind for site in model.sites} == {"folded_batch_norm"}
    images = pictures(16, SIZE)
    _, expected = adapted(live, images)
    _, found = adapted(model, images)
    scale = float(expected.std())
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * scale)
    assert not torch.allclose(deployed(path, images), expected, atol=0.1 * scale)
    (tmp_path / "out").mkdir()
    model.save(tmp_path / "out" / "model.onnx")
    onnx.checker.check_model(tmp_path / "out" / "model.onnx")
    torch.testing.assert_close(
        deployed(tmp_path / "out" / "model.onnx", images), expected, rtol=1e-3, atol=1e-3 * scale
    )


def small(*, silent: bool = False) -> nn.Sequential:
    """Every kind of layer that a normalizer is folded into."""
    torch.manual_seed(0)
    net = trained(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8, eps=1e-3),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
            nn.BatchNorm2d(8),
            nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2),
            nn.BatchNorm2d(6),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(96, 5),
            nn.BatchNorm1d(5),
            nn.Linear(5, 5),
        )
    )
    if silent:
        with torch.no_grad():
            net[0].weight[3] = 0  # type: ignore[union-attr,operator]
            net[0].weight[4] *= 1e-6  # type: ignore[union-attr,operator]
            net[1].running_var[3:5] = 1e-12  # type: ignore[union-attr,operator,index]
            net[4].weight[2] = 0  # type: ignore[union-attr,operator]
    assert isinstance(net, nn.Sequential)
    return net


def folded(net: nn.Sequential) -> nn.Sequential:
    layers = list(net)
    for place, layer in enumerate(layers[1:], 1):
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            before: Any = layers[place - 1]
            if isinstance(before, nn.Linear):
                fused: nn.Module = fuse_linear_bn_eval(before, layer)
            else:
                transposed = isinstance(before, nn.ConvTranspose2d)
                fused = _fused(before, layer) if transposed else fuse_conv_bn_eval(before, layer)
            layers[place - 1], layers[place] = fused, nn.Identity()
    return nn.Sequential(*layers).eval()


def _fused(layer: nn.ConvTranspose2d, norm: Any) -> nn.ConvTranspose2d:
    """torch's own fuses no groups."""
    factor = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()
    made = nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2)
    with torch.no_grad():
        grouped = layer.weight.view(2, 4, 3, 2, 2) * factor.view(2, 1, 3, 1, 1)
        made.weight.copy_(grouped.view_as(layer.weight))
        made.bias.copy_((layer.bias - norm.running_mean) * factor + norm.bias)  # type: ignore[union-attr,operator]
    return made


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".pt2", ".pt", ".onnx"])
def test_the_reference_may_be_of_any_format(suffix: str, tmp_path: Path) -> None:
    net = small()
    path, reference = export(folded(net), tmp_path / "folded.onnx"), tmp_path / f"model{suffix}"
    images = torch.zeros(2, 3, SIZE, SIZE)
    with silence():
        if suffix == ".pt2":
            torch.export.save(torch.export.export(net, (images,)), reference)
        elif suffix == ".pt":
            torch.jit.script(net).save(str(reference))
        elif suffix == ".onnx":
            torch.onnx.export(
                net, (images,), str(reference), dynamo=False, do_constant_folding=False
            )
        else:
            checkpoint(net, reference)
    model = opened(path, reference)
    assert len(model.sites) == 4
    _, expected = adapted(EagerModel(net), pictures(8, SIZE))
    _, found = adapted(model, pictures(8, SIZE))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_channels_that_hardly_vary_are_not_amplified(tmp_path: Path) -> None:
    net = small(silent=True)
    path = export(folded(net), tmp_path / "folded.onnx")
    model = opened(path, checkpoint(net, tmp_path / "model.pth"))
    assert len(model.sites) == 4
    statistics, found = adapted(model, pictures(8, SIZE))
    _, expected = adapted(EagerModel(net), pictures(8, SIZE))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    scales = [float(x.abs().max()) for (_, role), x in statistics.items() if role == "scale"]
    assert 200 < max(scales) < 400  # sqrt((var + eps) / eps) at most, and not a million.


def test_layers_that_nothing_tells_apart_are_taken_in_order(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 3, 1)
    twice = nn.Sequential(layer, nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).eval()
    twice[2].load_state_dict(layer.state_dict())
    path = export(folded(twice), tmp_path / "folded.onnx")
    model = opened(path, checkpoint(twice, tmp_path / "model.pth"))
    _, expected = adapted(EagerModel(twice), pictures(8, SIZE))
    _, found = adapted(model, pictures(8, SIZE))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_a_reference_of_other_weights_is_refused(tmp_path: Path) -> None:
    net = small()
    path = export(folded(net), tmp_path / "folded.onnx")
    with torch.no_grad():
        for layer in net:
            if not isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                for parameter in layer.parameters():
                    parameter.copy_(torch.randn_like(parameter))
    with pytest.raises(ModelError, match="other weights"):
        opened(path, checkpoint(net, tmp_path / "other.pth"))


def test_normalizers_that_are_not_found_are_told(tmp_path: Path) -> None:
    net = small()
    path = export(folded(net), tmp_path / "folded.onnx")
    with torch.no_grad():
        net[3].weight.normal_()  # type: ignore[union-attr,operator]
    found = open_model(ModelRequest(path, reference=checkpoint(net, tmp_path / "tuned.pth")))
    assert "1 of its BatchNorm layers are not found: 4" in " ".join(found.notes)
    assert "told to be folded BatchNorm" in found.notes[-1]
    reasons = {layer.reason for layer in found.model.fixed}
    assert "has no BatchNorm of the reference folded in" in reasons


FACES = ["--img-size", "240,320", "--mean", ".498,.498,.498", "--std", ".502,.502,.502"]


@pytest.mark.parametrize("kind", ["onnx", "pth"])
def test_a_simplified_face_detector_adapts_as_the_unfolded_one(
    kind: str, shared_data: Path, sample_data: Path, tmp_path: Path
) -> None:
    faces = shared_data / "checkpoints"
    simple, plain = faces / "version-slim-320_simplified.onnx", faces / "version-slim-320.onnx"
    target = ["--target", str(sample_data / "target"), "--max-images", "8", "--labels", "none"]
    reference = ["--reference", str(faces / f"version-slim-320.{kind}")]
    runs = {"folded": [str(simple), *reference, "--verify"], "plain": [str(plain)]}
    for name, model in runs.items():
        assert run(["adapt", *model, *target, *FACES, "-q", "-o", str(tmp_path / name)]) == 0
    record = Record.model_validate_json((tmp_path / "folded" / "run.json").read_text())
    assert len([site for site in record.sites if site.adapted]) == 25
    assert record.residual is not None
    assert max(record.residual.max_mean, record.residual.max_log_variance) < 1e-4
    images = pictures(2, 320)[:, :, :240]
    found, expected, before = (
        _scores(path, images)
        for path in (tmp_path / "folded" / "model.onnx", tmp_path / "plain" / "model.onnx", simple)
    )
    np.testing.assert_allclose(found, expected, atol=1e-3)  # Nearly silent channels round apart.
    assert np.abs(before - expected).max() > 0.01
    out, back = tmp_path / "in.onnx", tmp_path / "back.onnx"
    pack = str(tmp_path / "folded" / "pack.safetensors")
    assert run(["apply", str(simple), pack, "-q", "-o", str(out)]) == 0
    assert out.read_bytes() == (tmp_path / "folded" / "model.onnx").read_bytes()
    assert run(["apply", str(out), pack, "--revert", "-q", "-o", str(back)]) == 0
    assert back.read_bytes() == simple.read_bytes()


def _scores(path: Path, images: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The first output alone: the simplified graph leaves out what follows the others."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options)
    outputs = [session.run(None, {"input": image[None].numpy()})[0] for image in images]
    return np.concatenate(outputs)


def test_a_reference_changes_no_fingerprint(tmp_path: Path) -> None:
    net = small()
    path = export(folded(net), tmp_path / "folded.onnx")
    with_it = fingerprint(opened(path, checkpoint(net, tmp_path / "model.pth")))
    assert with_it.weights == fingerprint(read(path)).weights


def test_a_reference_is_refused_where_it_says_nothing(
    tmp_path: Path, sample_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = small()
    path = export(folded(net), tmp_path / "folded.onnx")
    known = checkpoint(net, tmp_path / "model.pth")
    bare = checkpoint(folded(net), tmp_path / "bare.pth")
    kept = tmp_path / "kept.onnx"
    with silence():
        torch.onnx.export(
            net,
            (torch.zeros(2, 3, SIZE, SIZE),),
            str(kept),
            dynamo=False,
            do_constant_folding=False,
        )
    target = ["--target", str(sample_data / "target"), "-o", str(tmp_path / "run")]
    digits = sample_data / "digits_bn.pt"
    for model, reference, more, code, told in (
        (path, bare, [], 3, "stores no BatchNorm statistics"),
        (path, tmp_path / "missing.pth", [], 3, "missing.pth"),
        (path, known, ["--source", str(sample_data / "source")], 2, "Leave one of them out"),
        (path, known, ["--method", "matched"], 2, "needs a source profile"),
        (kept, known, [], 2, "Leave out --reference"),
        (digits, known, [], 2, "--reference is for ONNX graphs"),
        (path, None, [], 3, "--reference FILE"),
    ):
        given = [] if reference is None else ["--reference", str(reference)]
        sizes = ["--img-size", str(SIZE), "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5"]
        some = ["--max-images", "4", "--labels", "none"]
        arguments = [str(model), *target, *given, *more, *sizes, *some]
        assert run(["adapt", *arguments, "--json"]) == code, told
        error = json.loads(capsys.readouterr().out)["error"]
        assert told in " ".join(map(str, error.values())), error
