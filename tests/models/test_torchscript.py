"""TorchScript files: the contract of all formats, control flow around sites, what is refused."""

from __future__ import annotations

import json
import pickle
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from graph_contract import (
    adapted,
    changed_members,
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
from adabn_cli.errors import ModelError, UnsafeError
from adabn_cli.models.live.module import EagerModel
from adabn_cli.models.open import ModelRequest, open_model
from adabn_cli.models.open_checkpoint import unsafe_imports


def script(module: nn.Module, path: Path, **extra_files: str) -> Path:
    files = {name.replace("_", "."): text for name, text in extra_files.items()}
    with silence():
        torch.jit.script(module).save(str(path), _extra_files=files)
    return path


def trace(module: nn.Module, path: Path, images: Tensor) -> Path:
    with silence():
        torch.jit.trace(module, images, strict=False).save(str(path))
    return path


def deployed(path: Path) -> Any:
    return torch.jit.load(str(path)).eval()  # type: ignore[no-untyped-call]


FAST = [("resnet18", "trace"), ("mobilenet_v3_small", "script")]
SLOW = [
    ("resnet18", "script"),
    ("mobilenet_v3_small", "trace"),
    ("densenet121", "script"),
    ("densenet121", "trace"),
    ("lraspp_mobilenet_v3_large", "script"),
    ("lraspp_mobilenet_v3_large", "trace"),
    ("fcn_resnet50", "script"),
]


@pytest.mark.parametrize(
    ("name", "how"), [*FAST, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)]
)
def test_a_network_adapts_as_its_live_module_does(name: str, how: str, tmp_path: Path) -> None:
    module, images = network(name), pictures()
    path = tmp_path / "model.pt"
    script(module, path) if how == "script" else trace(module, path, images[:2])
    require_contract(module, path, deployed, images, tmp_path)


class Around(nn.Module):
    """Normalizers in a branch, in a loop of unknown length, and fed from a shared list."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.first = nn.BatchNorm2d(4, eps=1e-3)
        self.again = nn.BatchNorm2d(4)
        self.never = nn.BatchNorm2d(4)
        self.blocks = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4)])
        self.group = nn.GroupNorm(2, 4)
        self.repeats: int = 3
        self.unused: bool = False

    def normalized(self, x: Tensor, kept: list[Tensor]) -> Tensor:
        """A method of its own, that changes a list of its caller's."""
        kept.append(x)
        return self.first(x)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Logits, beside the list's last."""
        kept: list[Tensor] = []
        x = self.normalized(self.conv(x), kept)
        if self.unused:
            x = self.never(x)
        for _ in range(self.repeats):
            x = torch.relu(self.again(x) + 0.5)
        for block in self.blocks:
            kept.append(x)
            x = block(x) + kept[-1]
        x = self.group(torch.stack(kept).sum(0) + x)
        return {"aux": kept[len(kept) - 1], "logits": x.mean([2, 3])}


def test_branches_loops_and_lists_around_sites_are_followed(tmp_path: Path) -> None:
    module, images = shaken(Around()), pictures(size=12)
    path = script(module, tmp_path / "model.pt")
    opened = read(path)
    assert [(s.name, s.eps) for s in opened.sites if s.name.startswith("f")] == [("first", 1e-3)]
    assert [layer.name for layer in opened.fixed] == ["group"]
    expected, outputs = adapted(EagerModel(module), images)
    found, found_outputs = adapted(opened, images)
    require_same(expected, found)
    assert torch.equal(outputs, found_outputs)


def test_every_use_of_a_site_gives_a_signal(tmp_path: Path) -> None:
    opened = read(script(shaken(Around()), tmp_path / "model.pt"))
    names = [signal.site.name for signal in opened.suspended(pictures(2, 12))]
    assert names == ["first", "again", "again", "again", "blocks.0", "blocks.1"]


def test_the_output_to_use_can_be_named(tmp_path: Path) -> None:
    path = script(shaken(Around()), tmp_path / "model.pt")
    module = read(path)
    aux = open_model(ModelRequest(path, output="aux")).model
    images = pictures(2, 12)
    assert module.forward(images).shape == (2, 4)  # type: ignore[union-attr]
    assert aux.forward(images).shape == (2, 4, 10, 10)  # type: ignore[union-attr]


