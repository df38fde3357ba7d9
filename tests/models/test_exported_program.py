"""Exported programs (.pt2): the contract of all formats, fixed batches, what is refused."""

from __future__ import annotations

import json
import pickle
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from graph_contract import (
    adapted,
    network,
    pictures,
    read,
    require_contract,
    require_same,
    shaken,
    silence,
)
from torch import Tensor, nn

from adabn_cli.adaptation.fingerprint import fingerprint
from adabn_cli.errors import ModelError
from adabn_cli.model import statistics_of
from adabn_cli.models.live.module import EagerModel
from adabn_cli.models.open import ModelRequest, open_model
from adabn_cli.models.open_checkpoint import unsafe_imports

ANY = {0: torch.export.Dim.DYNAMIC}


def export(
    module: nn.Module,
    path: Path,
    images: Tensor,
    *,
    batch: Any = ANY,
    decomposed: bool = False,
    **extra_files: str,
) -> Path:
    """The module exported for batches of any size, or as large as the images where None."""
    with silence():
        program = torch.export.export(
            module, (images,), dynamic_shapes=None if batch is None else (batch,)
        )
        if decomposed:
            program = program.run_decompositions()
        files = {name.replace("_", "."): text for name, text in extra_files.items()}
        torch.export.save(program, path, extra_files=files)
    return path


def deployed(path: Path) -> Any:
    return torch.export.load(path).module()


CASES = [
    pytest.param("resnet18", False, marks=pytest.mark.slow),
    pytest.param("resnet18", True, marks=pytest.mark.slow),
    ("mobilenet_v3_small", False),
    pytest.param("mobilenet_v3_small", True, marks=pytest.mark.slow),
    pytest.param("densenet121", False, marks=pytest.mark.slow),
    pytest.param("densenet121", True, marks=pytest.mark.slow),
    pytest.param("lraspp_mobilenet_v3_large", False, marks=pytest.mark.slow),
    pytest.param("fcn_resnet50", True, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "decomposed"), CASES)
def test_a_network_adapts_as_its_live_module_does(
    name: str, decomposed: bool, tmp_path: Path
) -> None:
    module, images = network(name), pictures()
    path = export(module, tmp_path / "model.pt2", images[:2], decomposed=decomposed)
    require_contract(module, path, deployed, images, tmp_path)


