"""Small nets with BatchNorm, and how they are trained: with and without heavy augmentation.

What a checkpoint's statistics say about plain source pictures depends on the augmentation, so nets
of several kinds are here. Knows no shift. Shapes: N images, K classes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from shift_pictures import CACHE, SAMPLES, SIGNS, inputs, pictures, warped
from torch import Tensor, nn

from adabn_cli.models.open import ModelRequest, open_model

BATCH = 128


def _unit(C: int, D: int, *, kernel: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(C, D, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(D), nn.ReLU()]


class _Block(nn.Module):
    """Two convolutions and a shortcut (He et al. 2016)."""

    def __init__(self, C: int, D: int, stride: int) -> None:
        super().__init__()
        second = nn.Sequential(*_unit(D, D)[:2])
        self.path = nn.Sequential(*_unit(C, D, stride=stride), second)
        same = stride == 1 and C == D
        self.shortcut: nn.Module = nn.Identity()
        if not same:
            self.shortcut = nn.Sequential(*_unit(C, D, kernel=1, stride=stride)[:2])

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, C, H, W] -> [N, D, H / stride, W / stride]."""
        return torch.relu(self.path(x) + self.shortcut(x))


class _PreActivation(nn.Module):
    """The same with its BatchNorm in front of each convolution."""

    def __init__(self, C: int, D: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.BatchNorm2d(C), nn.ReLU())
        self.path = nn.Sequential(
            nn.Conv2d(C, D, 3, stride, 1, bias=False),
            nn.BatchNorm2d(D),
            nn.ReLU(),
            nn.Conv2d(D, D, 3, 1, 1, bias=False),
        )
        self.shortcut = nn.Conv2d(C, D, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, C, H, W] -> [N, D, H / stride, W / stride]."""
        active = self.first(x)
        return self.shortcut(active) + self.path(active)


def _pooled(C: int, K: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(C, K)]


def resnet(K: int) -> nn.Sequential:
    """Nine BatchNorm layers, 78,000 parameters."""
    blocks = [_Block(16, 16, 1), _Block(16, 32, 2), _Block(32, 64, 2)]
    return nn.Sequential(*_unit(1, 16, stride=2), *blocks, *_pooled(64, K))


def preact(K: int) -> nn.Sequential:
    """Seven BatchNorm layers in front of their convolutions, 88,000 parameters."""
    blocks = [_PreActivation(20, 20, 1), _PreActivation(20, 40, 2), _PreActivation(40, 60, 2)]
    last = [nn.BatchNorm2d(60), nn.ReLU(), *_pooled(60, K)]
    return nn.Sequential(nn.Conv2d(1, 20, 3, 2, 1, bias=False), *blocks, *last)


def vgg(K: int) -> nn.Sequential:
    """Five convolutions and a linear layer, each with BatchNorm, 87,000 parameters."""
    head = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, 64, bias=False)]
    return nn.Sequential(
        *_unit(1, 16),
        nn.MaxPool2d(2),
        *_unit(16, 32),
        *_unit(32, 32),
        nn.MaxPool2d(2),
        *_unit(32, 64),
        *_unit(64, 64),
        *head,
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Linear(64, K),
    )


def mobile(K: int) -> nn.Sequential:
    """Depthwise separable convolutions, nine BatchNorm layers, 10,000 parameters."""
    layers = _unit(1, 16, stride=2)
    for C, D, stride in ((16, 32, 1), (32, 32, 1), (32, 64, 2), (64, 64, 1)):
        layers += [*_unit(C, C, stride=stride, groups=C), *_unit(C, D, kernel=1)]
    return nn.Sequential(*layers, *_pooled(64, K))


def _between(N: int, low: float, high: float) -> Tensor:
    return torch.rand(N) * (high - low) + low


def _moved(x: Tensor, degrees: float, scale: tuple[float, float], far: float) -> Tensor:
    N = len(x)
    turn, size = _between(N, -degrees, degrees).deg2rad(), 1 / _between(N, *scale)
    across, down = _between(N, -far, far), _between(N, -far, far)
    rows = [turn.cos() * size, -turn.sin() * size, across, turn.sin() * size, turn.cos() * size]
    return warped(x, torch.stack([*rows, down], 1).view(N, 2, 3))


def _shift(x: Tensor) -> Tensor:
    return _moved(x, 0, (1, 1), 0.15)


def _crop(x: Tensor) -> Tensor:
    x = _moved(x, 0, (0.9, 1.6), 0.25)
    return torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x)


def _heavy(x: Tensor) -> Tensor:
    x, N = _moved(x, 20, (0.75, 1.25), 0.2), len(x)
    x = x * _between(N, 0.5, 1.2).view(N, 1, 1, 1)
    x = x + _between(N, -0.1, 0.2).view(N, 1, 1, 1) * (torch.rand(N, 1, 1, 1) < 0.5)
    return (x + _between(N, 0, 0.15).view(N, 1, 1, 1) * torch.randn_like(x)).clamp(0, 1)


def _jitter(x: Tensor) -> Tensor:
    x = _shift(x) * _between(len(x), 0.3, 1).view(-1, 1, 1, 1)
    return torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, 1 - x, x)


AUGMENTATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "shift": _shift,
    "crop": _crop,
    "heavy": _heavy,
    "jitter": _jitter,
}


@dataclass(frozen=True)
class Recipe:
    """How a net came to be: its pictures, of which the first `train` are trained on.

    `build` is a file of sample_data for a net that is there already.
    """

    build: Callable[[int], nn.Sequential] | str
    classes: int
    size: int
    pictures: str
    augmentation: str
    train: int
    epochs: int


RECIPES = {
    # Constants were chosen on these.
    "mnist resnet, heavy": Recipe(resnet, 10, 28, "mnist", "heavy", 7000, 8),
    "fashion vgg, crop": Recipe(vgg, 10, 28, "fashion", "crop", 12000, 4),
    "signs resnet, heavy": Recipe(
        resnet, len(SIGNS), 24, f"dejavu:{len(SIGNS)}:0", "heavy", 12000, 8
    ),
    "mnist resnet, jitter": Recipe(resnet, 10, 28, "mnist", "jitter", 7000, 8),
    "sample bn": Recipe("digits_bn.pt", 10, 16, "sample", "shift", 0, 0),
    "sample wn": Recipe("digits_wn.pt", 10, 16, "sample", "shift", 0, 0),
    # On these nothing was chosen.
    "fashion preact, heavy": Recipe(preact, 10, 28, "fashion", "heavy", 12000, 5),
    "mnist mobile, shift": Recipe(mobile, 10, 28, "mnist", "shift", 7000, 8),
    "optdigits vgg, shift": Recipe(vgg, 10, 16, "optdigits", "shift", 1000, 20),
    "signs mobile, crop": Recipe(mobile, 60, 24, "liberation:60:0", "crop", 12000, 8),
    "fashion mobile, jitter": Recipe(mobile, 10, 28, "fashion", "jitter", 12000, 8),
}


class Normalized(nn.Module):
    """The net with its input normalization in front: images in [0, 1] -> logits [N, K]."""

    def __init__(self, net: nn.Module, mean: float, std: float) -> None:
        super().__init__()
        self.net, self.mean, self.std = net, mean, std

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, 1, H, W] in [0, 1] -> logits [N, K]."""
        found: Tensor = self.net((x - self.mean) / self.std)
        return found


