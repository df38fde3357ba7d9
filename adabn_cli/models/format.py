"""What adabn knows of a file format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from adabn_cli.model import Model
from adabn_cli.models.checkpoint import Asked, Checkpoint
from adabn_cli.models.graphs.model import GraphModel, Network
from adabn_cli.models.metadata import read_metadata


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a format is recognized by: the first bytes and, of a zip, the names of its members."""

    head: bytes
    members: tuple[str, ...] = ()

    @property
    def inside(self) -> set[str]:
        """The members' names without the folder that torch puts all of them in."""
        return {name.partition("/")[2] for name in self.members}


class Format(ABC):
    """A file format. It has no state: what was read from a file is in a `Checkpoint`."""

    #: What a record calls it.
    name: ClassVar[str]
    #: Whether loading such a file can run code; then it is audited, and refused unless trusted.
    can_run_code: ClassVar[bool] = False
    #: Whether a file holds the network too, made for one size of pictures: see `GraphFormat`.
    is_graph: ClassVar[bool] = False
    #: Whether the options --input and --reference mean anything to it.
    takes_input_and_reference: ClassVar[bool] = False
    #: What `adabn convert` calls it, and the endings of files that it writes in it.
    called: ClassVar[str] = ""
    endings: ClassVar[tuple[str, ...]] = ()
    #: Why `adabn convert` makes nothing else of such a file; "" if it does.
    stays: ClassVar[str] = ""
    #: Whether the container is a zip archive, whose checksums are renewed after a change in place.
    is_zip: ClassVar[bool] = False

    @abstractmethod
    def recognizes(self, start: Start) -> bool:
        """Whether a file is of this format, by its content. Executes and unpickles nothing."""

    @abstractmethod
    def read(self, path: Path, sha256: str, asked: Asked) -> Checkpoint:
        """The content of a file of that hash.

        Raises ModelError if it is damaged, UnsafeError if loading it could run code and it is not
        trusted, UsageError for weights that it does not have.
        """

    def unsafe(self, path: Path) -> list[str]:
        """What keeps a file from loading without trust. Executes nothing."""
        return []

    def beside(self, checkpoint: Checkpoint, path: Path) -> tuple[Path, ...]:
        """The other files that writing to `path` may write."""
        return ()

    def save_anew(self, fresh: Checkpoint, path: Path) -> None:
        """Saves a checkpoint whose tensors were changed, in eval mode.

        For formats with files in which an entry has no place of its own, or that know a mode.
        """
        raise NotImplementedError(self.name)

    def require_library(self, path: Path) -> None:  # noqa: B027 - Most need none.
        """Raises ModelError, with what to install, if the library that writes it is missing."""

    def written(self, state: Mapping[str, Tensor], said: Mapping[str, Any]) -> bytes:
        """A state dict as a file of this format, with what is known of the network beside it."""
        raise NotImplementedError(self.name)

    def state_of(self, checkpoint: Checkpoint, entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those of a network's entries that its state dict would have."""
        return dict(entries)


class FileModel(Model, Protocol):
    """A model that was read from a file, and how it computes."""

    @property
    def dtype(self) -> str:
        """In which precision, e.g. "float32"."""

    @property
    def device(self) -> str:
        """Where, e.g. "cpu" or "cuda:0"."""


@dataclass(frozen=True, kw_only=True)
class GraphOptions:
    """How a graph is run: which output is the logits, which input takes pictures.

    `reference` is the checkpoint from before BatchNorm was folded in.
    """

    device: torch.device
    output: str | None = None
    input_name: str | None = None
    reference: Checkpoint | None = None


class GraphFile(Protocol):
    """What was read from a file with a graph: its tensors by name, and what was saved beside it."""

    @property
    def entries(self) -> Mapping[str, Tensor]:
        """Live parameters and buffers."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Texts and lists of them, by name."""


class GraphFormat(Format):
    """A format whose files hold their own network."""

    is_graph = True

    def opened(self, file: GraphFile, path: Path, sha256: str, asked: Asked) -> Checkpoint:
        """The checkpoint that a loaded graph is. Raises UsageError for a choice of weights."""
        asked.require_no_choice("The file holds one network, with one set of weights.", path)
        return Checkpoint(
            format=self,
            file=path,
            sha256=sha256,
            asked=asked,
            entries=file.entries,
            metadata=read_metadata(file.metadata),
            root=file,
        )

    def model(
        self, checkpoint: Checkpoint, options: GraphOptions
    ) -> tuple[FileModel, tuple[str, ...]]:
        """The network, and sentences that the user should read.

        A graph that torch runs step by step needs but a `network(device)` of what was read. Raises
        ModelError if it has nothing that can be adapted.
        """
        network: Network = checkpoint.root.network(options.device)
        model = GraphModel(
            network=network,
            metadata=checkpoint.metadata,
            write=checkpoint.write,
            output=options.output,
        )
        return model, network.notes

    def best_device(self, device: torch.device) -> torch.device:
        """The best device that can run it, given the best that torch has."""
        return device

    def exported(self, module: nn.Module, images: Tensor, said: str) -> bytes:
        """A live network as a file of this format, for batches of any size of such pictures.

        `said` is JSON of what is known of it. Raises whatever the exporter does.
        """
        raise NotImplementedError(self.name)