class Small(nn.Module):
    """Two normalizers, dropout, constants, a buffer that is not saved, and three outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4, eps=1e-3)
        self.drop = nn.Dropout(0.5)
        self.alone = nn.InstanceNorm2d(4)
        self.by_batch = nn.BatchNorm2d(4, track_running_stats=False)
        self.group = nn.GroupNorm(2, 4)
        self.never = nn.BatchNorm2d(4)
        self.register_buffer("scale", torch.tensor([1.0, 2, 3, 4]).view(4, 1, 1), persistent=False)

    def forward(self, x: Tensor, times: int = 2) -> dict[str, Any]:
        """Logits, beside others."""
        x = self.drop(self.bn(self.conv(x))) * self.scale * times
        x = self.group(self.alone(x) + torch.tensor([1.0, 2.0, 3.0, 4.0]).view(4, 1, 1))
        left, right = x.split(2, dim=1)
        return {"aux": left, "logits": right.mean([2, 3]).view(x.shape[0], -1)}


def test_every_kind_of_operator_is_read(tmp_path: Path) -> None:
    module, images = shaken(Small()), pictures(size=12)
    live = EagerModel(module)
    expected, outputs = adapted(live, images)
    shaken(module)
    for decomposed in (False, True):
        path = export(module, tmp_path / "model.pt2", images[:2], decomposed=decomposed)
        opened = read(path)
        assert [(s.name, s.eps) for s in opened.sites] == [(s.name, s.eps) for s in live.sites]
        found, found_outputs = adapted(opened, images)
        require_same(expected, found)
        torch.testing.assert_close(found_outputs, outputs)
        assert fingerprint(opened) == fingerprint(live)


def test_the_output_to_use_can_be_named(tmp_path: Path) -> None:
    images = pictures(2, 12)
    path = export(shaken(Small()), tmp_path / "model.pt2", images)
    opened = open_model(ModelRequest(path, output="aux")).model
    assert opened.forward(images).shape == (2, 2, 10, 10)  # type: ignore[union-attr]


def test_layers_that_normalize_in_their_own_way_are_named(tmp_path: Path) -> None:
    from torchvision.ops import FrozenBatchNorm2d

    module = nn.Sequential(nn.BatchNorm2d(3), FrozenBatchNorm2d(3), nn.GroupNorm(3, 3))
    path = export(shaken(module), tmp_path / "model.pt2", pictures(2, 8))
    opened = read(path)
    assert [site.name for site in opened.sites] == ["0"]
    assert [layer.name for layer in opened.fixed] == ["group_norm", "1"]


@pytest.mark.parametrize("chunk", [3, 8])
def test_a_fixed_batch_is_cut_and_filled_up_and_measured_without_the_filling(
    chunk: int, tmp_path: Path
) -> None:
    module, images = shaken(nn.Sequential(Small().conv, Small().bn, nn.Flatten())), pictures(7, 12)
    opened = read(export(module, tmp_path / "model.pt2", images[:4], batch=None))
    expected, outputs = adapted(EagerModel(module), images, chunk)
    found, found_outputs = adapted(opened, images, chunk)
    assert found_outputs.shape == outputs.shape
    for place, value in expected.items():
        torch.testing.assert_close(found[place], value, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found_outputs, outputs)


def test_a_batch_keeps_to_the_limits_that_it_was_exported_with(tmp_path: Path) -> None:
    module, images = shaken(nn.Sequential(nn.BatchNorm2d(3))), pictures(7, 8)
    limits = {0: torch.export.Dim("n", min=2, max=3)}
    opened = read(export(module, tmp_path / "model.pt2", images[:2], batch=limits))
    signals = list(opened.suspended(images))
    assert torch.equal(signals[0].activation, images)
    with torch.no_grad():
        assert torch.equal(opened.forward(images[:1]), module(images[:1]))  # type: ignore[arg-type]


def test_pictures_of_another_size_are_refused_with_the_option(tmp_path: Path) -> None:
    opened = read(export(shaken(Small()), tmp_path / "model.pt2", pictures(2, 12)))
    with pytest.raises(ModelError, match="12 x 12") as caught:
        opened.forward(pictures(2, 14))
    assert "--img-size 12,12" in caught.value.hint


@pytest.mark.parametrize("decomposed", [False, True])
def test_a_program_of_training_mode_runs_in_eval_mode_and_says_so(
    decomposed: bool, tmp_path: Path
) -> None:
    module, images = shaken(Small()), pictures(4, 12)
    path = export(module.train(), tmp_path / "model.pt2", images[:2], decomposed=decomposed)
    request = open_model(ModelRequest(path))
    assert "train mode" in request.notes[-1]
    opened, counts = request.model, request.model.state()["bn.num_batches_tracked"].clone()
    expected, outputs = adapted(EagerModel(module.eval()), images)
    found, found_outputs = adapted(opened, images)
    require_same(expected, found)
    torch.testing.assert_close(found_outputs, outputs)
    assert torch.equal(opened.state()["bn.num_batches_tracked"], counts)


def test_random_layers_of_training_mode_are_refused(tmp_path: Path) -> None:
    from torchvision.ops import StochasticDepth

    module = nn.Sequential(nn.BatchNorm2d(3), StochasticDepth(0.5, "row")).train()
    path = export(module, tmp_path / "model.pt2", pictures(2, 8), batch=None)
    with pytest.raises(ModelError, match="random") as caught:
        read(path)
    assert "model.eval()" in caught.value.hint


def test_a_file_says_classes_and_preprocessing_in_its_extra_files(tmp_path: Path) -> None:
    about = {"preprocessing": {"size": 12, "mean": [0.5] * 3, "std": [0.25] * 3}}
    opened = read(
        export(
            shaken(Small()),
            tmp_path / "model.pt2",
            pictures(2, 12),
            adabn_json=json.dumps(about),
            classes_txt="cat\ndog\n",
        )
    )
    assert opened.classes == ("cat", "dog")
    assert opened.preprocessing is not None
    assert opened.preprocessing.std == (0.25, 0.25, 0.25)


def test_weights_that_share_memory_share_it_again(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.BatchNorm2d(3)
            self.two = self.one

        def forward(self, x: Tensor) -> Tensor:
            return self.two(torch.relu(self.one(x)))

    module, images = shaken(Twice()), pictures(4, 8)
    path = export(module, tmp_path / "model.pt2", images[:2])
    opened = read(path)
    assert [site.name for site in opened.sites] == ["one"]
    expected, _ = adapted(EagerModel(module), images)
    require_same(expected, adapted(opened, images)[0])
    opened.save(tmp_path / "out.pt2")
    require_same(expected, statistics_of(read(tmp_path / "out.pt2")))


def test_fused_networks_are_told_to_have_no_statistics(tmp_path: Path) -> None:
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    module = shaken(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    with torch.no_grad():
        fused = fuse_conv_bn_eval(module[0], module[1])  # type: ignore[arg-type, index]
    with pytest.raises(ModelError, match="folded into its convolutions") as caught:
        read(export(fused, tmp_path / "model.pt2", pictures(2, 8)))
    assert "checkpoint" in caught.value.hint


def rewritten(path: Path, out: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """A copy of an archive with some members changed; None leaves one out."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = change(name.partition("/")[2], old.read(name))
            if content is not None:
                new.writestr(name, content)
    return out


