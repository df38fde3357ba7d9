"""What adapting a graph costs beside a plain pass of the same file, alternating in one run.

TorchScript (scripted, traced), `.pt2` and ONNX of one torchvision net. Each way begins with opening
the file, so that ONNX pays for its sessions. Prints ratios of CPU time; the images are noise, which
a convolution takes no longer for. `make bench-graphs`, about five minutes on two cores.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import torch
from torch import Tensor, nn

from adabn_cli.adaptation.engines import engine
from adabn_cli.adaptation.engines.passes import Passes
from adabn_cli.adaptation.installer import Installer
from adabn_cli.adaptation.methods import Adaptation
from adabn_cli.model import no_output, no_progress
from adabn_cli.models.open import ModelRequest, open_model

Batches = tuple[Tensor, ...]
Plain = Callable[[Path, Batches], None]


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    import torchvision

    torch.manual_seed(0)
    module = torchvision.models.get_model(options.model, weights=None).eval()
    batches = torch.randn(options.images, 3, 224, 224).split(options.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        files = exported(module, Path(folder), batches[0][:2])
        print(f"\n{options.model}, {options.images} images of 224 px, batches of "
              f"{options.batch_size}, median of {options.rounds}\n")  # fmt: skip
        print("| file | plain pass, s | adapted, s | ratio |\n| --- | --: | --: | --: |")
        for name, (file, plain) in files.items():
            passes, adapted = measure(file, plain, batches, options.rounds)
            print(f"| {name} | {passes:.1f} | {adapted:.1f} | {adapted / passes:.2f} |", flush=True)


def exported(module: nn.Module, folder: Path, images: Tensor) -> dict[str, tuple[Path, Plain]]:
    """The files, each with what runs it plainly."""
    dynamic = {0: torch.export.Dim("n", min=1, max=1024)}
    scripted, traced, program, onnx = (
        folder / name for name in ("scripted.pt", "traced.pt", "net.pt2", "net.onnx")
    )
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        torch.jit.script(module).save(scripted)
        torch.jit.trace(module, images).save(traced)
        torch.export.save(
            torch.export.export(module, (images,), dynamic_shapes=(dynamic,)), program
        )
        torch.onnx.export(
            module, (images,), str(onnx), dynamo=True, optimize=False, dynamic_shapes=(dynamic,)
        )
    return {
        "TorchScript, scripted": (scripted, torchscript_pass),
        "TorchScript, traced": (traced, torchscript_pass),
        ".pt2": (program, program_pass),
        "ONNX": (onnx, onnx_pass),
    }


def measure(file: Path, plain: Plain, batches: Batches, rounds: int) -> tuple[float, float]:
    """Median CPU seconds of a plain pass and of adapting, taken in turn."""
    seconds: dict[str, list[float]] = {"plain": [], "adapted": []}
    for _ in range(rounds):
        for name, way in (("plain", plain), ("adapted", adapt)):
            start = time.process_time()
            way(file, batches)
            seconds[name].append(time.process_time() - start)
    return statistics.median(seconds["plain"]), statistics.median(seconds["adapted"])


def adapt(file: Path, batches: Batches) -> None:
    """The exact engine, in memory."""
    with redirect_stderr(StringIO()):
        model = open_model(ModelRequest(file)).model
        installer = Installer.of(model, Adaptation(), sum(map(len, batches)))
        engine("exact").estimate(installer, Passes.over(batches), no_output, no_progress)


def torchscript_pass(file: Path, batches: Batches) -> None:
    """One eval pass by torch."""
    net = torch.jit.load(file).eval()
    with torch.inference_mode():
        for images in batches:
            net(images)


def program_pass(file: Path, batches: Batches) -> None:
    """One pass by torch."""
    net = torch.export.load(file).module()
    with torch.inference_mode():
        for images in batches:
            net(images)


def onnx_pass(file: Path, batches: Batches) -> None:
    """One pass by onnxruntime on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    for images in batches:
        session.run(None, {name: images.numpy()})


if __name__ == "__main__":
    main()
