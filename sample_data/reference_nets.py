"""The nets of the sample data: one architecture under five normalizers, and how they are trained.

Knows adabn's layers and nothing of how it adapts, and no file.

Shapes: N images, H x W pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from adabn_cli import (
    BatchRenorm1d,
    BatchRenorm2d,
    ClippingSchedule,
    MeanOnlyBatchNorm1d,
    MeanOnlyBatchNorm2d,
    NormPropConv2d,
    NormPropInput,
    NormPropLinear,
    NormPropMaxPool2d,
    data_dependent_init,
)

SIZE = 16
OUTPUTS = 10
SEED = 0
EPOCHS = 15
BATCH = 128
RATE = 5e-3
SHIFT = 1.5  # pixels of SIZE: augmentation moves a digit by up to this much
INITIAL_BATCH = 500  # training images that weight-normalized layers are initialized on

Layer = nn.Conv2d | nn.Linear
#: What stands in the place of a convolution or linear layer without bias, activation included.
Normalized = Callable[[Layer], Sequence[nn.Module]]


def max_pool() -> nn.Module:
    """Pooling over 2 x 2."""
    return nn.MaxPool2d(2)


@dataclass(frozen=True)
class Kind:
    """A normalizer, and all that a net and its training have to be for it.

    `normalized` is told each layer but the last, `logits` the last one; `pool` makes a 2 x 2
    pooling and `entrance` what stands before the first layer. `start` gets the net and all training
    inputs before the first step.
    """

    normalized: Normalized
    logits: Callable[[nn.Linear], nn.Module] = lambda layer: layer
    pool: Callable[[], nn.Module] = max_pool
    entrance: Callable[[], Sequence[nn.Module]] = tuple
    start: Callable[[nn.Sequential, Tensor], object] = lambda net, inputs: None


@dataclass(frozen=True)
class TrainingSet:
    """Images [N, 1, SIZE, SIZE] in [0, 1], labels [N], and what the images are normalized by."""

    images: Tensor
    labels: Tensor
    mean: float
    std: float

    def normalized(self, images: Tensor) -> Tensor:
        """Images as a net takes them."""
        return (images - self.mean) / self.std


def batch_norm(layer: Layer) -> Sequence[nn.Module]:
    """The layer, BatchNorm over its outputs, ReLU."""
    if isinstance(layer, nn.Conv2d):
        return layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU()
    return layer, nn.BatchNorm1d(layer.out_features), nn.ReLU()


def batch_renorm(layer: Layer, *, steps: int = 0) -> Sequence[nn.Module]:
    """The layer, Batch Renormalization over its outputs, ReLU.

    In the paper the clips open from step 5,000 on, d's until 25,000 and r's until 40,000; here at
    the same ratios, r's until four fifths of `steps`.
    """
    schedule = ClippingSchedule(start=steps // 10, d_end=steps // 2, r_end=steps * 4 // 5)
    if isinstance(layer, nn.Conv2d):
        return layer, BatchRenorm2d(layer.out_channels, schedule=schedule), nn.ReLU()
    return layer, BatchRenorm1d(layer.out_features, schedule=schedule), nn.ReLU()


def weight_normalized(layer: Layer) -> Sequence[nn.Module]:
    """The layer with a bias and its weight as g v / ||v||, ReLU."""
    layer.bias = nn.Parameter(torch.zeros(len(layer.weight)))
    return weight_norm(layer), nn.ReLU()


def mean_only(layer: Layer) -> Sequence[nn.Module]:
    """The layer with its weight as g v / ||v||, mean-only BatchNorm over its outputs, ReLU."""
    weight_norm(layer)
    if isinstance(layer, nn.Conv2d):
        return layer, MeanOnlyBatchNorm2d(layer.out_channels), nn.ReLU()
    return layer, MeanOnlyBatchNorm1d(layer.out_features), nn.ReLU()


def norm_prop(layer: Layer) -> Sequence[nn.Module]:
    """A layer of the same size that normalizes its own outputs, ReLU included."""
    if isinstance(layer, nn.Conv2d):
        return (NormPropConv2d(layer.in_channels, layer.out_channels, 3, padding=1),)
    return (NormPropLinear(layer.in_features, layer.out_features),)


def initialize_by_data(net: nn.Sequential, inputs: Tensor) -> None:
    """Initializes weight-normalized layers on INITIAL_BATCH of the inputs."""
    data_dependent_init(net, inputs[torch.randperm(len(inputs))[:INITIAL_BATCH]])


def fit_input(net: nn.Sequential, inputs: Tensor) -> None:
    """Gives the entrance of a Norm Prop net the statistics of the inputs."""
    entrance = net[0]
    if isinstance(entrance, NormPropInput):
        entrance.fit([inputs])


def kinds(steps: int) -> dict[str, Kind]:
    """The reference nets by name, for a training of so many steps."""
    return {
        "bn": Kind(batch_norm),
        "renorm": Kind(partial(batch_renorm, steps=steps)),
        "wn": Kind(weight_normalized, start=initialize_by_data),
        "mean_only": Kind(mean_only, start=initialize_by_data),
        "normprop": Kind(
            norm_prop,
            logits=lambda layer: NormPropLinear(layer.in_features, layer.out_features, relu=False),
            pool=partial(NormPropMaxPool2d, 2),
            entrance=lambda: (NormPropInput(1),),
            start=fit_input,
        ),
    }


def build_net(kind: Kind) -> nn.Sequential:
    """A net of three convolutions and two linear layers, [N, 1, 16, 16] -> logits [N, 10].

    Nets that differ in their kind differ in nothing else.
    """
    side = SIZE // 4
    normalized = kind.normalized
    return nn.Sequential(
        *kind.entrance(),
        *normalized(nn.Conv2d(1, 16, 3, padding=1, bias=False)),
        *normalized(nn.Conv2d(16, 32, 3, padding=1, bias=False)),
        kind.pool(),
        *normalized(nn.Conv2d(32, 32, 3, padding=1, bias=False)),
        kind.pool(),
        nn.Flatten(),
        *normalized(nn.Linear(32 * side * side, 64, bias=False)),
        kind.logits(nn.Linear(64, OUTPUTS)),
    )


def make_repeatable() -> None:
    """One thread: the order of float sums, and with it every weight, follows threads."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def shifted(images: Tensor) -> Tensor:
    """Each image moved by its own random part of SHIFT pixels; black comes in at the edges."""
    N = len(images)
    affine = torch.eye(2, 3).repeat(N, 1, 1)
    affine[:, :, 2] = (torch.rand(N, 2) * 2 - 1) * (SHIFT * 2 / SIZE)
    grid = nn.functional.affine_grid(affine, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, align_corners=False)


