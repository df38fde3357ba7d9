"""Claims of the papers on Batch Renorm, Weight Norm and Norm Prop, each measured over three seeds.

Needs sample_data/ on the path. Shapes: N images, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from reference_nets import (
    BATCH,
    Kind,
    Layer,
    batch_norm,
    batch_renorm,
    build_net,
    kinds,
    shuffled,
    train,
)
from scored_digits import Digits
from table import Cell, Table
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from adabn_cli import (
    BatchRenorm1d,
    BatchRenorm2d,
    NormPropConv2d,
    NormPropLinear,
    data_dependent_init,
)
from adabn_cli.moments import measure

SEEDS = (0, 1, 2)
SMALL_BATCH, SMALL_EPOCHS = 4, 1
SORTED_BATCH, SORTED_EPOCHS = 32, 2
MOMENTUM = 0.01  # Of both in the comparison: torch's 0.1 averages over 40 images at batch size 4.
DEPTH, WIDTH = 10, 16
WATCHED_EPOCHS = 3
POINTS = {"first": 0.0, "tenth": 0.1, "middle": 0.5, "end": 1.0}
WATCHED = {
    "sums": "Norm Prop, W.x over norm of W",
    "outputs": "Norm Prop, layer outputs",
    "normalized": "BatchNorm, normalized outputs",
}
JACOBIAN_SIZE = 300


def hard_batches(digits: Digits) -> Table:
    """Batch Renorm against BatchNorm where a batch's statistics say little of the set's."""
    images, labels = len(digits.training.images), digits.training.labels
    few = SMALL_EPOCHS * (images // SMALL_BATCH)
    many = SORTED_EPOCHS * (images // SORTED_BATCH)
    even = partial(shuffled, images, epochs=SORTED_EPOCHS, size=SORTED_BATCH)
    small = partial(shuffled, images, epochs=SMALL_EPOCHS, size=SMALL_BATCH)
    rows: list[dict[str, Cell]] = []
    for batches, steps, title in (
        (even, many, f"{SORTED_BATCH} images, shuffled"),
        (partial(of_classes, 2, labels, many), many, f"{SORTED_BATCH} images of two classes"),
        (partial(of_classes, 1, labels, many), many, f"{SORTED_BATCH} images of one class"),
        (small, few, f"{SMALL_BATCH} images, shuffled"),
    ):
        norms = {"BatchNorm": batch_norm, "Batch Renorm": partial(batch_renorm, steps=steps)}
        row: dict[str, Cell] = {"training batches": title, "steps": steps}
        for norm, normalized in norms.items():
            scores = []
            for seed in SEEDS:
                torch.manual_seed(seed)
                net = build_net(Kind(normalized))
                slow_down(net)
                for _ in train(net, digits.training, batches(), steps):
                    pass
                scores.append(digits.source_percent(net))
            row[f"{norm}, source %"] = scores
        rows.append(row)
    notes = (
        f"Mean (range) over {len(SEEDS)} seeds of the accuracy on 500 source images, eval mode. "
        f"Both with momentum {MOMENTUM} and the recipe of the reference nets; Batch Renorm's "
        "schedule is scaled to the steps."
    )
    return Table("Batch Renorm where batches are small or sorted", notes, rows)


def slow_down(net: nn.Sequential) -> None:
    """Gives every moving average MOMENTUM."""
    for layer in net:
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | BatchRenorm1d | BatchRenorm2d):
            layer.momentum = MOMENTUM


def of_classes(classes: int, labels: Tensor, steps: int) -> Iterator[Tensor]:
    """The indices of batches of so many classes in equal parts, both drawn anew each time."""
    members = [torch.nonzero(labels == label).flatten() for label in labels.unique()]
    share = SORTED_BATCH // classes
    for _ in range(steps):
        chosen = [members[i] for i in torch.randperm(len(members))[:classes].tolist()]
        yield torch.cat([x[torch.randint(len(x), (share,))] for x in chosen])


def initial_features(digits: Digits) -> Table:
    """What every layer of a deep weight-normalized net computes before training."""
    inputs = digits.training.normalized(digits.training.images)
    seen: dict[tuple[str, str], list[list[tuple[float, float]]]] = {}
    for seed in SEEDS:
        torch.manual_seed(seed)
        first, other = inputs[torch.randperm(len(inputs))[:1000]].split(500)
        net = deep_net()
        seen.setdefault(("as torch starts it", "any"), []).append(features(net, other))
        data_dependent_init(net, first)
        for images, batch in ((first, "its own"), (other, "another")):
            seen.setdefault(("data-dependent", batch), []).append(features(net, images))
        for layer in net:
            if hasattr(layer, "parametrizations"):
                nn.init.ones_(layer.parametrizations.weight.original0)
                nn.init.zeros_(layer.bias)
        seen.setdefault(("same v, g = 1, b = 0", "any"), []).append(features(net, other))
    rows: list[dict[str, Cell]] = []
    for (start, batch), by_seed in seen.items():
        row: dict[str, Cell] = {"initialization": start, "batch": batch}
        for layer in (1, 5, DEPTH):
            row[f"mean {layer}"] = [found[layer - 1][0] for found in by_seed]
            row[f"variance {layer}"] = [found[layer - 1][1] for found in by_seed]
        rows.append(row)
    notes = (
        f"{DEPTH} weight-normalized 3 x 3 convolutions with {WIDTH} channels and ReLU between, 500 "
        f"images a batch, layers 1, 5 and {DEPTH}: mean over channels of |mean| and of the variance"
        f", and over {len(SEEDS)} seeds."
    )
    return Table("Weight Norm's features at initialization", notes, rows, 4, ranges=False)


def deep_net() -> nn.Sequential:
    """DEPTH weight-normalized convolutions, [N, 1, SIZE, SIZE] -> [N, WIDTH, SIZE, SIZE]."""
    layers: list[nn.Module] = []
    for channels in [1] + [WIDTH] * (DEPTH - 1):
        layers += [weight_norm(nn.Conv2d(channels, WIDTH, 3, padding=1)), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@torch.no_grad()
def features(net: nn.Sequential, x: Tensor) -> list[tuple[float, float]]:
    """Mean over channels of |mean| and of the variance behind every convolution."""
    found = []
    for layer in net:
        x = layer(x)
        if not isinstance(layer, nn.ReLU):
            found.append(spread(x))
    return found


def spread(x: Tensor) -> tuple[float, float]:
    """Mean over channels of |mean| and of the variance, of [N, C] or [N, C, H, W]."""
    moments = measure(x).pixels
    return float(moments.mean_C.abs().mean()), float(moments.var_C.mean())


def layer_moments(digits: Digits) -> Table:
    """Norm Prop's layers over a training, and BatchNorm's normalized outputs."""
    steps = WATCHED_EPOCHS * (len(digits.training.images) // BATCH)
    seen: dict[tuple[str, str], list[list[tuple[float, float]]]] = {}
    for name in ("normprop", "bn"):
        for seed in SEEDS:
            for point, net in stages_of_training(name, digits, steps, seed):
                for what, found in watched(net, digits.source_inputs).items():
                    seen.setdefault((what, point), []).append(found)
    rows: list[dict[str, Cell]] = []
    for what, title in WATCHED.items():
        for point in POINTS:
            if (what, point) == ("normalized", "first"):
                continue  # BatchNorm's moving averages have seen nothing yet.
            row: dict[str, Cell] = {"measured": title, "at": point}
            for layer in range(4):
                row[f"mean {layer + 1}"] = [x[layer][0] for x in seen[what, point]]
                row[f"variance {layer + 1}"] = [x[layer][1] for x in seen[what, point]]
            rows.append(row)
    notes = (
        f"Layers 1 to 4 on the 500 source images in eval mode: mean over channels of |mean| and of "
        f"the variance, and over {len(SEEDS)} seeds. First: before training; then after a tenth, "
        f"half and all of {steps} steps. BatchNorm has no statistics yet at the first."
    )
    return Table("Norm Prop's layers over a training", notes, rows, ranges=False)


def stages_of_training(
    name: str, digits: Digits, steps: int, seed: int
) -> Iterator[tuple[str, nn.Sequential]]:
    """The reference net of that name at every point of a training of so many steps."""
    torch.manual_seed(seed)
    kind = kinds(steps)[name]
    net = build_net(kind)
    kind.start(net, digits.training.normalized(digits.training.images))
    points = {round(share * steps): point for point, share in POINTS.items()}
    yield points[0], net.eval()
    batches = shuffled(len(digits.training.images), epochs=WATCHED_EPOCHS)
    for step, _ in enumerate(train(net, digits.training, batches, steps), 1):
        if step in points:
            yield points[step], net


@torch.no_grad()
def watched(net: nn.Sequential, x: Tensor) -> dict[str, list[tuple[float, float]]]:
    """The spread of what every normalizing layer but the logits gives, by what it is."""
    found: dict[str, list[tuple[float, float]]] = {}
    for layer in net:
        y = layer(x)
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            view = [1, -1] + [1] * (x.dim() - 2)
            std = (layer.running_var + layer.eps).sqrt().view(view)
            normalized = (x - layer.running_mean.view(view)) / std
            found.setdefault("normalized", []).append(spread(normalized))
        if isinstance(layer, NormPropConv2d | NormPropLinear) and layer.relu:
            found.setdefault("sums", []).append(spread(normalized_sums(layer, x)))
            found.setdefault("outputs", []).append(spread(y))
        x = y
    return found


def normalized_sums(layer: Layer, x: Tensor) -> Tensor:
    """`W.x / ||W||` of a layer, one W a filter."""
    direction = functional.normalize(layer.weight.flatten(1), dim=1).view_as(layer.weight)
    if isinstance(layer, nn.Conv2d):
        return functional.conv2d(x, direction, padding=layer.padding)
    return functional.linear(x, direction)


def singular_values(digits: Digits) -> Table:
    """Of a Norm Prop layer's Jacobian, with and without 1.21."""
    rows: list[dict[str, Cell]] = []
    for title, gamma in (("with 1.21: gamma = 1/1.21", 1 / 1.21), ("without: gamma = 1", 1.0)):
        by_seed = []
        for seed in SEEDS:
            torch.manual_seed(seed)
            layer = NormPropLinear(JACOBIAN_SIZE, JACOBIAN_SIZE, gamma=gamma)
            nn.init.normal_(layer.weight)
            jacobian = torch.autograd.functional.jacobian(layer, torch.randn(JACOBIAN_SIZE))
            by_seed.append(torch.linalg.svdvals(jacobian))
        rows.append(
            {
                "layer": title,
                "root mean square": [float(x.square().mean().sqrt()) for x in by_seed],
                "mean of those over 0": [float(x[x > 1e-4].mean()) for x in by_seed],
                "mean of all": [float(x.mean()) for x in by_seed],
                "share over 0": [float((x > 1e-4).float().mean()) for x in by_seed],
            }
        )
    notes = (
        f"{JACOBIAN_SIZE} inputs and outputs, Gaussian weights, one Gaussian input a seed, mean "
        f"(range) over {len(SEEDS)} seeds. The rectifier makes about half of them 0."
    )
    return Table("Singular values of Norm Prop's Jacobian", notes, rows)
