"""Nets of a few channels for gray pictures of 16 x 16 pixels: what `--arch` names.

Shapes: n images.
"""

from __future__ import annotations

import os
import warnings

import torch
from torch import Tensor, nn

from adabn_cli import (
    BatchRenorm2d,
    ClippingSchedule,
    MeanOnlyBatchNorm2d,
    NormPropConv2d,
    NormPropInput,
)


class Net(nn.Sequential):
    """[n, 1, 16, 16] -> logits [n, 10], BatchNorm after both convolutions."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 3, 3, padding=1, bias=False),
            nn.BatchNorm2d(3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(3, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64, 10),
        )


class Interrupted(Net):
    """The same; Ctrl-C comes after as many forwards as INTERRUPT_AFTER says."""

    def __init__(self) -> None:
        super().__init__()
        self.left = int(os.environ.get("INTERRUPT_AFTER", "-1"))

    def forward(self, x: Tensor) -> Tensor:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return super().forward(x)


class Maps(nn.Sequential):
    """[n, 1, 16, 16] -> maps of two classes, [n, 2, 16, 16]: ground and ink."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 3, 3, padding=1, bias=False),
            nn.BatchNorm2d(3),
            nn.ReLU(),
            nn.Conv2d(3, 2, 1),
        )


def every_kind() -> nn.Sequential:
    """[n, 1, 16, 16] -> logits [n, 10], with a layer of every kind that stores statistics."""
    return nn.Sequential(
        NormPropInput(1),
        nn.Conv2d(1, 3, 3, padding=1, bias=False),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Conv2d(3, 3, 3, padding=1, bias=False),
        BatchRenorm2d(3, schedule=ClippingSchedule(start=10, d_end=40, r_end=60)),
        nn.ReLU(),
        nn.MaxPool2d(2),
        weight_normalized(nn.Conv2d(3, 4, 3, padding=1, bias=False)),
        MeanOnlyBatchNorm2d(4),
        nn.ReLU(),
        NormPropConv2d(4, 4, 3, padding=1),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def no_statistics() -> nn.Sequential:
    """[n, 1, 16, 16] -> logits [n, 10], with a layer of every kind that stores none."""
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        weight_normalized(nn.Conv2d(3, 4, 3, padding=1)),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def weight_normalized(layer: nn.Module) -> nn.Module:
    """The layer with `weight_g` and `weight_v`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(layer)


def folded(net: Net) -> nn.Sequential:
    """The net with each BatchNorm in the convolution before it, as ONNX exporters leave it."""
    first, second = (torch.nn.utils.fuse_conv_bn_eval(net[i], net[i + 1]) for i in (0, 4))
    layers = list(net)
    return nn.Sequential(first, *layers[2:4], second, *layers[6:]).eval()
