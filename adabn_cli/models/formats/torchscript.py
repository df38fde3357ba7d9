"""TorchScript: a network as code that torch runs, with its tensors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from adabn_cli.models.checkpoint import Asked, Checkpoint
from adabn_cli.models.format import GraphFormat, Start
from adabn_cli.models.graphs.torchscript_file import read_torchscript, unsafe_operators
from adabn_cli.models.live.train_mode import SAVED_IN_TRAIN_MODE


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
        opened = self.opened(file, path, sha256, asked)
        metadata = opened.metadata.noting(*[SAVED_IN_TRAIN_MODE] * file.trains)
        return replace(opened, metadata=metadata, places=file.places, trains=file.trains)

    def unsafe(self, path: Path) -> list[str]:
        """Operators in its code that reach files or other machines."""
        return unsafe_operators(path)

    def save_anew(self, fresh: Checkpoint, path: Path) -> None:
        """The network, with the files that were saved beside it."""
        fresh.root.save(path)
