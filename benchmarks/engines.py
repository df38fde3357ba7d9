"""Time and error of the engines beside a plain pass and torch's update_bn, alternating in one run.

Prints ratios of CPU time to a plain eval pass of the same images, and the worst error of the
statistics against a float64 oracle that runs one forward per layer. `make bench`, about ten
minutes on two cores.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from adabn_cli.adaptation import Adaptation, Installer
from adabn_cli.batch import no_output, no_progress
from adabn_cli.checkpoints.eager import EagerModel
from adabn_cli.engines import engine

Statistics = dict[str, tuple[Tensor, Tensor]]


def main() -> None:
    """Prints one table a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="resnet18,mobilenet_v2")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    import torchvision

    for name in options.models.split(","):
        torch.manual_seed(0)
        module = torchvision.models.get_model(name, weights=None).eval()
        images = torch.randn(options.images, 3, 224, 224).to(memory_format=torch.channels_last)
        # Class-sorted order, as a folder of classes gives it: brightness drifts over the set.
        images += torch.linspace(-1, 1, options.images).view(-1, 1, 1, 1)
        batches = images.split(options.batch_size)
        print(
            f"\n{name}, {options.images} images of 224 px, batches of {options.batch_size}, sorted"
        )
        print_table(module, batches, options.rounds)


def print_table(module: nn.Module, batches: tuple[Tensor, ...], rounds: int) -> None:
    """Alternates the ways, so that a busy machine slows all of them alike."""
    ways: dict[str, Callable[[nn.Module, tuple[Tensor, ...]], None]] = {
        "plain eval pass": plain,
        "adabn exact": lambda module, batches: adapt(module, batches, "exact"),
        "adabn one-pass": lambda module, batches: adapt(module, batches, "one-pass"),
        "torch update_bn": update_bn,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    results = {}
    for _ in range(rounds):
        for name, way in ways.items():
            adapted = copy.deepcopy(module)
            start = time.process_time()
            way(adapted, batches)
            seconds[name].append(time.process_time() - start)
            results[name] = statistics_in(adapted)
    oracle = oracle_statistics(module, batches)
    reference = statistics.median(seconds["plain eval pass"])
    print(f"{'':18}{'CPU time':>10}{'worst variance error':>24}")
    for name, times in seconds.items():
        ratio = f"{statistics.median(times) / reference:.2f}x"
        error = "" if name == "plain eval pass" else f"{worst_error(results[name], oracle):.2g}"
        print(f"{name:18}{ratio:>10}{error:>24}")


def plain(module: nn.Module, batches: tuple[Tensor, ...]) -> None:
    """One eval pass."""
    with torch.inference_mode():
        for images in batches:
            module(images)


def adapt(module: nn.Module, batches: tuple[Tensor, ...], name: str) -> None:
    """One of adabn's engines; one-pass scores in a second pass."""
    count = sum(len(images) for images in batches)
    installer = Installer(EagerModel(module), Adaptation(), count)
    engine(name).estimate(installer, batches, no_output, no_progress)


def update_bn(module: nn.Module, batches: tuple[Tensor, ...]) -> None:
    """What torch offers; it needs a pass of its own to score."""
    torch.optim.swa_utils.update_bn(batches, module)


def statistics_in(module: nn.Module) -> Statistics:
    """Mean and variance at every site."""
    state = EagerModel(module).state()
    return {
        site.name: (state[site.keys["mean"]].double(), state[site.keys["var"]].double())
        for site in EagerModel(module).sites
    }


def oracle_statistics(module: nn.Module, batches: tuple[Tensor, ...]) -> Statistics:
    """Self-consistent statistics in float64: the whole set forwarded once for every layer."""
    module = copy.deepcopy(module).double().eval()
    model = EagerModel(module)
    images = torch.cat([batch.double() for batch in batches])
    for site in visited(model, images[:1]):
        seen = []
        for batch in images.split(16):
            run = model.suspended(batch)
            seen.append(next(signal.activation for signal in run if signal.site.name == site))
            run.close()
        activation = torch.cat(seen).transpose(0, 1).flatten(1)
        here = next(s for s in model.sites if s.name == site)
        var, mean = torch.var_mean(activation, dim=1, correction=0)
        model.load_state({here.keys["mean"]: mean, here.keys["var"]: var})
    return statistics_in(module)


def visited(model: EagerModel, images: Tensor) -> list[str]:
    """The sites in the order of the forward."""
    return [signal.site.name for signal in model.suspended(images)]


def worst_error(found: Statistics, oracle: Statistics) -> float:
    """The largest relative error of a variance."""
    return max(
        float(((found[name][1] - var).abs() / (var + 1e-5)).max())
        for name, (_, var) in oracle.items()
    )


if __name__ == "__main__":
    main()
