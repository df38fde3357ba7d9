"""Networks and images that the engines' tests share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from learned_statistics import learned
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))  # For the oracle beside the tests.


class Residual(nn.Module):
    """Two normalized convolutions beside a skip connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        """The block."""
        hidden = self.dropout(torch.relu(self.bn1(self.conv1(x))))
        return torch.relu(x + self.bn2(self.conv2(hidden)))


def small_net() -> nn.Module:
    """Nine normalizers, dropout between them, one behind a linear layer."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        *(Residual(8) for _ in range(3)),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(16, 5),
        nn.BatchNorm1d(5),
    )
    return learned(layers)


@pytest.fixture
def net() -> nn.Module:
    """A small net, the same each time."""
    return small_net()


@pytest.fixture(scope="session")
def images() -> Tensor:
    """65 images sorted by brightness, as a folder sorted by class is sorted: a ragged tail of 1."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(65, 3, 12, 12, generator=generator)
    return noise + torch.linspace(-2, 2, 65).view(-1, 1, 1, 1)