def test_chunks_of_any_size_run_side_by_side_without_touching_each_other(tmp_path: Path) -> None:
    module = shaken(Around())
    opened, images = read(script(module, tmp_path / "model.pt")), pictures(7, 12)
    runs = [opened.suspended(chunk) for chunk in images.split(3)]
    for signals in zip(*runs, strict=True):
        assert len({signal.site.name for signal in signals}) == 1
    half, ended = opened.suspended(images), opened.suspended(images)
    next(half)
    half.close()
    assert sum(1 for _ in ended) == 6
    assert torch.is_grad_enabled()


class Twice(nn.Module):
    """One normalizer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.BatchNorm2d(3)
        self.two = self.one

    def forward(self, x: Tensor) -> Tensor:
        """Through both."""
        return self.two(torch.relu(self.one(x)))


def test_a_layer_registered_twice_is_one_site(tmp_path: Path) -> None:
    module, images = shaken(Twice()), pictures(4, 8)
    opened = read(script(module, tmp_path / "model.pt"))
    assert [site.name for site in opened.sites] == ["one"]
    expected, outputs = adapted(EagerModel(module), images)
    found, found_outputs = adapted(opened, images)
    require_same(expected, found)
    assert torch.equal(outputs, found_outputs)


def test_layers_that_normalize_in_their_own_way_are_sites_too(tmp_path: Path) -> None:
    from torchvision.ops import FrozenBatchNorm2d

    module = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        FrozenBatchNorm2d(4, eps=1e-4),
        nn.InstanceNorm2d(4, track_running_stats=True),
    )
    images = pictures(4, 12)
    with torch.no_grad():
        for path in (
            script(shaken(module), tmp_path / "script.pt"),
            trace(module, tmp_path / "trace.pt", images[:2]),
        ):
            opened = read(path)
            assert [site.name for site in opened.sites] == ["1", "2"]
            expected, _ = adapted(EagerModel(module), images)
            require_same(expected, adapted(opened, images)[0])
            shaken(module)


@pytest.mark.parametrize("name", ["digits_renorm", "digits_mean_only", "digits_normprop"])
def test_other_kinds_of_normalizers_are_sites_too(
    name: str, sample_data: Path, tmp_path: Path
) -> None:
    known = read(sample_data / f"{name}.pt")
    assert known.preprocessing is not None
    module = known.module.eval()  # type: ignore[attr-defined]
    images, live = pictures(4, known.preprocessing.size[0], channels=1), EagerModel(module)
    opened = read(trace(module, tmp_path / "model.pt", images[:2]))
    assert [(s.name, s.kind, s.eps) for s in opened.sites] == [
        (s.name, s.kind, s.eps) for s in live.sites
    ]
    expected, outputs = adapted(live, images)
    found, found_outputs = adapted(opened, images)
    require_same(expected, found)
    assert torch.equal(outputs, found_outputs)


def test_a_file_says_classes_and_preprocessing_in_its_extra_files(tmp_path: Path) -> None:
    about = {"preprocessing": {"size": 12, "mean": [0.5] * 3, "std": [0.25] * 3}}
    path = script(
        shaken(Around()),
        tmp_path / "model.pt",
        adabn_json=json.dumps(about),
        classes_txt="cat\ndog\n",
    )
    opened = read(path)
    assert opened.classes == ("cat", "dog")
    assert opened.preprocessing is not None
    assert opened.preprocessing.size == (12, 12)
    assert read(script(shaken(Around()), path)).preprocessing is None


def test_the_fingerprint_is_that_of_the_live_module(tmp_path: Path) -> None:
    module = shaken(Around())
    assert fingerprint(read(script(module, tmp_path / "a.pt"))) == fingerprint(EagerModel(module))


def test_a_compressed_archive_is_saved_anew(tmp_path: Path) -> None:
    plain = script(shaken(Around()), tmp_path / "plain.pt", classes_txt="a\nb")
    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    opened = read(packed)
    opened.load_state({"first.running_mean": torch.full((4,), 2.0)})
    opened.save(tmp_path / "out.pt")
    again = read(tmp_path / "out.pt")
    assert again.classes == ("a", "b")
    assert torch.equal(again.state()["first.running_mean"], torch.full((4,), 2.0))
    images = pictures(2, 12)
    assert torch.equal(again.forward(images), opened.forward(images))  # type: ignore[arg-type]


def test_half_precision_is_kept(tmp_path: Path) -> None:
    path = script(shaken(nn.Sequential(nn.BatchNorm2d(3))).bfloat16(), tmp_path / "model.pt")
    opened = read(path)
    adapted(opened, pictures(4, 8))
    opened.save(tmp_path / "out.pt")
    assert len(changed_members(path, tmp_path / "out.pt")) == 2
    assert read(tmp_path / "out.pt").state()["0.running_var"].dtype == torch.bfloat16


def test_a_frozen_network_is_told_to_be(tmp_path: Path) -> None:
    with silence():
        scripted = torch.jit.script(shaken(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))))
        for frozen in (torch.jit.freeze(scripted), torch.jit.optimize_for_inference(scripted)):
            torch.jit.save(frozen, tmp_path / "model.pt")
            with pytest.raises(ModelError, match="frozen") as caught:
                read(tmp_path / "model.pt")
            assert "before torch.jit.freeze" in caught.value.hint


def test_a_network_without_statistics_is_told_to_be(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="stores statistics") as caught:
        read(script(nn.Sequential(nn.Conv2d(3, 4, 3)).eval(), tmp_path / "model.pt"))
    assert "checkpoint" in caught.value.hint


def test_a_quantized_network_is_told_to_be(tmp_path: Path) -> None:
    with silence():
        module = nn.Sequential(torch.ao.quantization.QuantStub(), nn.Conv2d(3, 4, 3)).eval()
        module.qconfig = torch.ao.quantization.get_default_qconfig(torch.backends.quantized.engine)  # type: ignore[assignment]
        prepared = torch.ao.quantization.prepare(module)
        prepared(pictures(2, 8))
        quantized = torch.ao.quantization.convert(prepared)
    with pytest.raises(ModelError, match="quantized"):
        read(script(quantized, tmp_path / "model.pt"))


def test_a_network_traced_in_training_mode_is_refused(tmp_path: Path) -> None:
    module = shaken(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))).train()
    with pytest.raises(ModelError, match="training mode") as caught:
        read(trace(module, tmp_path / "model.pt", pictures(2, 8)))
    assert "eval()" in caught.value.hint


def test_a_network_scripted_in_training_mode_runs_in_eval_mode(tmp_path: Path) -> None:
    module = shaken(nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5)))
    opened, images = read(script(module.train(), tmp_path / "model.pt")), pictures(2, 8)
    with torch.no_grad():
        assert torch.equal(opened.forward(images), module.eval()(images))  # type: ignore[arg-type]


class WithBlock(nn.Module):
    """A normalizer inside a `with`."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        """Normalized."""
        with torch.no_grad():
            return self.bn(x)


class Forked(nn.Module):
    """A normalizer in another task."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        """Normalized."""
        return torch.jit.wait(torch.jit.fork(self.bn, x))


@pytest.mark.parametrize("kind", [WithBlock, Forked])
def test_what_cannot_be_followed_is_named_with_a_way_out(
    kind: type[nn.Module], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="no forward can wait") as caught:
        read(script(kind(), tmp_path / "model.pt"))
    assert "Trace it" in caught.value.hint


class Writes(nn.Module):
    """Writes a file when it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        """Normalized, and x in a file."""
        torch.save(x, "stolen")
        return self.bn(x)


