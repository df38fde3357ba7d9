"""Nets as they are when they are adapted: their statistics are of a source domain. No file."""

from __future__ import annotations

import torch
from photographs import tensors
from torch import nn

import adabn_cli  # noqa: F401  isort: skip  # Beside a torch without CUDA torchvision needs it.
import torchvision  # isort: skip


def source_net(name: str, classes: int = 1000) -> nn.Module:
    """The architecture with random weights and the statistics of dim pictures, in eval mode."""
    torch.manual_seed(0)
    net: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes)
    torch.optim.swa_utils.update_bn([tensors(64, 96) * 0.6 - 0.2], net)
    return net.eval()
