"""From a path to a `Model`: sniff, trust, load, and find the architecture. Knows no target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from adabn_cli.errors import ModelError, UsageError
from adabn_cli.models.architectures.build import (
    Architecture,
    build_architecture,
    load_entries,
    named_code,
)
from adabn_cli.models.architectures.index import ArchitectureIndex
from adabn_cli.models.architectures.key_views import KeyView, key_views
from adabn_cli.models.architectures.libraries import LIBRARIES, shapes_of
from adabn_cli.models.architectures.parametrized_layers import parametrize_like, plain_entries
from adabn_cli.models.architectures.recognize import recognise_architecture
from adabn_cli.models.checkpoint import open_checkpoint
from adabn_cli.models.folders.folder import ModelFolder
from adabn_cli.models.format import Checkpoint, FileModel, GraphFormat, GraphOptions
from adabn_cli.models.live.module import EagerModel
from adabn_cli.models.trust.named_code import NamedCode
from adabn_cli.preprocessing import Preprocessing
from adabn_cli.text import first_few


@dataclass(frozen=True)
class ModelRequest:
    """Which file, and what the user said about what is in it.

    `input_name` and `reference` are for ONNX graphs: the input that takes pictures, and the file of
    the model from before BatchNorm was folded in. `bf16` is for all but graphs.
    """

    path: Path
    arch: str | None = None
    arch_args: Mapping[str, object] | None = None
    weights: str | None = None
    output: str | None = None
    trust_pickle: bool = False
    device: str = "cpu"
    input_name: str | None = None
    reference: Path | None = None
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
        """The code that `arch` names; None where it names none, or a library's network."""
        return None if self.arch is None else named_code(self.arch)


_APPROXIMATE = (
    "Computed in bfloat16: statistics and scores are approximate. Leave out --bf16 for full ones."
)
_TRUSTED = "The reference was loaded as a trusted pickle."


@dataclass(frozen=True)
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

    Raises ModelError where the file or its architecture cannot be used, UnsafeError where loading
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
    if not isinstance(known, GraphFormat) or not known.takes_input_and_reference:
        _require_no_input_or_reference(request)
    if isinstance(known, GraphFormat):
        return _with_graph(checkpoint, known, request, device)
    metadata = checkpoint.metadata
    checkpoint, architecture, notes = _architecture(checkpoint, request)
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
    approximate = (_APPROXIMATE,) if request.bf16 else ()
    if metadata.classes:
        classes_source: str | None = metadata.classes_source
    else:
        classes_source = architecture.source if architecture.classes else None
    notes = (*metadata.notes, *notes, *approximate)
    return OpenedModel(model, checkpoint, classes_source, notes)


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
    metadata = checkpoint.metadata
    notes = (*metadata.notes, *notes)
    if reference is None:
        return OpenedModel(model, checkpoint, metadata.classes_source or None, notes)
    notes = (*notes, *[_TRUSTED] * reference.trusted_pickle)
    classes = metadata.classes_source or None
    return OpenedModel(model, checkpoint, classes, notes, reference.files)


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


def _architecture(
    checkpoint: Checkpoint, request: ModelRequest
) -> tuple[Checkpoint, Architecture, tuple[str, ...]]:
    """The network with its weights in it, these by its keys, and what was noticed on the way."""
    if checkpoint.module is not None:
        built = _pickled(checkpoint.module, checkpoint.metadata.architecture, request)
        return checkpoint, built, ()
    if request.arch_args and request.arch is None:
        raise UsageError(
            "--arch-args are for the callable that --arch names.", hint="Give --arch too."
        )
    views = list(key_views(checkpoint.entries, checkpoint.stripped))
    if checkpoint.folder is not None:
        built = _of_folder(checkpoint.folder, checkpoint, request)
        renamed = checkpoint.folder.view(built.module, checkpoint.entries)
        view = _most_alike(built.module, [*views, renamed])
    elif request.arch is not None:
        built, view = _named(request, checkpoint, views)
    else:
        view = _known(checkpoint, views)
        built = recognise_architecture(
            plain_entries(checkpoint.seen(view.names).entries), checkpoint.metadata.architecture
        )
    checkpoint = checkpoint.seen(view.names)
    parametrize_like(built.module, checkpoint.entries)
    notes = load_entries(built.module, checkpoint.entries, f"{request.path} into {built.name}")
    if view.left_out:
        one = len(view.left_out) == 1
        told = "1 entry is no part of the network and is left as it is" if one else (
            f"{len(view.left_out)} entries are no part of the network and are left as they are"
        )  # fmt: skip
        notes.append(f"{told}: {first_few(view.left_out, 3)}")
    return checkpoint, built, tuple(notes)


