"""From a path to a `Checkpoint`: a file of any format, or a model folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from adabn_cli.errors import ModelError
from adabn_cli.models.checkpoint import Asked, Checkpoint
from adabn_cli.models.containers.byte_patch import sha256_of
from adabn_cli.models.folders.known import folder_kind_of, read_folder, weights_in
from adabn_cli.models.formats.known import format_of
from adabn_cli.models.trust.named_code import NamedCode


def open_checkpoint(
    path: Path,
    *,
    trust_pickle: bool = False,
    weights: str | None = None,
    code: NamedCode | None = None,
) -> Checkpoint:
    """The checkpoint in a file or a model folder; `Asked` says what the options mean.

    Raises ModelError for a file that is none or damaged, UnsafeError if loading it could run code,
    UsageError for a wrong choice.
    """
    asked = Asked(trust_pickle=trust_pickle, weights=weights, code=code)
    return _in_folder(path, asked) if path.is_dir() else _in_file(path, asked)


def kind_of(path: Path) -> str:
    """What a record calls the format of a file, or the kind of a model folder."""
    return folder_kind_of(path).name if path.is_dir() else format_of(path).name


def unsafe_imports(path: Path) -> list[str]:
    """What keeps a file from loading without trust: what its pickle or its code would use.

    Empty for a file without either. Executes nothing; raises ModelError for a file of no known
    kind.
    """
    file = file_with_weights(path)
    return format_of(file).unsafe(file)


def file_with_weights(path: Path) -> Path:
    """The file itself, or the one that a model folder has its weights in."""
    return weights_in(path) if path.is_dir() else path


def _in_file(path: Path, asked: Asked) -> Checkpoint:
    known = format_of(path)
    # Before anything is read: a file that changes from here on is noticed when it is written.
    return known.read(path, sha256_of(path), asked)


def _in_folder(path: Path, asked: Asked) -> Checkpoint:
    """What the folder says comes before what its file of weights says."""
    folder = read_folder(path)
    inside = _in_file(folder.weights, asked)
    if inside.module is not None or inside.format.is_graph:
        raise ModelError(
            "The folder's file of weights holds a whole network, not a state dict.",
            where=str(folder.weights),
            hint="Give that file itself, without its folder.",
        )
    said, beside = folder.metadata(), inside.metadata
    metadata = replace(
        said,
        preprocessing=said.preprocessing or beside.preprocessing,
        classes=said.classes or beside.classes,
        classes_source=said.classes_source if said.classes else beside.classes_source,
        notes=(*said.notes, *beside.notes, *folder.notes()),
    )
    return replace(inside, metadata=metadata, folder=folder)
