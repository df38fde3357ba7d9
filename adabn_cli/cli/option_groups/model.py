"""Which model, and what the user says of it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adabn_cli.cli.option_groups.option import Group, Option

if TYPE_CHECKING:
    from adabn_cli.models.open import ModelRequest

_option = partial(Option, rich_help_panel="Model")

ModelPath = Annotated[
    Path, typer.Argument(metavar="MODEL", help="The checkpoint file, or a model folder.")
]


class ModelOptions(Group):
    """What is in the model file."""

    arch: Annotated[
        str | None,
        _option(
            "--arch",
            metavar="NAME",
            help="torchvision:resnet50, timm:resnet50, package.module:callable or "
            "path/to/file.py:callable. Without it the file's keys and shapes decide.",
        ),
    ] = None
    arch_args: Annotated[
        str,
        _option(
            "--arch-args",
            metavar="KEY=VALUE,…",
            help="Arguments for the callable that --arch names; values, or all of it, may be JSON.",
        ),
    ] = ""
    weights: Annotated[
        str | None,
        _option(
            "--weights",
            metavar="ema|model|KEY",
            help="Which weights to take if the file holds several: the moving average by default.",
        ),
    ] = None
    output: Annotated[
        str | None,
        _option(
            "--output",
            metavar="KEY",
            help="Which entry of the model's output holds the logits.",
        ),
    ] = None
    input_name: Annotated[
        str | None,
        _option(
            "--input",
            metavar="NAME",
            help="Which input of an ONNX graph takes the pictures, if it has several.",
        ),
    ] = None
    trust_pickle: Annotated[
        bool,
        _option(
            "--trust-pickle",
            said="line",
            help="Load a file that runs code. Only for files you would run as a program. Classes "
            "are looked for in the current folder too, and in the file that --arch names.",
        ),
    ] = False

    def request(self, path: Path) -> ModelRequest:
        """The model at `path`, on the CPU."""
        from adabn_cli.models.architectures.build import parse_arch_args
        from adabn_cli.models.open import ModelRequest

        return ModelRequest(
            path=path,
            arch=self.arch,
            arch_args=parse_arch_args(self.arch_args),
            weights=self.weights,
            output=self.output,
            trust_pickle=self.trust_pickle,
            input_name=self.input_name,
        )


class RunningModelOptions(ModelOptions):
    """The same of a model that runs, and on what it does."""

    device: Annotated[
        str,
        _option(
            "--device",
            metavar="DEVICE",
            help="cpu, cuda, cuda:1, …; auto uses a GPU if there is one.",
        ),
    ] = "auto"
    bf16: Annotated[
        bool,
        _option(
            "--bf16",
            help="Compute in bfloat16: fast on GPUs and processors made for it, "
            "and approximate. Statistics move by 0.01 to 0.3 of a standard deviation.",
        ),
    ] = False

    def request(self, path: Path) -> ModelRequest:
        """The model at `path`, where it is to run."""
        return replace(super().request(path), device=self.device, bf16=self.bf16)
