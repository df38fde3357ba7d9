"""A checkpoint that was read, of any format: its tensors by clean key, and a writer of copies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from adabn_cli.errors import ModelError, UsageError
from adabn_cli.files import appearing
from adabn_cli.models.containers.byte_patch import TensorPlace, cast_as_stored, patch, sha256_of
from adabn_cli.models.containers.torch_zip import renew_checksums
from adabn_cli.models.folders.folder import ModelFolder
from adabn_cli.models.metadata import Metadata
from adabn_cli.models.trust.named_code import NamedCode

if TYPE_CHECKING:
    from adabn_cli.models.format import Format


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the user said about how a file is read.

    `weights` ("ema", "model" or a key) chooses among several state dicts in one file; without it
    a moving average comes before the weights as trained. `code` has the classes of a trusted
    pickle that are not where it names them, such as those of a script's `__main__`.
    """

    trust_pickle: bool = False
    weights: str | None = None
    code: NamedCode | None = None

    def require_no_choice(self, what: str, path: Path) -> None:
        """Raises UsageError, saying what the file holds, if there is no choice of weights."""
        if self.weights not in (None, "", "model"):
            raise UsageError(what, where=str(path), hint=f"Leave out --weights {self.weights}.")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A file of tensors. `module` is set, and `entries` empty, if a whole module was pickled.

    `weights` is the key that the weights were found under, "" for the root; `stripped` are prefixes
    that all their keys have in the file. `names` are the keys as they were found, by those that the
    entries are seen under. `trains`: the network in the file was saved in train mode, by a flag
    that can be written anew. `root` is what the format read, for its own use; `data_files` are what
    it read beside the file. A `file` may be the one with the weights in a model `folder`.
    """

    format: Format
    file: Path
    sha256: str
    asked: Asked
    entries: Mapping[str, Tensor]
    metadata: Metadata
    module: nn.Module | None = None
    weights: str = ""
    root: Any = field(repr=False, default=None)
    places: Mapping[str, TensorPlace | None] = field(repr=False, default_factory=dict)
    stripped: tuple[str, ...] = ()
    names: Mapping[str, str] | None = field(repr=False, default=None)
    trains: bool = False
    pickle_module: ModuleType | None = field(repr=False, default=None)
    data_files: tuple[Path, ...] = ()
    folder: ModelFolder | None = field(repr=False, default=None)

    @property
    def path(self) -> Path:
        """The file or the folder that was given."""
        return self.file if self.folder is None else self.folder.path

    @property
    def kind(self) -> str:
        """What a record calls the format, or the kind of folder."""
        return self.format.name if self.folder is None else self.folder.kind.name

    @property
    def trusted_pickle(self) -> bool:
        """Whether it was loaded although it could run code."""
        return self.format.can_run_code and self.asked.trust_pickle

    @property
    def files(self) -> tuple[Path, ...]:
        """What was read: the file, or the folder and all in it, and data files that a graph names.

        What lies in a folder may be a link to somewhere else, as in Hugging Face's cache.
        """
        in_folder = self.folder.files if self.folder else ()
        return (self.path, *in_folder, *self.data_files)

    def beside(self, path: Path) -> tuple[Path, ...]:
        """The other files that writing to `path` may write."""
        return self.format.beside(self, path)

    def seen(self, names: Mapping[str, str]) -> Checkpoint:
        """The same checkpoint with its entries under other names; those not named are left out."""
        return replace(
            self,
            entries={name: self.entries[key] for name, key in names.items()},
            places={name: self.places[key] for name, key in names.items()},
            names=names,
        )

    def write(self, path: Path, changed: Mapping[str, Tensor]) -> None:
        """Writes the same container with only these entries replaced, in the dtype stored.

        The file or folder appears whole or not at all. If its bytes cannot be replaced in place (a
        compressed zip), and to leave train mode, it is saved anew in the same format. Raises
        ModelError for an entry that is not there, does not fit, or shares its memory with another
        that was given other values.
        """
        if self.folder is None:
            self._write_file(path, changed)
            return
        with self.folder.copied(path) as copy:
            self._write_file(copy / self.file.name, changed)

    def _write_file(self, path: Path, changed: Mapping[str, Tensor]) -> None:
        tensors = self._tensors()
        for key in changed:
            if key not in tensors:
                raise ModelError(
                    "The checkpoint has no such entry.",
                    where=f"{self.file}: {key}",
                    hint=f"Run adabn inspect {self.file} to see what it has.",
                )
        stored = {
            key: cast_as_stored(key, value, self._dtype(key), tuple(tensors[key].shape))
            for key, value in changed.items()
        }
        edits = {
            key: (place, value)
            for key, value in stored.items()
            if (place := self.places[key]) is not None
        }
        if self.trains or len(edits) < len(stored):
            self._save_anew(path, stored)
            return
        renew = renew_checksums if self.format.is_zip else None
        patch(self.file, path, edits, sha256=self.sha256, renew_checksums=renew)

    def _tensors(self) -> Mapping[str, Tensor]:
        return self.entries if self.module is None else state_of_module(self.module)

    def _dtype(self, key: str) -> torch.dtype:
        # A module may have been moved to another dtype since; its place remembers the file's.
        place = self.places[key]
        return self._tensors()[key].dtype if place is None else place.dtype

    def _save_anew(self, path: Path, stored: Mapping[str, Tensor]) -> None:
        if sha256_of(self.file) != self.sha256:
            raise ModelError(
                "The checkpoint has changed since it was opened.",
                where=str(self.file),
                hint="Run again.",
            )
        asked = replace(self.asked, weights=self.weights)
        fresh = self.format.read(self.file, self.sha256, asked)
        if self.names is not None:
            fresh = fresh.seen(self.names)
        tensors = fresh._tensors()
        with torch.no_grad():
            for key, value in stored.items():
                tensors[key].copy_(value)
        with appearing(path) as temporary:
            self.format.save_anew(fresh, temporary)


def state_of_module(module: nn.Module) -> dict[str, Tensor]:
    """Live parameters and buffers that a state dict would have; extra state is no tensor."""
    state = module.state_dict()
    return {key: value for key, value in state.items() if isinstance(value, Tensor)}
