from __future__ import annotations

import builtins
import functools
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from adabn_cli.errors import ModelError, UnsafeError
from adabn_cli.models.open_checkpoint import open_checkpoint, unsafe_imports
from adabn_cli.models.trust.audit import audit_pickle
from adabn_cli.models.trust.policy import refusals


class Calls:
    """Unpickles as the result of a call."""

    def __init__(self, function: Callable[..., Any], *args: object) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.function, self.args


def os_system(mark: Path) -> object:
    return Calls(os.system, f"touch {mark}")


def builtins_exec(mark: Path) -> object:
    return Calls(builtins.exec, f"open({str(mark)!r}, 'w').close()")


def inside_a_module(mark: Path) -> object:
    network = nn.Sequential(nn.BatchNorm2d(2))
    network.extra = Calls(os.system, f"touch {mark}")
    return network


def inside_arguments(mark: Path) -> object:
    return {"state_dict": {"w": torch.ones(2)}, "args": Calls(os.mkdir, str(mark))}


def through_partial(mark: Path) -> object:
    return {"f": functools.partial(os.system, f"touch {mark}")}


@pytest.mark.parametrize("kind", ["zip", "legacy"])
@pytest.mark.parametrize(
    ("attack", "named"),
    [
        (os_system, "posix.system"),
        (builtins_exec, "builtins.exec"),
        (inside_a_module, "posix.system"),
        (inside_arguments, "posix.mkdir"),
        (through_partial, "functools.partial"),
    ],
)
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_pickle_that_would_run_code_is_refused_and_named(
    kind: str, attack: Callable[[Path], object], named: str, tmp_path: Path
) -> None:
    path, mark = tmp_path / "model.pth", tmp_path / "mark"
    torch.save(attack(mark), path, _use_new_zipfile_serialization=kind == "zip")
    assert named in unsafe_imports(path)
    with pytest.raises(UnsafeError, match=named) as caught:
        open_checkpoint(path)
    assert "--trust-pickle" in caught.value.hint
    assert caught.value.exit_code == 3
    assert not mark.exists()


def test_trust_loads_what_would_run_code_and_records_it(tmp_path: Path) -> None:
    path, mark = tmp_path / "model.pth", tmp_path / "mark"
    torch.save(inside_arguments(mark), path)
    opened = open_checkpoint(path, trust_pickle=True)
    assert opened.trusted_pickle
    assert mark.exists()
    opened = open_checkpoint(save_state(tmp_path / "b.pth"))
    assert not opened.trusted_pickle


def save_state(path: Path) -> Path:
    torch.save(nn.BatchNorm2d(2).state_dict(), path)
    return path


def test_modules_that_a_pickle_names_are_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil_package.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    path = write_pickle(tmp_path / "a.pth", b"cevil_package\nThing\n)\x81")
    assert unsafe_imports(path) == ["evil_package.Thing"]
    with pytest.raises(UnsafeError, match=r"evil_package\.Thing"):
        open_checkpoint(path)
    assert not (tmp_path / "mark").exists()


def write_pickle(path: Path, body: bytes) -> Path:
    """A zip of torch.save with a hand-made pickle."""
    torch.save({}, path)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            pickled = b"\x80\x02" + body + b"."
            archive.writestr(name, pickled if name.endswith("data.pkl") else content)
    return path


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