def _published(architecture: Architecture) -> Preprocessing | None:
    """That of the published weights; borrowed where the classes are not theirs."""
    published = architecture.preprocessing
    if published is None or architecture.classes:
        return published
    return replace(published, borrowed=("size", "mean", "std"))


def _named(
    request: ModelRequest, checkpoint: Checkpoint, views: Sequence[KeyView]
) -> tuple[Architecture, KeyView]:
    """What --arch names, and the view of the entries that has its keys."""
    spec, arguments = request.arch or "", request.arch_args or {}
    built = build_architecture(spec, arguments, checkpoint.entries)
    view = _most_alike(built.module, views)
    if view is not views[0]:  # Its sizes were not told by the plain view.
        built = build_architecture(spec, arguments, checkpoint.seen(view.names).entries)
    return built, view


def _most_alike(module: nn.Module, views: Sequence[KeyView]) -> KeyView:
    """The first of the views that share the most keys with a network."""
    keys = module.state_dict().keys()
    return max(views, key=lambda view: len(keys & view.names.keys()))


def _known(checkpoint: Checkpoint, views: Sequence[KeyView]) -> KeyView:
    """The first view that the index has an architecture for; the plain one where it has none."""
    index = ArchitectureIndex.shipped()
    for view in views:
        entries = plain_entries(checkpoint.seen(view.names).entries)
        if view.whole and index.names(shapes_of(entries)):
            return view
    return views[0]


def _of_folder(folder: ModelFolder, checkpoint: Checkpoint, request: ModelRequest) -> Architecture:
    """The network that a folder's configuration describes."""
    if request.arch is not None:
        raise UsageError(
            "The folder says itself which architecture it holds.",
            where=f"--arch {request.arch}",
            hint="Leave out --arch, or give the weights file inside the folder instead of it.",
        )
    return folder.build(checkpoint.entries)


def _pickled(module: nn.Module, claimed: str | None, request: ModelRequest) -> Architecture:
    """A whole module is its own architecture; a library's class says what its publisher knows."""
    kind = type(module)
    if request.arch is not None:
        _require_its_class(module, request)
    plain = Architecture(
        request.arch or f"{kind.__module__}.{kind.__qualname__}",
        "pickled whole, its class from --arch" if request.arch else "pickled whole",
        module,
        preprocessing=None,
        classes=None,
    )
    if kind.__module__.partition(".")[0] not in LIBRARIES:
        return plain
    try:
        known = recognise_architecture(module.state_dict(), claimed)
    except ModelError:
        return plain  # Several fit, or the user changed it: nothing is published for this one.
    return replace(known, module=module, source=f"pickled whole; {known.source}")


def _require_its_class(module: nn.Module, request: ModelRequest) -> None:
    """Raises UsageError where --arch is not what the classes of a trusted pickle came from."""
    kind, code = type(module), request.code if request.trust_pickle else None
    if code is not None and not request.arch_args:
        builder = None if isinstance(code.callable, type) else code.module.__name__
        if kind.__name__ == code.callee or kind.__module__ == builder:
            return
    raise UsageError(
        f"The file holds a whole module, a {kind.__qualname__}, which brings its own architecture.",
        where=f"--arch {request.arch}",
        hint="Leave out --arch and --arch-args, or name its class for --trust-pickle.",
    )


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
