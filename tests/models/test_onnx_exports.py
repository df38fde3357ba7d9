"""ONNX files as torch's exporters write them, held against the live module they were made of."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torchvision
from onnx import numpy_helper
from torch import Tensor, nn

from adabn_cli.adaptation.engines.exact import estimate
from adabn_cli.adaptation.engines.passes import Estimate, Passes
from adabn_cli.adaptation.fingerprint import fingerprint
from adabn_cli.adaptation.installer import Installer
from adabn_cli.adaptation.methods import Adaptation
from adabn_cli.model import Model, no_progress
from adabn_cli.models.live.module import EagerModel
from adabn_cli.models.onnx.model import OnnxModel
from adabn_cli.models.open import ModelRequest, open_model

SIZE = 64
BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": torchvision.models.resnet18,
    "mobilenet_v3_small": torchvision.models.mobilenet_v3_small,
    "densenet121": torchvision.models.densenet121,
    "lraspp_mobilenet_v3_large": lambda: torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None
    ),
}


def built(name: str) -> nn.Module:
    """The network with random weights and normalizers that are far from their defaults."""
    torch.manual_seed(0)
    module = BUILDERS[name]().eval()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            with torch.no_grad():
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_(std=0.1)
                layer.running_mean.normal_(std=0.1)  # type: ignore[union-attr]
                layer.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    return module


def exported(module: nn.Module, path: Path, **options: Any) -> Path:
    """The file that torch.onnx.export writes for one picture of 64 px."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of the exporter and of what it calls.
        torch.onnx.export(
            module, (torch.zeros(2, 3, SIZE, SIZE),), str(path), input_names=["x"], **options
        )
    return path


def exported_by_tracing(module: nn.Module, path: Path) -> Path:
    axes = {"x": {0: "n"}}
    return exported(module, path, dynamo=False, do_constant_folding=False, dynamic_axes=axes)


def exported_by_dynamo(module: nn.Module, path: Path) -> Path:
    batch = ({0: torch.export.Dim.DYNAMIC},)
    return exported(module, path, dynamo=True, optimize=False, dynamic_shapes=batch, verbose=False)


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Ten images of 64 px."""
    return torch.randn(10, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def opened(path: Path) -> OnnxModel:
    found = open_model(ModelRequest(path)).model
    assert isinstance(found, OnnxModel)
    return found


def adapted(model: Model, images: Tensor) -> tuple[Estimate, Tensor]:
    """The exact engine's estimate in chunks of 4, and the adapted outputs."""
    outputs: dict[int, Tensor] = {}

    def keep(index: int, found: Tensor | None) -> None:
        assert found is not None
        outputs[index] = found

    batches = [images[start : start + 4] for start in range(0, len(images), 4)]
    found = estimate(
        Installer.of(model, Adaptation(), len(images)), Passes.over(batches), keep, no_progress
    )
    return found, torch.cat([outputs[index] for index in sorted(outputs)])


def distance(live: Estimate, graph: Estimate) -> float:
    """The largest difference: means in standard deviations, variances relatively."""
    found = 0.0
    for name, a in live.installed.items():
        b, var_C = graph.installed[name], a.var_C + 1e-5
        found = max(
            found,
            float(((a.mean_C - b.mean_C).abs() / var_C.sqrt()).max()),
            float(((a.var_C - b.var_C).abs() / var_C).max()),
        )
    return found


def check_contract(module: nn.Module, path: Path, images: Tensor, folder: Path) -> None:
    live, graph = EagerModel(module), opened(path)
    assert fingerprint(graph) == fingerprint(live)
    assert {site.name: site.eps for site in graph.sites} == {
        site.name: site.eps for site in live.sites
    }
    expected, outputs = adapted(live, images)
    found, graph_outputs = adapted(graph, images)
    assert found.installed.keys() == expected.installed.keys()
    assert distance(expected, found) < 1e-4
    torch.testing.assert_close(
        graph_outputs, outputs, rtol=1e-4, atol=1e-4 * float(outputs.abs().max())
    )
    out = folder / "adapted.onnx"
    folder.mkdir()
    graph.save(out)
    onnx.checker.check_model(out)
    again = opened(out)
    outputs_again = again.forward(images)
    assert outputs_again is not None
    torch.testing.assert_close(outputs_again, graph_outputs, rtol=1e-4, atol=1e-5)
    plain = onnxruntime.InferenceSession(str(out)).run(None, {"x": images.numpy()})[0]
    scale = float(np.abs(plain).max())
    torch.testing.assert_close(torch.from_numpy(plain), graph_outputs, rtol=1e-4, atol=1e-4 * scale)
    assert changed_names(path, out) == {key for site in graph.sites for key in site.keys.values()}