def test_code_that_reaches_files_needs_trust(tmp_path: Path) -> None:
    path = script(Writes(), tmp_path / "model.pt")
    assert unsafe_imports(path) == ["save"]
    with pytest.raises(UnsafeError, match="save") as caught:
        read(path)
    assert "--trust-pickle" in caught.value.hint
    assert len(open_model(ModelRequest(path, trust_pickle=True)).model.sites) == 1


class Exploit:
    """A pickle that would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return (Path.touch, (Path(self.path),))


@pytest.mark.parametrize("member", ["data.pkl", "constants.pkl"])
def test_a_pickle_that_runs_code_is_not_run(member: str, tmp_path: Path) -> None:
    plain = script(shaken(Around()), tmp_path / "plain.pt")
    hostile, proof = tmp_path / "hostile.pt", tmp_path / "proof"
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(hostile, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith(f"/{member}"):
                content = pickle.dumps(Exploit(proof), protocol=2)
            new.writestr(name, content)
    with pytest.raises(ModelError) as caught:
        read(hostile)
    assert caught.value.hint
    assert not proof.exists()


def test_a_file_cut_anywhere_is_a_named_error(tmp_path: Path) -> None:
    content = script(shaken(Twice()), tmp_path / "model.pt").read_bytes()
    for length in range(0, len(content), len(content) // 25):
        (tmp_path / "cut.pt").write_bytes(content[:length])
        with pytest.raises(ModelError) as caught:
            read(tmp_path / "cut.pt")
        assert caught.value.hint


@pytest.mark.slow
def test_adapting_costs_at_most_half_a_pass_more(tmp_path: Path) -> None:
    images = pictures(32, 128)
    path = script(network("resnet18"), tmp_path / "model.pt")
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
