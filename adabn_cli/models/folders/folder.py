"""A folder that holds a model: its configuration, one file of weights, and what lies beside them.

Tells the kind of folder by `config.json` and writes a copy of it; the kinds' own modules know what
the configuration means. Imports nothing that a configuration names.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, Protocol

from torch import Tensor, nn

from adabn_cli.errors import ModelError
from adabn_cli.models import FOLDERS
from adabn_cli.models.architectures.build import Architecture
from adabn_cli.models.architectures.key_views import KeyView
from adabn_cli.models.metadata import Metadata

CONFIG = "config.json"
#: The files that the libraries load, in their order.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_OTHER_WEIGHTS = (".bin", ".ckpt", ".h5", ".msgpack", ".onnx", ".pt", ".pth", ".safetensors")
#: Runs of adabn in a model's folder are no part of it; nor is what hidden folders keep (.git).
_NOT_THE_MODEL = "adabn-runs"


class FolderKind(Protocol):
    """A module that knows what one library writes into `config.json`."""

    #: Whose folder it is, for people.
    LIBRARY: str

    def describes(self, config: Mapping[str, Any]) -> bool:
        """Whether a configuration is this library's."""

    def metadata(self, folder: ModelFolder) -> Metadata:
        """What the folder says of preprocessing and classes."""

    def build(self, folder: ModelFolder, entries: Mapping[str, Tensor]) -> Architecture:
        """The network without its weights. Raises ModelError where it cannot be built."""

    def renamed(self, module: nn.Module, keys: Collection[str]) -> dict[str, str]:
        """The network's names for keys of the file, where the library saves under others."""


@dataclass(frozen=True)
class ModelFolder:
    """A folder's kind, a key of FOLDERS, its configuration, its file of weights and the others.

    `others` are paths below the folder, as they were when it was read.
    """

    path: Path
    kind: str
    config: Mapping[str, Any] = field(repr=False)
    weights: Path
    others: tuple[Path, ...] = field(repr=False)

    @property
    def _library(self) -> FolderKind:
        module: Any = import_module(FOLDERS[self.kind])
        kind: FolderKind = module
        return kind

    def metadata(self) -> Metadata:
        """What the folder says of preprocessing and classes, and which weights it would not fit."""
        return self._library.metadata(self)

    def build(self, entries: Mapping[str, Tensor]) -> Architecture:
        """The network without its weights, built offline. Raises ModelError where it cannot be."""
        with _offline():
            return self._library.build(self, entries)

    def view(self, module: nn.Module, keys: Collection[str]) -> KeyView:
        """The keys of the file under the names that the library gives them in its network."""
        return KeyView(self._library.renamed(module, keys))

    def read_json(self, name: str) -> Mapping[str, Any]:
        """The mapping in a JSON file of the folder; empty where there is no such file.

        Raises ModelError where the file is damaged.
        """
        return _json_in(self.path / name) if (self.path / name).is_file() else {}

    def refuse(self, what: str, hint: str) -> NoReturn:
        """Raises ModelError for what the configuration asks for."""
        raise ModelError(what, where=str(self.path / CONFIG), hint=hint)

    def require(self, package: str, extra: str) -> Any:
        """The library. Raises ModelError, with what to install, where it is missing."""
        try:
            return import_module(package)
        except ImportError as error:
            raise ModelError(
                f"The folder holds a model of {self._library.LIBRARY}, and the library that builds "
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


def is_model_folder(path: Path) -> bool:
    """Whether a folder has a configuration at all."""
    return (path / CONFIG).is_file()


def kind_of_folder(path: Path) -> str:
    """The kind, a key of FOLDERS. Raises ModelError where the configuration is of none."""
    config = _json_in(path / CONFIG)
    for kind, name in FOLDERS.items():
        module: Any = import_module(name)
        if module.describes(config):
            return kind
    raise ModelError(
        "The folder's config.json is not one of timm, transformers or segmentation-models-pytorch.",
        where=str(path / CONFIG),
        hint="Give the file of weights inside the folder, and --arch where its keys do not tell.",
    )


def read_folder(path: Path) -> ModelFolder:
    """The model in a folder. Raises ModelError where its configuration or weights are missing."""
    kind = kind_of_folder(path)
    weights = weights_in(path)
    others = tuple(
        found.relative_to(path)
        for found in sorted(path.rglob("*"))
        if found.is_file()
        and found != weights
        and not (parts := found.relative_to(path).parts)[0].startswith(_NOT_THE_MODEL)
        and not any(part.startswith(".") for part in parts[:-1])
    )
    return ModelFolder(path, kind, _json_in(path / CONFIG), weights, others)


def weights_in(path: Path) -> Path:
    """The file of weights that a model's library would load, or the path itself if it is a file.

    Raises ModelError where there is none, and where they are split over several.
    """
    if not path.is_dir():
        return path
    for name in _WEIGHTS:
        if (path / name).is_file():
            return path / name
        if (path / f"{name}.index.json").is_file():
            raise ModelError(
                "The folder's weights are split over several files.",
                where=str(path / f"{name}.index.json"),
                hint='Save them in one: model.save_pretrained(DIR, max_shard_size="100GB").',
            )
    raise ModelError(
        f"The folder has a {CONFIG} but no weights.",
        where=str(path),
        hint=f"Put {' or '.join(_WEIGHTS)} there, or give the checkpoint itself.",
    )


@contextmanager
def copied(folder: ModelFolder, target: Path) -> Iterator[Path]:
    """A new folder at `target` with all but the weights in it, to put these into.

    It appears when the block ends well. Raises ModelError where it cannot be written.
    """
    target = Path(os.path.abspath(target))  # noqa: PTH100 - links stay what they are.
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise _cannot_be_written(target, error) from error
    try:
        for path in folder.others:
            (temporary / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder.path / path, temporary / path)
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


def _json_in(path: Path) -> Mapping[str, Any]:
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