CONV = b"ctorch.nn.modules.conv\nConv2d\n"
BN = b"ctorch.nn.modules.batchnorm\nBatchNorm2d\n"
FORGED = {
    # Conv2d(3, 4, 1): a constructor called with the file's arguments.
    "module called": CONV + b"K\x03K\x04K\x01\x87R",
    "module made with arguments": CONV + b"K\x03K\x04K\x01\x87\x81",
    # _rebuild_from_type_v2 calls whatever is its first argument.
    "call through a rebuild": b"ctorch._tensor\n_rebuild_from_type_v2\n(" + CONV
    + b"ctorch\nTensor\nK\x03K\x04K\x01\x87}tR",
    # The first state replaces __setstate__, the second calls it.
    "filled twice": BN + b")\x81}" + text("__setstate__") + CONV + b"sbK\x03b",
    "filled dict": b"}}b",
    "called dict": b"}K\x03\x85R",
    "function": b"ctorch.nn.functional\nrelu\n",
    "loader": b"ctorch.hub\nload_state_dict_from_url\n",
    "name re-exported": b"ctorch.nn.modules.module\nOrderedDict\n",
    "distributed": b"ctorch.nn.parallel.distributed\nDistributedDataParallel\n)\x81",
    "graph module": b"ctorchvision.models.feature_extraction\nDualGraphModule\n)\x81",
    "getattr": b"cbuiltins\ngetattr\n",
    "python 2 name": b"c__builtin__\neval\n" + text("1") + b"\x85R",
    "protocol 4": text("posix") + text("system") + b"\x93" + text("true") + b"\x85R",
    "object dtype": b"cnumpy\ndtype\n" + text("O") + b"\x89\x88\x87R",
    "dtype with fields": b"cnumpy\ndtype\n" + text("f8") + b"\x89\x88\x87R(K\x03" + text("<")
    + b"N" + text("a") + b"}K\x08K\x01K\x10tb",
    "scalar of a forged dtype": b"cnumpy._core.multiarray\nscalar\nctorch\nfloat32\n" + text("x")
    + b"\x86R",
    "bytes of zip": b"c_codecs\nencode\n" + text("x") + text("zip") + b"\x86R",
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_forged_pickles_are_refused(name: str, tmp_path: Path) -> None:
    path = write_pickle(tmp_path / "a.pth", FORGED[name])
    with pytest.raises(UnsafeError):
        open_checkpoint(path)
    assert unsafe_imports(path)


def test_a_rebuilt_module_whose_forward_was_replaced_is_refused(tmp_path: Path) -> None:
    network = nn.Sequential(nn.BatchNorm2d(2))
    network[0].__dict__["forward"] = nn.Identity
    torch.save({"model": network}, tmp_path / "a.pth")
    with pytest.raises(UnsafeError, match=r"BatchNorm2d\.forward"):
        open_checkpoint(tmp_path / "a.pth")


def test_a_rebuilt_module_with_a_class_for_a_hook_is_refused(tmp_path: Path) -> None:
    network = nn.BatchNorm2d(2)
    network._forward_hooks[0] = nn.Identity
    torch.save(network, tmp_path / "a.pth")
    with pytest.raises(UnsafeError, match="_forward_hooks"):
        open_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_the_audit_sees_imports_in_every_protocol(protocol: int) -> None:
    pickled = pickle.dumps({"a": [1, (2.5, "x")], "b": Calls(os.system, "true")}, protocol)
    audit = audit_pickle(io.BytesIO(pickled), "here")
    assert "posix.system" in refusals([audit])


# BINUNICODE8 of almost 2^63 bytes.
HUGE = b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f"


def test_the_audit_names_damage() -> None:
    for pickled in (b"", b"\x80\x02R.", b"\x80\x02\x85.", b"\x80\x02h\x07.", b"\x80\x02(", HUGE):
        with pytest.raises(ModelError, match="damaged"):
            audit_pickle(io.BytesIO(pickled), "here")


def test_numbers_of_numpy_are_allowed_and_objects_are_not(tmp_path: Path) -> None:
    weights = {"w": torch.ones(1)}
    numbers = [np.float32(1), np.int64(2), np.bool_(True), np.arange(4), np.zeros((2, 3))]
    torch.save({"model": weights, "numbers": numbers}, tmp_path / "a.pth")
    root = open_checkpoint(tmp_path / "a.pth").root
    assert root["numbers"][4].shape == (2, 3)
    torch.save({"model": weights, "objects": np.array([None])}, tmp_path / "b.pth")
    with pytest.raises(UnsafeError, match=r"numpy\.dtype"):
        open_checkpoint(tmp_path / "b.pth")
