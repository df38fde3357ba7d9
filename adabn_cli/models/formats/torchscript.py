"""TorchScript: a network as code that torch runs, with its tensors."""

from __future__ import annotations

from pathlib import Path

from adabn_cli.models.format import (
    Asked,
    Checkpoint,
    FileModel,
    GraphFormat,
    GraphOptions,
    Start,
)
from adabn_cli.models.graphs.model import GraphModel
from adabn_cli.models.graphs.torchscript import read_torchscript, unsafe_operators
from adabn_cli.models.live.train_mode import SAVED_IN_TRAIN_MODE
from adabn_cli.models.metadata import read_metadata


class TorchScript(GraphFormat):
    """What torch.jit.save writes."""

    name = "torchscript"
    can_run_code = True
    is_zip = True

    def recognizes(self, start: Start) -> bool:
        """By the code in the archive, or its constants."""
        inside = start.inside
        return "constants.pkl" in inside or any(name.startswith("code/") for name in inside)

    def read(self, path: Path, sha256: str, asked: Asked) -> Checkpoint:
        """The network, put in eval mode."""
        file = read_torchscript(path, trust_pickle=asked.trust_pickle)
        asked.require_no_choice("The file holds one network, with one set of weights.", path)
        metadata = read_metadata(file.metadata)
        return Checkpoint(
            format=self,
            file=path,
            sha256=sha256,
            asked=asked,
            entries=file.entries,
            metadata=metadata.noting(*[SAVED_IN_TRAIN_MODE] * file.trains),
            root=file,
            places=file.places,
            trains=file.trains,
        )

    def unsafe(self, path: Path) -> list[str]:
        """Operators in its code that reach files or other machines."""
        return unsafe_operators(path)

    def save_anew(self, fresh: Checkpoint, path: Path) -> None:
        """The network, with the files that were saved beside it."""
        fresh.root.save(path)

    def model(
        self, checkpoint: Checkpoint, options: GraphOptions
    ) -> tuple[FileModel, tuple[str, ...]]:
        """The network, run step by step."""
        network = checkpoint.root.network(options.device)
        model = GraphModel(network, checkpoint.metadata, checkpoint.write, options.output)
        return model, network.notes
