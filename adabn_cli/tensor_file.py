"""Facts and tensors as one safetensors file. Knows no model; `Kind` says what a file is for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from adabn_cli.errors import InputError

#: What JSON can hold, by name.
Facts = Mapping[str, Any]
Tensors = Mapping[str, Tensor]

_Read = TypeVar("_Read")


def as_bytes(head: str, facts: Facts, tensors: Tensors, *, sort_keys: bool = True) -> bytes:
    """The file; the same facts and tensors give the same bytes. `head` says who has written it."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # One JSON entry: safetensors writes several metadata keys in a random order.
    return save(plain, metadata={head: json.dumps(facts, sort_keys=sort_keys)})


def read(path: Path, head: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Facts and tensors of a file. Raises OSError, or ValueError if it is no such file."""
    path.open("rb").close()  # An error of the system says more than that of the library.
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if head not in metadata:
                raise ValueError(f"its metadata has no {head}")
            facts = json.loads(metadata[head])
            return facts, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{error}") from error


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What people are told of a kind of file; `hint` says how to get one.

    The facts of a file say its version, which is at most `version` if this program reads it.
    """

    head: str
    name: str
    version: int
    hint: str

    def read(self, path: Path, made_of: Callable[[Facts, Tensors], _Read]) -> _Read:
        """What is made of the facts and tensors in a file. Raises InputError if it is none."""
        if not path.is_file():
            raise InputError(f"There is no such {self.name}.", where=str(path), hint=self.hint)
        try:
            facts, tensors = read(path, self.head)
            if facts["version"] > self.version:
                raise InputError(
                    f"The {self.name} is of version {facts['version']}; "
                    f"this adabn reads up to {self.version}.",
                    where=str(path),
                    hint='Update it: pip install --upgrade "adabn".',
                )
            return made_of(facts, tensors)
        except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"This is not a {self.name}.",
                where=f"{path}: {error}".splitlines()[0],
                hint=self.hint,
            ) from error
