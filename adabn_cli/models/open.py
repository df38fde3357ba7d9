"""From a path to a `Model`: sniff, trust, load, and find the architecture. Knows no target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch

from adabn_cli.dependence import FREE
from adabn_cli.errors import UsageError
from adabn_cli.models.architectures.build import (
    Architecture,
    named_code,
)
from adabn_cli.models.checkpoint import Checkpoint
from adabn_cli.models.format import FileModel, GraphFormat, GraphOptions
from adabn_cli.models.live.module import EagerModel
from adabn_cli.models.network import network_of
from adabn_cli.models.open_checkpoint import open_checkpoint
from adabn_cli.models.trust.named_code import NamedCode
from adabn_cli.preprocessing import Preprocessing


@dataclass(frozen=True)
class ModelRequest:
    """Which file, and what the user said about what is in it.

    `input_name` and `reference` are for ONNX graphs: the input that takes pictures, and the file of
    the model from before BatchNorm was folded in. `bf16` is for all but graphs.
    """

    path: Path = field(metadata=FREE)
    _: KW_ONLY
    arch: str | None = field(default=None, metadata=FREE)
    arch_args: Mapping[str, object] | None = None
    weights: str | None = field(default=None, metadata=FREE)
    output: str | None = None
    trust_pickle: bool = field(default=False, metadata=FREE)
    device: str = field(default="cpu", metadata=FREE)
    input_name: str | None = None
    reference: Path | None = field(default=None, metadata=FREE)
    bf16: bool = False

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that are named: the model, its reference, and the code of `--arch`."""
        code = (self.arch or "").rpartition(":")[0]
        named = code if code.endswith(".py") else f"{code.replace('.', '/')}.py"
        files = (self.path, self.reference, Path(named) if code else None)
        return tuple(file for file in files if file is not None)

    @cached_property
    def code(self) -> NamedCode | None:
        """The code that `arch` names; None if it names none, or a library's network."""
        return None if self.arch is None else named_code(self.arch)


_APPROXIMATE = (
    "Computed in bfloat16: statistics and scores are approximate. Leave out --bf16 for full ones."
)
_TRUSTED = "The reference was loaded as a trusted pickle."


@dataclass(frozen=True, kw_only=True)
class OpenedModel:
    """The model, the file it came from, and sentences the user should read."""

    model: FileModel
    checkpoint: Checkpoint
    classes_source: str | None
    notes: tuple[str, ...]
    reference_files: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that was read, those that the model names itself among them."""
        return (*self.checkpoint.files, *self.reference_files)


def open_model(request: ModelRequest, checkpoint: Checkpoint | None = None) -> OpenedModel:
    """The model in a file, on the requested device; in a `checkpoint` that was opened before.

    Raises ModelError if the file or its architecture cannot be used, UnsafeError if loading
    would run code, UsageError for an architecture or device that is not there.
    """
    device = _device(request.device)
    checkpoint = checkpoint or open_checkpoint(
        request.path,
        trust_pickle=request.trust_pickle,
        # With a reference, they are the reference's: a graph has one set.
        weights=request.weights if request.reference is None else None,
        code=request.code,
    )
    known = checkpoint.format
    if not known.takes_input_and_reference:
        _require_no_input_or_reference(request)
    if isinstance(known, GraphFormat):
        return _with_graph(checkpoint, known, request, device)
    metadata = checkpoint.metadata
    checkpoint, architecture, notes = network_of(checkpoint, request.arch, request.arch_args)
    model = EagerModel(
        architecture.module.to(device),
        architecture=architecture.name,
        architecture_source=architecture.source,
        preprocessing=metadata.preprocessing or _published(architecture),
        classes=metadata.classes or architecture.classes,
        output=request.output,
        write=checkpoint.write,
        bf16=request.bf16,
    )
    if metadata.classes:
        classes_source: str | None = metadata.classes_source
    else:
        classes_source = architecture.source if architecture.classes else None
    return OpenedModel(
        model=model,
        checkpoint=checkpoint,
        classes_source=classes_source,
        notes=(*metadata.notes, *notes, *[_APPROXIMATE] * request.bf16),
    )


def _with_graph(
    checkpoint: Checkpoint, known: GraphFormat, request: ModelRequest, device: torch.device
) -> OpenedModel:
    """A file that holds a graph, which is its own network."""
    of_reference = request.reference is not None and request.trust_pickle and request.code
    if request.arch_args or (request.arch is not None and not of_reference):
        raise UsageError(
            "The file holds a graph, which is its own architecture.",
            where=str(request.path),
            hint="Leave out --arch and --arch-args.",
        )
    if request.bf16:
        raise UsageError(
            "A graph says itself in which precision it computes.",
            where=str(request.path),
            hint="Leave out --bf16, or give the checkpoint that the graph was made from.",
        )
    reference = _reference(request)
    model, notes = known.model(
        checkpoint,
        GraphOptions(
            device=known.best_device(device) if request.device == "auto" else device,
            output=request.output,
            input_name=request.input_name,
            reference=reference,
        ),
    )
    trusted = reference is not None and reference.trusted_pickle
    return OpenedModel(
        model=model,
        checkpoint=checkpoint,
        classes_source=checkpoint.metadata.classes_source or None,
        notes=(*checkpoint.metadata.notes, *notes, *[_TRUSTED] * trusted),
        reference_files=() if reference is None else reference.files,
    )


def _reference(request: ModelRequest) -> Checkpoint | None:
    if request.reference is None:
        return None
    return open_checkpoint(
        request.reference,
        trust_pickle=request.trust_pickle,
        weights=request.weights,
        code=request.code,
    )


def _require_no_input_or_reference(request: ModelRequest) -> None:
    """Raises UsageError for options that no other file than an ONNX graph takes."""
    for option, given in (("--input", request.input_name), ("--reference", request.reference)):
        if given is not None:
            raise UsageError(
                f"{option} is for ONNX graphs.",
                where=str(request.path),
                hint=f"Leave out {option}.",
            )


def _published(architecture: Architecture) -> Preprocessing | None:
    """That of the published weights; borrowed if the classes are not theirs."""
    published = architecture.preprocessing
    if published is None or architecture.classes:
        return published
    return replace(published, borrowed=("size", "mean", "std"))


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device, dtype=torch.float64)  # Moments are merged in float64.
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise UsageError(
            f"The device {name!r} cannot be used here.",
            where=str(error).splitlines()[0],
            hint="Use --device cpu.",
        ) from error
    return device
