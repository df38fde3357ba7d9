"""A folder that holds a model: its configuration, one file of weights, and what lies beside them.

Tells the kind of folder by `config.json` and writes a copy of it; the kinds' own modules know what
the configuration means. Imports nothing that a configuration names.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from torch import Tensor, nn

from adabn_cli.errors import ModelError
from adabn_cli.models.architectures.build import Architecture
from adabn_cli.models.architectures.key_views import KeyView
from adabn_cli.models.metadata import Metadata

CONFIG = "config.json"
_OTHER_WEIGHTS = (".bin", ".ckpt", ".h5", ".msgpack", ".onnx", ".pt", ".pth", ".safetensors")


class FolderKind(ABC):
    """What one library writes into `config.json`, and how it builds a network from that."""

    #: What a record calls it.
    name: ClassVar[str]
    #: Whose folder it is, for people.
    library: ClassVar[str]

    @abstractmethod
    def describes(self, config: Mapping[str, Any]) -> bool:
        """Whether a configuration is this library's."""

    @abstractmethod
    def metadata(self, folder: ModelFolder) -> Metadata:
        """What the folder says of preprocessing and classes."""

    @abstractmethod
    def build(self, folder: ModelFolder, entries: Mapping[str, Tensor]) -> Architecture:
        """The network without its weights. Raises ModelError if it cannot be built."""

    def renamed(self, module: nn.Module, keys: Collection[str]) -> dict[str, str]:
        """The network's names for keys of the file, if the library saves under others."""
        return {}


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """A folder's kind, its configuration, its file of weights and the others.

    `others` are paths below the folder, as they were when it was read.
    """

    path: Path
    kind: FolderKind
    config: Mapping[str, Any] = field(repr=False)
    weights: Path
    others: tuple[Path, ...] = field(repr=False)

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file of the folder."""
        return (self.path / CONFIG, self.weights, *(self.path / other for other in self.others))

    def metadata(self) -> Metadata:
        """What the folder says of preprocessing and classes, and which weights it would not fit."""
        return self.kind.metadata(self)

    def build(self, entries: Mapping[str, Tensor]) -> Architecture:
        """The network without its weights, built offline. Raises ModelError if it cannot be."""
        with _offline():
            return self.kind.build(self, entries)

    def view(self, module: nn.Module, keys: Collection[str]) -> KeyView:
        """The keys of the file under the names that the library gives them in its network."""
        return KeyView(self.kind.renamed(module, keys))

    def read_json(self, name: str) -> Mapping[str, Any]:
        """The mapping in a JSON file of the folder; empty if there is no such file.

        Raises ModelError if the file is damaged.
        """
        return json_in(self.path / name) if (self.path / name).is_file() else {}

    def refuse(self, what: str, hint: str) -> NoReturn:
        """Raises ModelError for what the configuration asks for."""
        raise ModelError(what, where=str(self.path / CONFIG), hint=hint)

    def require(self, package: str, extra: str) -> Any:
        """The library. Raises ModelError, with what to install, where it is missing."""
        try:
            return import_module(package)
        except ImportError as error:
            raise ModelError(
                f"The folder holds a model of {self.kind.library}, and the library that builds "
                "it is missing.",
                where=str(self.path),
                hint=f'Install it: pip install "adabn[{extra}]".',
            ) from error

    @contextmanager
    def building(self) -> Iterator[None]:
        """Turns whatever a library raises for a configuration into a ModelError."""
        try:
            yield
        except ModelError:
            raise
        except Exception as error:  # What a library raises depends on the configuration.
            reason = " ".join(str(error).split())[:300]
            raise ModelError(
                f"The network cannot be built: {type(error).__name__}: {reason}.",
                where=str(self.path / CONFIG),
                hint="It may come from another version of the library. Or give the weights file "
                f"inside: adabn adapt {self.weights} --arch NAME.",
            ) from error

    def notes(self) -> tuple[str, ...]:
        """Other files of weights, which stay as they are."""
        stale = [str(path) for path in self.others if path.suffix in _OTHER_WEIGHTS]
        if not stale:
            return ()
        return (f"only {self.weights.name} is adapted; {', '.join(stale[:3])} stays as it is",)

    @contextmanager
    def copied(self, target: Path) -> Iterator[Path]:
        """A new folder at `target` with all but the weights in it, to put these into.

        It appears when the block ends well. Raises ModelError if it cannot be written.
        """
        target = Path(os.path.abspath(target))  # noqa: PTH100 - links stay what they are.
        try:
            temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        except OSError as error:
            raise _cannot_be_written(target, error) from error
        try:
            for path in self.others:
                (temporary / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.path / path, temporary / path)
            yield temporary
            temporary.chmod(0o755)
            temporary.replace(target)
        except OSError as error:
            raise _cannot_be_written(target, error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _cannot_be_written(target: Path, error: OSError) -> ModelError:
    return ModelError(
        f"The adapted model cannot be written: {error.strerror}.",
        where=str(target),
        hint="Choose another folder with -o.",
    )


def json_in(path: Path) -> Mapping[str, Any]:
    """The mapping in a JSON file. Raises ModelError if it is damaged or holds something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path.name} cannot be read: {str(error).partition(chr(10))[0]}.",
            where=str(path),
            hint="Copy or download the folder again.",
        ) from error
    if not isinstance(found, dict):
        raise ModelError(
            f"{path.name} holds a {type(found).__name__}, not a configuration.",
            where=str(path),
            hint="Copy or download the folder again.",
        )
    return found


@contextmanager
def _offline() -> Iterator[None]:
    """Keeps what the libraries build from asking the hub for anything."""
    try:
        constants: Any = import_module("huggingface_hub.constants")
    except ImportError:  # Then they have nothing to ask it with.
        yield
        return
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