def shuffled(images: int, *, epochs: int = EPOCHS, size: int = BATCH) -> Iterator[Tensor]:
    """The indices of every batch, in a new order each epoch; a ragged last batch is left out."""
    for _ in range(epochs):
        order = torch.randperm(images)
        yield from order[: images // size * size].split(size)


def train(
    net: nn.Sequential, training: TrainingSet, batches: Iterable[Tensor], steps: int
) -> Iterator[float]:
    """Trains in place by cross-entropy, AdamW and a one-cycle rate; yields the loss of each step.

    `batches` are the indices of `steps` batches. The net is in eval mode when the last is done.
    """
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=steps)
    for batch in batches:
        net.train()
        logits = net(training.normalized(shifted(training.images[batch])))
        loss = nn.functional.cross_entropy(logits, training.labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cycle.step()
        net.eval()
        yield loss.item()


def trained(kind: str, training: TrainingSet) -> tuple[nn.Sequential, list[float]]:
    """The reference net of that name as it is shipped, and the loss of each training step."""
    torch.manual_seed(SEED)
    images = len(training.images)
    steps = EPOCHS * (images // BATCH)
    chosen = kinds(steps)[kind]
    net = build_net(chosen)
    chosen.start(net, training.normalized(training.images))
    losses = list(train(net, training, shuffled(images), steps))
    for parameter in net.parameters():
        parameter.grad = None
    return with_older_weight_norm(net), losses


def with_older_weight_norm(net: nn.Sequential) -> nn.Sequential:
    """The net with `weight_g` and `weight_v` where a parametrization was, in place.

    A parametrized module has a class of its own and cannot be pickled whole.
    """
    layers: list[Any] = [x for x in net if parametrize.is_parametrized(x, "weight")]
    for layer in layers:
        weight = layer.parametrizations.weight
        g, v = weight.original0.detach(), weight.original1.detach()
        parametrize.remove_parametrizations(layer, "weight")
        layer._load_state_dict_pre_hooks.clear()  # It leaves a local function of its own behind.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            nn.utils.weight_norm(layer)
        layer.weight_g.data, layer.weight_v.data = g, v
    if layers:
        with torch.no_grad():  # So that the `weight` that each layer keeps has no gradient.
            net(torch.zeros(1, 1, SIZE, SIZE))
    return net