def trained(name: str) -> Normalized:
    """The net of that recipe, in eval mode; trained where the cache has none."""
    recipe = RECIPES[name]
    if isinstance(recipe.build, str):
        return _shipped(recipe.build)
    images, labels_N = pictures(recipe.pictures)
    x, y_N = inputs(images[: recipe.train], recipe.size), torch.from_numpy(labels_N[: recipe.train])
    torch.manual_seed(1)
    net = recipe.build(recipe.classes)
    model = Normalized(net, float(x.mean()), float(x.std()))
    stored = CACHE / Path(f"{name.replace(', ', '-').replace(' ', '-')}.pt")
    if stored.exists():
        net.load_state_dict(torch.load(stored, weights_only=True))
    else:
        _train(model, x, y_N.long(), recipe)
        torch.save(net.state_dict(), stored)
    return model.eval()


def _shipped(file: str) -> Normalized:
    opened = open_model(ModelRequest(SAMPLES / file)).model
    prepared = opened.preprocessing
    if prepared is None:
        sys.exit(f"{file} does not say how its pictures were normalized: make sample-data.")
    return Normalized(opened.module, prepared.mean[0], prepared.std[0]).eval()


def _train(model: Normalized, x: Tensor, y_N: Tensor, recipe: Recipe) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)
    steps = recipe.epochs * (len(x) // BATCH)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps)
    model.train()
    for _ in range(recipe.epochs):
        for batch in torch.randperm(len(x))[: len(x) // BATCH * BATCH].split(BATCH):
            logits = model(AUGMENTATIONS[recipe.augmentation](x[batch]))
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits, y_N[batch]).backward()
            optimizer.step()
            rate.step()
    model.requires_grad_(False)
