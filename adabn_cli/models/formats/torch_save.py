"""What torch.save writes: a state dict, a training checkpoint or a whole module, pickled."""

from __future__ import annotations

import io
import pickle
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adabn_cli.models.architectures.weights import find_weights
from adabn_cli.models.checkpoint import Asked, Checkpoint, state_of_module
from adabn_cli.models.containers import torch_legacy, torch_zip
from adabn_cli.models.containers.torch_pickle import PickledFile, unpickle
from adabn_cli.models.format import Format, Start
from adabn_cli.models.live.train_mode import SAVED_IN_TRAIN_MODE, put_in_eval_mode, trains
from adabn_cli.models.metadata import read_metadata
from adabn_cli.models.trust.policy import refusals

# 0x1950a86a20f9469cfc6c as a pickled LONG1: what torch wrote before 1.6, after its protocol byte.
_LEGACY_MAGIC = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."


class _TorchFile(Format):
    """Common to both containers of torch.save: pickles and storages, laid out in two ways."""

    can_run_code = True

    @abstractmethod
    def lay_out(self, path: Path) -> PickledFile:
        """What the file's pickles would do and where each storage's bytes are."""

    def read(self, path: Path, sha256: str, asked: Asked) -> Checkpoint:
        """The weights in it, or the whole module, with what was saved beside them."""
        file = self.lay_out(path)
        unpickled = unpickle(path, file, trust_pickle=asked.trust_pickle, code=asked.code)
        found = find_weights(unpickled.root, asked.weights, str(path))
        beside = unpickled.root if isinstance(unpickled.root, Mapping) else {}
        # A whole module may know more: timm's keeps its pretrained_cfg.
        metadata = read_metadata({**({} if found.module is None else vars(found.module)), **beside})
        tensors = found.entries if found.module is None else state_of_module(found.module)
        in_train_mode = found.module is not None and trains(found.module)
        return Checkpoint(
            format=self,
            file=path,
            sha256=sha256,
            asked=asked,
            entries=found.entries,
            metadata=metadata.noting(*found.notes, *[SAVED_IN_TRAIN_MODE] * in_train_mode),
            module=found.module,
            weights=found.key,
            root=unpickled.root,
            places={key: unpickled.place(tensor) for key, tensor in tensors.items()},
            stripped=found.stripped,
            trains=in_train_mode,
            pickle_module=unpickled.pickle_module,
        )

    def unsafe(self, path: Path) -> list[str]:
        """The globals of its pickles that are not allowed."""
        return list(refusals(self.lay_out(path).audits))

    def save_anew(self, fresh: Checkpoint, path: Path) -> None:
        """Everything that was in the file, pickled again."""
        for whole in (fresh.root, fresh.module):
            if isinstance(whole, nn.Module):
                put_in_eval_mode(whole)
        torch.save(
            fresh.root,
            path,
            pickle_module=fresh.pickle_module or pickle,
            _use_new_zipfile_serialization=self.is_zip,
        )


class TorchZip(_TorchFile):
    """What torch.save writes since 1.6."""

    name = "torch-zip"
    called = "state dict"
    endings = (".pth", ".pt", ".pth.tar")
    is_zip = True

    def recognizes(self, start: Start) -> bool:
        """By the pickle in the archive, which a TorchScript has too."""
        return "data.pkl" in start.inside

    def lay_out(self, path: Path) -> PickledFile:
        """The members of the archive."""
        return torch_zip.lay_out(path)

    def written(self, state: Mapping[str, Tensor], said: Mapping[str, Any]) -> bytes:
        """The state dict under a key of its own, as training scripts do: then there is room beside
        it for what is known."""
        # Into memory: a file's name would become part of its bytes.
        buffer = io.BytesIO()
        torch.save({"state_dict": dict(state), **said}, buffer)
        return buffer.getvalue()


class TorchLegacy(_TorchFile):
    """What torch.save wrote before 1.6."""

    name = "torch-legacy"

    def recognizes(self, start: Start) -> bool:
        """By the magic number after the pickle's protocol."""
        return start.head[:1] == b"\x80" and start.head[2:].startswith(_LEGACY_MAGIC)

    def lay_out(self, path: Path) -> PickledFile:
        """The pickles one after another, and the storages."""
        return torch_legacy.lay_out(path)
