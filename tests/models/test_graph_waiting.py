"""Forwards of graphs wait on disk, or are run again, with the same result to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from adabn_cli.adaptation.engines import exact, shelf
from adabn_cli.adaptation.engines.passes import Passes
from adabn_cli.adaptation.engines.waiting import Waiting, probe
from adabn_cli.adaptation.installer import Installer
from adabn_cli.adaptation.methods import Adaptation
from adabn_cli.model import no_progress
from adabn_cli.models.open import ModelRequest, open_model


class Skipping(nn.Module):
    """A value from before the first site is needed again behind the last."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.bn = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        early = torch.relu(self.conv(x))
        x = torch.relu(self.bn2(self.conv2(torch.relu(self.bn(early)))))
        return self.head((x + early).mean((2, 3)))


def scripted(path: Path) -> Path:
    torch.jit.script(Skipping().eval()).save(str(path / "net.pt"))
    return path / "net.pt"


def exported(path: Path) -> Path:
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(
        Skipping().eval(), (torch.rand(2, 3, 12, 12),), dynamic_shapes=({0: batch},)
    )
    torch.export.save(program, path / "net.pt2")
    return path / "net.pt2"


def as_onnx(path: Path) -> Path:
    torch.onnx.export(
        Skipping().eval(),
        (torch.rand(2, 3, 12, 12),),
        str(path / "net.onnx"),
        dynamo=False,
        do_constant_folding=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        dynamic_axes={"x": {0: "batch"}},
        input_names=["x"],
    )
    return path / "net.onnx"


def adapted(file: Path, batches: Sequence[Tensor], waiting: Waiting) -> list[Tensor]:
    """The state and the outputs."""
    model, outputs = open_model(ModelRequest(file)).model, [torch.empty(0)] * len(batches)

    def keep(index: int, found: Tensor | None) -> None:
        assert found is not None
        outputs[index] = found.clone()

    installer = Installer.of(model, Adaptation(), sum(map(len, batches)))
    exact.estimate(installer, Passes(batches=batches, waiting=waiting), keep, no_progress)
    return [*(value.clone() for _, value in sorted(model.state().items())), *outputs]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("save", [scripted, exported, as_onnx])
def test_graphs_wait_anywhere(save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "_WORTH_BYTES", 1)
    file, folder = save(tmp_path), tmp_path / "spill"
    folder.mkdir()
    images = torch.randn(13, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    batches = images.split(4)
    in_memory = adapted(file, batches, Waiting(4))
    for waiting in (
        Waiting(0, on_disk=4, folder=folder),
        Waiting(0, rerun=4, folder=folder),
        Waiting(1, on_disk=2, rerun=1, folder=folder),
    ):
        assert all(map(torch.equal, in_memory, adapted(file, batches, waiting)))
    found = probe(open_model(ModelRequest(file)).model, images[:4], folder)
    assert found.spills
    assert found.live_bytes >= 8 * 12 * 12 * 4 * 2  # The skipped value and what is measured.
    assert not list(folder.iterdir())