class Exploit:
    """A pickle that would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return (Path.touch, (Path(self.path),))


def test_pickles_and_expressions_in_a_program_are_never_run(tmp_path: Path) -> None:
    images, proof = pictures(2, 12), tmp_path / "proof"
    plain = export(shaken(Small()), tmp_path / "plain.pt2", images)

    def change(name: str, content: bytes) -> bytes:
        if name == "data/sample_inputs/model.pt":
            return pickle.dumps(Exploit(proof))
        text = content.decode(errors="surrogateescape")
        attack = f"__import__('pathlib').Path('{proof}').touch()"
        return (
            text.replace("Symbol('s77', positive=True, integer=True)", attack).encode()
            if name == "models/model.json"
            else content
        )

    opened = read(rewritten(plain, tmp_path / "hostile.pt2", change))
    assert unsafe_imports(tmp_path / "hostile.pt2") == []
    assert opened.forward(images) is not None
    assert not proof.exists()


@pytest.mark.parametrize(
    "operator",
    [
        "torch.ops.aten.from_file.default",
        "torch.ops.debugprims.load_tensor.default",
        "torch.load",
        "_operator.attrgetter",
        "torch.ops.aten.no_such.default",
    ],
)
def test_operators_that_are_not_for_networks_are_refused(operator: str, tmp_path: Path) -> None:
    plain = export(shaken(Small()), tmp_path / "plain.pt2", pictures(2, 12))
    target = b"torch.ops.aten.group_norm.default"
    hostile = rewritten(
        plain, tmp_path / "a.pt2", lambda _, content: content.replace(target, operator.encode())
    )
    with pytest.raises(ModelError, match="cannot be followed") as caught:
        read(hostile)
    assert operator in caught.value.where


def test_programs_of_other_kinds_are_told_apart(tmp_path: Path) -> None:
    plain = export(shaken(Small()), tmp_path / "plain.pt2", pictures(2, 12))
    out = tmp_path / "a.pt2"

    def without(ending: str) -> Path:
        return rewritten(plain, out, lambda n, c: None if n.endswith(ending) else c)

    with pytest.raises(ModelError, match="older torch"):
        read(without("weights_config.json"))
    with pytest.raises(ModelError, match="damaged"):
        read(without("weight_0"))
    with zipfile.ZipFile(without("models/model.json"), "a") as archive:
        archive.writestr("plain/data/aotinductor/model/a.so", b"")
    with pytest.raises(ModelError, match="compiled"):
        read(out)
    with zipfile.ZipFile(rewritten(plain, out, lambda _, c: c), "a") as archive:
        archive.writestr("plain/models/second.json", b"{}")
    with pytest.raises(ModelError, match="several: model, second"):
        read(out)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"as_int": 4}', b'"as_int": 9999}'),
        (b'"storage_offset": {"as_int": 0}', b'"storage_offset": {"as_int": -4}'),
        (b'"path_name": "weight_0"', b'"path_name": "../weight_0"'),
        (b'"config": {', b'"config": [{'),
    ],
)
def test_tables_that_do_not_fit_their_bytes_are_damage(
    old: bytes, new: bytes, tmp_path: Path
) -> None:
    plain = export(shaken(Small()), tmp_path / "plain.pt2", pictures(2, 12))
    hostile = rewritten(
        plain,
        tmp_path / "a.pt2",
        lambda name, c: c.replace(old, new) if name.endswith("weights_config.json") else c,
    )
    with pytest.raises(ModelError, match="damaged"):
        read(hostile)


def test_a_file_cut_anywhere_is_a_named_error(tmp_path: Path) -> None:
    path = export(shaken(nn.Sequential(nn.BatchNorm2d(3))), tmp_path / "a.pt2", pictures(2, 8))
    content = path.read_bytes()
    for length in range(0, len(content), len(content) // 25):
        (tmp_path / "cut.pt2").write_bytes(content[:length])
        with pytest.raises(ModelError) as caught:
            read(tmp_path / "cut.pt2")
        assert caught.value.hint


@pytest.mark.slow
def test_adapting_costs_at_most_half_a_pass_more(tmp_path: Path) -> None:
    images = pictures(32, 128)
    path = export(network("resnet18"), tmp_path / "model.pt2", images[:2])
    ratios = []
    for _ in range(3):
        opened, start = read(path), time.process_time()
        adapted(opened, images, chunk=16)
        middle = time.process_time()
        with silence(), torch.no_grad():
            module = deployed(path)
            between = time.process_time()
            for chunk in images.split(16):
                module(chunk)
        ratios.append((middle - start) / (time.process_time() - between))
    assert sorted(ratios)[1] <= 1.5, ratios