def changed_names(before: Path, after: Path) -> set[str]:
    """Names of the constants that differ, as nodes read them. Raises where anything else does."""
    values = []
    for path in (before, after):
        proto = onnx.load(path)
        found = {x.name: numpy_helper.to_array(x).tobytes() for x in proto.graph.initializer}
        for node in proto.graph.node:
            if node.op_type == "Identity" and node.input[0] in found:
                found[node.output[0]] = found[node.input[0]]
        values.append(found)
        assert [x.name for x in proto.graph.output] == [
            x.name for x in onnx.load(before).graph.output
        ]
    kinds = [
        [(node.op_type, list(node.output)) for node in onnx.load(path).graph.node]
        for path in (before, after)
    ]
    assert kinds[0] == kinds[1]
    old, new = values
    assert old.keys() == new.keys()
    return {name for name in old if old[name] != new[name]}


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "densenet121"])
def test_a_traced_export_adapts_as_the_live_module_does(
    name: str, images: Tensor, tmp_path: Path
) -> None:
    module = built(name)
    path = exported_by_tracing(module, tmp_path / "model.onnx")
    check_contract(module, path, images, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "densenet121"])
def test_a_dynamo_export_adapts_as_the_live_module_does(
    name: str, images: Tensor, tmp_path: Path
) -> None:
    module = built(name)
    path = exported_by_dynamo(module, tmp_path / "model.onnx")
    check_contract(module, path, images, tmp_path / "out")


class _Out(nn.Module):
    """A segmentation net that returns its tensor alone; its layers keep their names."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.backbone, self.classifier = net.backbone, net.classifier

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, K, H, W]."""
        scores: Tensor = self.classifier(self.backbone(x))
        return nn.functional.interpolate(scores, size=x.shape[-2:], mode="bilinear")


@pytest.mark.slow
def test_a_segmentation_export_adapts_as_the_live_module_does(
    images: Tensor, tmp_path: Path
) -> None:
    module = _Out(built("lraspp_mobilenet_v3_large")).eval()
    path = exported_by_tracing(module, tmp_path / "model.onnx")
    check_contract(module, path, images, tmp_path / "out")


def test_a_dynamo_export_keeps_its_weights_in_a_data_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 32, 3, bias=False), nn.BatchNorm2d(32), nn.ReLU()).eval()
    path = exported_by_dynamo(module, tmp_path / "model.onnx")
    images = torch.randn(10, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    graph = opened(path)
    live, _ = adapted(EagerModel(module), images)
    found, _ = adapted(graph, images)
    assert distance(live, found) < 1e-4
    (tmp_path / "out").mkdir()
    graph.save(tmp_path / "out" / "model.onnx")
    assert (tmp_path / "out" / "model.onnx.data").is_file()
    assert changed_names(path, tmp_path / "out" / "model.onnx") == {
        "1.running_mean",
        "1.running_var",
    }


def test_an_export_that_folded_its_normalizers_says_how_to_keep_them(tmp_path: Path) -> None:
    module = built("densenet121")
    whole = exported(built("resnet18"), tmp_path / "resnet18.onnx", dynamo=False)
    partly = exported(module, tmp_path / "densenet121.onnx", dynamo=False)
    found = opened(whole)
    assert [site.kind for site in found.sites] == ["affine"] * 21
    assert "do_constant_folding=False" in found.fixed[0].reason
    found = opened(partly)
    kinds = [site.kind for site in found.sites]
    assert (kinds.count("batch_norm"), kinds.count("affine")) == (62, 59)
    assert found.notes[0] == "62 BatchNorm kept, 59 folded into convolutions."
    assert "do_constant_folding=False" in found.notes[1]


@pytest.mark.slow
def test_staged_onnx_costs_at_most_three_times_a_plain_pass(tmp_path: Path) -> None:
    from time import process_time

    module = built("resnet18")
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.zeros(2, 3, 224, 224),),
            str(path),
            input_names=["x"],
            dynamo=False,
            do_constant_folding=False,
            dynamic_axes={"x": {0: "n"}},
        )
    images = torch.randn(64, 3, 224, 224, generator=torch.Generator().manual_seed(3))
    batches = [images[start : start + 32] for start in (0, 32)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()

    def plain() -> None:
        session = onnxruntime.InferenceSession(str(path), options)
        for batch in batches:
            session.run(None, {"x": batch.numpy()})

    def staged() -> None:
        installer = Installer.of(opened(path), Adaptation(), len(images))
        estimate(installer, Passes.over(batches), lambda index, outputs: None, no_progress)

    seconds: dict[str, list[float]] = {"plain": [], "staged": []}
    for _ in range(2):
        for name, work in (("plain", plain), ("staged", staged)):
            start = process_time()
            work()
            seconds[name].append(process_time() - start)
    assert min(seconds["staged"]) < 3 * min(seconds["plain"])
