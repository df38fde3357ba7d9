"""Other people's checkpoints, as they are found: adapted, inspected, or refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from adabn_cli.cli.boundary import run
from adabn_cli.record import Record

USPS = ("--arch", "ccexam.models:USPSNet", "--arch-args", "input_size=16")
USPS_INPUT = ("--img-size", "16", "--mean", ".2471", "--std", ".2994")
SVHN = ("--arch", "ccexam.models:SVHNNet", "--arch-args", "input_size=32")
SVHN_INPUT = ("--img-size", "32", "--mean", ".4377,.4438,.4728", "--std", ".198,.201,.197")


def adapt(
    capsys: pytest.CaptureFixture[str], folder: Path, *arguments: str | Path
) -> tuple[int, Record]:
    """Runs `adabn adapt --json`; the exit code and the record."""
    code = run(["adapt", *map(str, arguments), "-o", str(folder / "run"), "--json"])
    return code, Record.model_validate_json(capsys.readouterr().out)


@pytest.fixture
def usps(shared_data: Path) -> Path:
    """A digit net trained on USPS, 2 BatchNorm layers."""
    pytest.importorskip("ccexam", reason="its architecture: pip install --no-deps ccexam")
    return shared_data / "checkpoints" / "ccexam_usps.pth"


def test_a_usps_net_gains_on_optical_digits(
    usps: Path, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = shared_data / "digits" / "optdigits_1797"
    code, record = adapt(capsys, tmp_path, usps, *USPS, *USPS_INPUT, "--target", target, "--verify")
    assert code == 0
    assert record.before.accuracy == pytest.approx(0.732, abs=0.005)
    assert record.after.accuracy is not None
    assert record.after.accuracy >= 0.785
    assert record.verdict.outcome == "help"
    first, second = record.sites
    assert first.kl_before is not None
    assert first.kl_after is not None
    assert first.kl_after.mean == pytest.approx(first.kl_before.mean, rel=1e-6)
    assert second.kl_before is not None
    assert second.kl_after is not None
    assert second.kl_after.mean < second.kl_before.mean
    assert record.residual is not None
    assert max(record.residual.max_mean, record.residual.max_log_variance) < 1e-6


def test_a_usps_net_gains_on_mnist(
    usps: Path, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = shared_data / "digits" / "mnist_1000"
    _, record = adapt(capsys, tmp_path, usps, *USPS, *USPS_INPUT, "--target", target)
    assert record.change.interval is not None
    assert record.change.interval[0] > 0


def test_a_loss_is_reported_as_a_loss(
    usps: Path, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = usps.with_name("ccexam_svhn.pth")
    target = shared_data / "digits" / "mnist_1000"
    code, record = adapt(capsys, tmp_path, model, *SVHN, *SVHN_INPUT, "--target", target)
    assert code == 0
    assert record.verdict.outcome == "harm"
    assert record.change.accuracy is not None
    assert record.change.accuracy < -0.02
    assert record.change.interval is not None
    assert record.change.interval[1] < 0
    assert run(["report", str(tmp_path / "run"), "--fail-on", "accuracy_drop>0.5pp"]) == 1


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batch_size_does_not_change_the_statistics_of_a_real_net(
    usps: Path, shared_data: Path, tmp_path: Path, batch_size: int
) -> None:
    from safetensors.torch import load_file

    packs = []
    for size in (64, batch_size):
        folder = tmp_path / str(size)
        target = shared_data / "digits" / "mnist_1000"
        arguments = [str(usps), *USPS, *USPS_INPUT, "-t", str(target), "-b", str(size), "-q"]
        assert run(["adapt", *arguments, "-o", str(folder)]) == 0
        packs.append(load_file(folder / "pack.safetensors"))
    for name, expected in packs[0].items():
        torch.testing.assert_close(packs[1][name], expected, rtol=1e-6, atol=1e-7)


def test_a_net_without_a_normalizer_is_refused_with_the_reason(
    usps: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(usps.with_name("ccexam_mnist_no_bn.pth")), "-t", str(shared_data / "digits")]
    architecture = ["--arch", "ccexam.models:MNISTNet", "--arch-args", "input_size=28"]
    assert run(["adapt", *arguments, *architecture]) == 3
    assert "nothing to adapt" in capsys.readouterr().err


RESNET32 = """
from torch import nn
import torch


class Block(nn.Module):
    def __init__(self, inside, outside, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.stride, self.pad = stride, (outside - inside) // 2

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        x = x[:, :, :: self.stride, :: self.stride]
        return torch.relu(y + nn.functional.pad(x, (0, 0, 0, 0, self.pad, self.pad)))


class ResNet32(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(Block(16, 16, 1) for _ in range(5)))
        self.layer2 = nn.Sequential(Block(16, 32, 2), *(Block(32, 32, 1) for _ in range(4)))
        self.layer3 = nn.Sequential(Block(32, 64, 2), *(Block(64, 64, 1) for _ in range(4)))
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean((2, 3)))
"""


def test_a_cifar_resnet_of_a_file_s_own_architecture_adapts(
    shared_data: Path, sample_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nets.py").write_text(RESNET32)
    model = shared_data / "checkpoints" / "resnet32-d509ac18.th"
    options = ["--arch", f"{tmp_path / 'nets.py'}:ResNet32", "--labels", "none", "--verify"]
    pictures = ["--img-size", "32", "--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]
    target = ["--target", sample_data / "source", "--max-images", "128"]
    code, record = adapt(capsys, tmp_path, model, *options, *pictures, *target)
    assert code == 0
    assert len(record.sites) == 31
    assert all(site.adapted for site in record.sites)
    assert record.residual is not None
    assert max(record.residual.max_mean, record.residual.max_log_variance) < 1e-6


@pytest.mark.parametrize(
    ("file", "sites", "neurons"),
    [
        ("resnet32-d509ac18.th", 31, 1136),
        ("version-slim-320.pth", 25, 2272),
        ("2.7_80x80_MiniFASNetV2.pth", 50, 5184),
        ("ccexam_usps.pth", 2, 96),
        ("ccexam_svhn.pth", 6, 448),
        ("ccexam_mnist_no_bn.pth", 0, 0),
    ],
)
def test_every_normalizer_is_found_by_inspect(
    shared_data: Path, file: str, sites: int, neurons: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["inspect", str(shared_data / "checkpoints" / file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["sites"]
    assert len(found) == sites
    assert sum(site["channels"] for site in found) == neurons


def test_a_loss_without_labels_and_without_a_profile_is_never_called_help(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ccexam", reason="its architecture: pip install --no-deps ccexam")
    model = shared_data / "checkpoints" / "ccexam_svhn.pth"
    target = shared_data / "digits" / "mnist_1000"
    arguments = (model, *SVHN, *SVHN_INPUT, "--target", target, "--labels", "none")
    code, record = adapt(capsys, tmp_path, *arguments)
    assert code == 0
    assert (record.verdict.outcome, record.verdict.basis) == ("cannot tell", "none")
    assert "weak sign of harm" in record.verdict.sentence
