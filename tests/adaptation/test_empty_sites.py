"""A site that some pictures, or all, show nothing of, as the box head of a detector."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from adabn_cli.adaptation.engines import engine
from adabn_cli.adaptation.engines.passes import Passes
from adabn_cli.adaptation.installer import Installer
from adabn_cli.adaptation.methods import Adaptation
from adabn_cli.model import no_output, no_progress
from adabn_cli.models.live.module import EagerModel


class BrightRows(nn.Module):
    """Normalizes all pictures, and of those over 0.5 the pixels once more."""

    def __init__(self) -> None:
        super().__init__()
        self.all, self.bright = nn.BatchNorm2d(1), nn.BatchNorm1d(4)

    def forward(self, images: Tensor) -> Tensor:
        bright = images.mean((1, 2, 3)) > 0.5
        self.all(images)
        return self.bright(images.flatten(1)[bright]).sum(0, keepdim=True)


def adapted(batches: list[Tensor], name: str, momentum: float | None) -> BrightRows:
    net = BrightRows().eval()
    model = EagerModel(net)
    installer = Installer.of(model, Adaptation(momentum=momentum), sum(map(len, batches)))
    engine(name).estimate(installer, Passes.over(batches), no_output, no_progress)
    return net


ENGINES = pytest.mark.parametrize(
    ("name", "momentum"), [("exact", None), ("one-pass", None), ("online", None), ("online", 0.5)]
)


@ENGINES
def test_a_site_that_nothing_reaches_keeps_the_source(name, momentum):
    net = adapted([torch.zeros(3, 1, 2, 2), -torch.ones(2, 1, 2, 2)], name, momentum)
    assert net.bright.running_mean.tolist() == [0] * 4
    assert net.bright.running_var.tolist() == [1] * 4
    assert net.all.running_mean.item() < 0


@ENGINES
def test_batches_that_show_nothing_count_for_nothing(name, momentum):
    shows = torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(0)) + 1
    net = adapted([torch.zeros(3, 1, 2, 2), shows, torch.zeros(2, 1, 2, 2)], name, momentum)
    expected = shows.flatten(1).mean(0) * (1 if momentum is None else momentum)
    torch.testing.assert_close(net.bright.running_mean, expected)
