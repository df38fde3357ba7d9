"""A checkpoint file opened: its tensors by clean key, what it says about itself, and a writer.

Ties the formats together: sniff, audit, load, find the weights, read the metadata.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from adabn_cli.errors import ModelError, UsageError
from adabn_cli.files import appearing
from adabn_cli.models import FOLDERS, FORMATS
from adabn_cli.models.architectures.weights import clean_keys, find_weights
from adabn_cli.models.containers.byte_patch import (
    Mend,
    TensorPlace,
    cast_as_stored,
    patch,
    sha256_of,
)
from adabn_cli.models.containers.safetensors_file import SafetensorsFile
from adabn_cli.models.containers.torch_pickle import PickledFile, unpickle
from adabn_cli.models.folders.folder import ModelFolder, copied, read_folder, weights_in
from adabn_cli.models.graphs.exported import ExportedFile
from adabn_cli.models.graphs.torchscript import TorchScriptFile
from adabn_cli.models.live.train_mode import SAVED_IN_TRAIN_MODE, put_in_eval_mode, trains
from adabn_cli.models.metadata import Metadata, read_metadata
from adabn_cli.models.onnx.file import OnnxFile
from adabn_cli.models.sniff import sniff
from adabn_cli.models.trust.named_code import NamedCode
from adabn_cli.models.trust.policy import refusals


@dataclass(frozen=True)
class Checkpoint:
    """A file of tensors. `module` is set, and `entries` empty, where a whole module was pickled.

    `weights` is the key that the weights were found under, "" for the root; `stripped` are prefixes
    that all their keys have in the file. `names` are the keys as they were found, by those that the
    entries are seen under. `trains`: the network in the file was saved in train mode, by a flag
    that can be written anew. A `folder` has its weights in a checkpoint of its own, `inside`.
    """

    path: Path
    format: str
    sha256: str
    entries: Mapping[str, Tensor]
    module: nn.Module | None
    metadata: Metadata
    trusted_pickle: bool
    weights: str
    root: Any = field(repr=False, default=None)
    places: Mapping[str, TensorPlace | None] = field(repr=False, default_factory=dict)
    stripped: tuple[str, ...] = ()
    names: Mapping[str, str] | None = field(repr=False, default=None)
    trains: bool = False
    code: NamedCode | None = field(repr=False, default=None)
    pickle_module: ModuleType | None = field(repr=False, default=None)
    folder: ModelFolder | None = field(repr=False, default=None)
    inside: Checkpoint | None = field(repr=False, default=None)

    @property
    def files(self) -> tuple[Path, ...]:
        """What was read: the file or folder, and the data files that a graph names."""
        return (self.path, *(self.root.data_paths if isinstance(self.root, OnnxFile) else ()))

    def beside(self, path: Path) -> tuple[Path, ...]:
        """The other files that `write(path)` may write."""
        return self.root.beside(path) if isinstance(self.root, OnnxFile) else ()

    def seen(self, names: Mapping[str, str]) -> Checkpoint:
        """The same checkpoint with its entries under other names; those not named are left out."""
        return replace(
            self,
            entries={name: self.entries[key] for name, key in names.items()},
            places={name: self.places[key] for name, key in names.items()},
            names=names,
            inside=None if self.inside is None else self.inside.seen(names),
        )

    def write(self, path: Path, changed: Mapping[str, Tensor]) -> None:
        """Writes the same container with only these entries replaced, in the dtype stored.

        The file appears whole or not at all. Where its bytes cannot be replaced in place (a
        compressed zip), and to leave train mode, it is saved anew in the same format. Raises
        ModelError for an entry that is not there, does not fit, or shares its memory with another
        that was given other values.
        """
        if self.folder is not None and self.inside is not None:
            with copied(self.folder, path) as copy:
                self.inside.write(copy / self.folder.weights.name, changed)
            return
        tensors = self._tensors()
        for key in changed:
            if key not in tensors:
                raise ModelError(
                    "The checkpoint has no such entry.",
                    where=f"{self.path}: {key}",
                    hint=f"Run adabn inspect {self.path} to see what it has.",
                )
        stored = {
            key: cast_as_stored(key, value, self._dtype(key), tuple(tensors[key].shape))
            for key, value in changed.items()
        }
        if self.trains:
            self._save_anew(path, stored)
            return
        edits: dict[str, tuple[TensorPlace, Tensor]] = {}
        for key, value in stored.items():
            place = self.places[key]
            if place is None:
                self._save_anew(path, stored)
                return
            edits[key] = (place, value)
        mend: Mend | None = import_module(FORMATS[self.format]).mend
        patch(self.path, path, edits, sha256=self.sha256, mend=mend)

    def _tensors(self) -> Mapping[str, Tensor]:
        return self.entries if self.module is None else _module_tensors(self.module)

    def _dtype(self, key: str) -> torch.dtype:
        # A module may have been moved to another dtype since; its place remembers the file's.
        place = self.places[key]
        return self._tensors()[key].dtype if place is None else place.dtype

    def _save_anew(self, path: Path, stored: Mapping[str, Tensor]) -> None:
        fresh = open_checkpoint(
            self.path, trust_pickle=self.trusted_pickle, weights=self.weights, code=self.code
        )
        if fresh.sha256 != self.sha256:
            raise ModelError(
                "The checkpoint has changed since it was opened.",
                where=str(self.path),
                hint="Run again.",
            )
        if self.names is not None:
            fresh = fresh.seen(self.names)
        tensors = fresh._tensors()
        with torch.no_grad():
            for key, value in stored.items():
                tensors[key].copy_(value)
        for whole in (fresh.root, fresh.module):
            if isinstance(whole, nn.Module):
                put_in_eval_mode(whole)
        with appearing(path) as temporary:
            if self.format == "torchscript":
                import_module(FORMATS[self.format]).save(fresh.root, temporary)
                return
            torch.save(
                fresh.root,
                temporary,
                pickle_module=fresh.pickle_module or pickle,
                _use_new_zipfile_serialization=self.format == "torch-zip",
            )


def open_checkpoint(
    path: Path,
    *,
    trust_pickle: bool = False,
    weights: str | None = None,
    code: NamedCode | None = None,
) -> Checkpoint:
    """The checkpoint in a file, or in a folder that a library of models wrote.

    `weights` ("ema", "model" or a key) chooses among several state dicts in one file; without it
    a moving average is taken before the weights as trained. `code` has the classes of a trusted
    pickle that are not where it names them, as those of a script's `__main__`.

    Raises ModelError for a file that is none or damaged, UnsafeError where loading it could run
    code, UsageError for a wrong choice.
    """
    path = Path(path)
    kind = sniff(path)
    if kind in FOLDERS:
        return _from_folder(path, trust_pickle, weights)
    # Before anything is read: a file that changes from here on is noticed when it is written.
    sha256 = sha256_of(path)
    module = import_module(FORMATS[kind])
    if kind == "safetensors":
        return _from_safetensors(path, sha256, module.read(path), weights)
    if kind == "onnx":
        return _from_graph(kind, sha256, module.read(path, sha256), weights)
    if kind == "exported-program":
        return _from_graph(kind, sha256, module.read(path), weights)
    if kind == "torchscript":
        file = module.read(path, trust_pickle=trust_pickle)
        graph = _from_graph(kind, sha256, file, weights)
        return _told_to_train(replace(graph, trusted_pickle=trust_pickle, trains=file.trains))
    unpickled = unpickle(path, module.lay_out(path), trust_pickle=trust_pickle, code=code)
    found = find_weights(unpickled.root, weights, str(path))
    beside = unpickled.root if isinstance(unpickled.root, Mapping) else {}
    # A whole module may know more: timm's keeps its pretrained_cfg.
    metadata = read_metadata({**({} if found.module is None else vars(found.module)), **beside})
    tensors = found.entries if found.module is None else _module_tensors(found.module)
    opened = Checkpoint(
        path=path,
        format=kind,
        sha256=sha256,
        entries=found.entries,
        module=found.module,
        metadata=replace(metadata, notes=(*metadata.notes, *found.notes)),
        trusted_pickle=trust_pickle,
        weights=found.key,
        root=unpickled.root,
        stripped=found.stripped,
        code=code,
        pickle_module=unpickled.pickle_module,
        places={key: unpickled.place(tensor) for key, tensor in tensors.items()},
        trains=found.module is not None and trains(found.module),
    )
    return _told_to_train(opened)


def _told_to_train(opened: Checkpoint) -> Checkpoint:
    """The same, with a note where it was saved in train mode."""
    if not opened.trains:
        return opened
    notes = (*opened.metadata.notes, SAVED_IN_TRAIN_MODE)
    return replace(opened, metadata=replace(opened.metadata, notes=notes))


def unsafe_imports(path: Path) -> list[str]:
    """What keeps a file from loading without trust: what its pickle or its code would use.

    Empty for a file without either. Executes nothing; raises ModelError for a file of no known
    kind.
    """
    path = weights_in(path) if sniff(path) in FOLDERS else path
    kind = sniff(path)
    if kind in ("safetensors", "onnx", "exported-program"):
        return []
    if kind == "torchscript":
        return list(import_module(FORMATS[kind]).unsafe_operators(path))
    file: PickledFile = import_module(FORMATS[kind]).lay_out(path)
    return list(refusals(file.audits))


def _from_safetensors(
    path: Path, sha256: str, file: SafetensorsFile, weights: str | None
) -> Checkpoint:
    if weights not in (None, "", "model"):
        raise UsageError(
            "A safetensors file holds one set of weights.",
            where=str(path),
            hint=f"Leave out --weights {weights}.",
        )
    entries, stripped = clean_keys(file.entries)
    return Checkpoint(
        path=path,
        format="safetensors",
        sha256=sha256,
        entries=entries,
        module=None,
        metadata=read_metadata(file.metadata),
        trusted_pickle=False,
        weights="",
        places=clean_keys(file.places)[0],
        stripped=stripped,
    )


def _from_folder(path: Path, trust_pickle: bool, weights: str | None) -> Checkpoint:
    """What the folder says comes before what its file of weights says."""
    folder = read_folder(path)
    inside = open_checkpoint(folder.weights, trust_pickle=trust_pickle, weights=weights)
    if inside.module is not None or inside.format not in (
        "safetensors",
        "torch-zip",
        "torch-legacy",
    ):
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
    return replace(
        inside, path=path, format=folder.kind, metadata=metadata, folder=folder, inside=inside
    )


def _from_graph(
    kind: str,
    sha256: str,
    file: OnnxFile | TorchScriptFile | ExportedFile,
    weights: str | None,
) -> Checkpoint:
    """A file that holds its own network."""
    if weights not in (None, "", "model"):
        raise UsageError(
            "The file holds one network, with one set of weights.",
            where=str(file.path),
            hint=f"Leave out --weights {weights}.",
        )
    metadata = read_metadata(file.metadata)
    if isinstance(file, OnnxFile):
        metadata = replace(metadata, notes=(*metadata.notes, *file.notes))
    return Checkpoint(
        path=file.path,
        format=kind,
        sha256=sha256,
        entries=file.entries,
        module=None,
        metadata=metadata,
        trusted_pickle=False,
        weights="",
        root=file,
        places={} if isinstance(file, OnnxFile) else file.places,
    )


def _module_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Live parameters and buffers that a state dict would have; extra state is no tensor."""
    state = module.state_dict()
    return {key: value for key, value in state.items() if isinstance(value, Tensor)}
