"""Every file that is no model, or one that cannot be adapted: exit code 3 and what to do next.

Through the command line, in this process; and each container with bytes flipped and cut off.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import random
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
from graph_contract import shaken, silence
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import nn

from adabn_cli.cli.boundary import run

NET = """
from torch import nn


def Net():
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), pool, nn.Flatten(), nn.Linear(4, 2))


def Plain():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
"""
PREPROCESSING = ("--img-size", "16", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5")


class Malice:
    """A pickle of this would make a file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> Any:
        return open, (str(self.proof), "w")


def net(name: str = "Net") -> nn.Module:
    scope: dict[str, Callable[[], nn.Module]] = {}
    exec(NET, scope)
    torch.manual_seed(0)
    return shaken(scope[name]())


def saved(content: object, *, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    with silence():
        torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def scripted(module: nn.Module | torch.jit.ScriptModule) -> bytes:
    buffer = io.BytesIO()
    with silence():
        torch.jit.save(torch.jit.script(module), buffer)
    return buffer.getvalue()


def program(module: nn.Module) -> bytes:
    buffer = io.BytesIO()
    with silence():
        shapes = ({0: torch.export.Dim.DYNAMIC},)
        images = torch.zeros(2, 3, 16, 16)
        exported = torch.export.export(module, (images,), dynamic_shapes=shapes)
        torch.export.save(exported, buffer)
    return buffer.getvalue()


def graph(module: nn.Module, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with silence():
        torch.onnx.export(
            module, (torch.zeros(2, 3, 16, 16),), buffer, dynamo=False, input_names=["x"],
            dynamic_axes={"x": {0: "n"}}, **options,
        )  # fmt: skip
    return buffer.getvalue()


def whole_graph() -> bytes:
    return graph(net(), do_constant_folding=False, training=torch.onnx.TrainingMode.PRESERVE)


def with_member(archive: bytes, ending: str, content: bytes) -> bytes:
    """A zip archive with one member replaced, or added where there is none."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(buffer, "w") as new:
        names = old.namelist()
        for name in names:
            new.writestr(name, content if name.endswith(ending) else old.read(name))
        assert any(name.endswith(ending) for name in names)
    return buffer.getvalue()


def encrypted(content: bytes) -> bytes:
    """Sets the flag of encryption in every header."""
    changed = bytearray(content)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = changed.find(signature)
        while at >= 0:
            changed[at + offset] |= 1
            at = changed.find(signature, at + 4)
    return bytes(changed)


def cut(content: bytes) -> bytes:
    return content[: len(content) * 3 // 5]


def malicious(proof: Path) -> bytes:
    return pickle.dumps({"state_dict": Malice(proof)}, protocol=2)


def frozen(_: Path) -> bytes:
    buffer = io.BytesIO()
    with silence():
        torch.jit.save(torch.jit.freeze(torch.jit.script(net())), buffer)
    return buffer.getvalue()


def fused_script(_: Path) -> bytes:
    return scripted(fused())


def fused() -> nn.Module:
    module = net()
    conv = torch.nn.utils.fusion.fuse_conv_bn_eval(module[0], module[1])  # type: ignore[index]
    return nn.Sequential(conv, *list(module)[2:]).eval()  # type: ignore[arg-type]


def quantized_dynamic() -> nn.Module:
    with silence():
        return torch.ao.quantization.quantize_dynamic(net(), {nn.Linear})


def quantized_static() -> nn.Module:
    with silence():
        module = nn.Sequential(
            torch.ao.quantization.QuantStub(),
            nn.Conv2d(3, 4, 3),
            nn.ReLU(),
            torch.ao.quantization.DeQuantStub(),
        ).eval()
        engine = torch.backends.quantized.engine
        module.qconfig = torch.ao.quantization.get_default_qconfig(engine)  # type: ignore[assignment]
        prepared = torch.ao.quantization.prepare(module)
        prepared(torch.zeros(1, 3, 16, 16))
        converted: nn.Module = torch.ao.quantization.convert(prepared)
        return converted


def qdq_graph(_: Path) -> bytes:
    """A convolution between QuantizeLinear and DequantizeLinear, its weights in int8."""
    integers = np.ones((4, 3, 3, 3), np.int8)
    scale, zero = np.array(0.1, np.float32), np.array(0, np.int8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"]),
        helper.make_node("DequantizeLinear", ["wq", "scale", "zero"], ["w"]),
        helper.make_node("Conv", ["xd", "w"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    made = helper.make_graph(
        nodes,
        "quantized",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [
            numpy_helper.from_array(integers, "wq"),
            numpy_helper.from_array(scale, "scale"),
            numpy_helper.from_array(zero, "zero"),
        ],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    return bytes(onnx.shape_inference.infer_shapes(model).SerializeToString())


def npz(_: Path) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, weight=np.ones(3))
    return buffer.getvalue()


def ancient_tar(proof: Path) -> bytes:
    """What torch wrote before 0.1.10: a tar of pickles."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            content = malicious(proof)
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def safetensors_bytes() -> bytes:
    return safetensors.torch.save(net().state_dict())


def by_arch(name: str = "Net") -> tuple[str, ...]:
    return ("--arch", f"nets.py:{name}")


Make = Callable[[Path], bytes]
#: What the file is -> its name, its bytes, what has to be said, further options.
FILES: dict[str, tuple[str, Make, str, tuple[str, ...]]] = {
    "no normalizer": (
        *("model.pth", lambda _: saved(net("Plain").state_dict()), "nothing to adapt"),
        by_arch("Plain"),
    ),
    "no normalizer, unnamed": (
        *("model.pth", lambda _: saved(net("Plain").state_dict()), "nothing to adapt"),
        (),
    ),
    "no normalizer, TorchScript": (
        *("model.pt", lambda _: scripted(net("Plain")), "stores statistics"),
        (),
    ),
    "no normalizer, .pt2": (
        *("model.pt2", lambda _: program(net("Plain")), "stores statistics"),
        (),
    ),
    "no normalizer, ONNX": ("model.onnx", lambda _: graph(net("Plain")), "profile", ()),
    "folded": (
        *("model.pth", lambda _: saved(fused().state_dict()), "nothing to adapt"),
        by_arch("Plain"),
    ),
    "folded, TorchScript": ("model.pt", fused_script, "folded", ()),
    "folded, .pt2": ("model.pt2", lambda _: program(fused()), "folded", ()),
    "folded, ONNX": ("model.onnx", lambda _: graph(net()), "do_constant_folding=False", ()),
    "frozen": ("model.pt", frozen, "frozen", ()),
    "quantized, dynamic, whole module": (
        *("model.pt", lambda _: saved(quantized_dynamic()), "quantized"),
        (),
    ),
    "quantized, static, whole module": (
        *("model.pt", lambda _: saved(quantized_static()), "quantized"),
        (),
    ),
    "quantized, static, state dict": (
        *("model.pt", lambda _: saved(quantized_static().state_dict()), "quantized"),
        (),
    ),
    "quantized, dynamic, state dict": (
        *("model.pt", lambda _: saved(quantized_dynamic().state_dict()), "quantized"),
        (),
    ),
    "quantized, TorchScript": ("model.pt", lambda _: scripted(quantized_static()), "quantized", ()),
    "quantized, ONNX": ("model.onnx", qdq_graph, "quantized", ()),
    "encrypted": ("model.pth", lambda _: encrypted(saved(net().state_dict())), "encrypted", ()),
    "encrypted TorchScript": ("model.pt", lambda _: encrypted(scripted(net())), "encrypted", ()),
    "encrypted .pt2": ("model.pt2", lambda _: encrypted(program(net())), "encrypted", ()),
    "cut": ("model.pth", lambda _: cut(saved(net().state_dict())), "cut off", ()),
    "cut legacy": (
        *("model.pth", lambda _: cut(saved(net().state_dict(), legacy=True)), "damaged"),
        (),
    ),
    "cut safetensors": ("model.safetensors", lambda _: cut(safetensors_bytes()), "damaged", ()),
    "cut .pt2": ("model.pt2", lambda _: cut(program(net())), "cut off", ()),
    "cut TorchScript": ("model.pt", lambda _: cut(scripted(net())), "cut off", ()),
    "cut ONNX": ("model.onnx", lambda _: cut(whole_graph()), "damaged or cut off", ()),
    "web page": ("model.pt", lambda _: b"<!DOCTYPE html>\n<html>404</html>", "a web page", ()),
    "empty": ("model.pt", lambda _: b"", "is empty", ()),
    "LFS pointer": (
        "model.pt",
        lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "git lfs pull",
        (),
    ),
    "code in a checkpoint": (
        *("model.pt", lambda proof: saved({"model": Malice(proof)}), "could run code"),
        (),
    ),
    "code in a legacy checkpoint": (
        "model.pt",
        lambda proof: saved({"model": Malice(proof)}, legacy=True),
        "could run code",
        (),
    ),
    "code in a plain pickle": ("model.pt", malicious, "plain pickle", ()),
    "code in TorchScript's attributes": (
        "model.pt",
        lambda proof: with_member(scripted(net()), "/data.pkl", malicious(proof)),
        "TorchScript",
        (),
    ),
    "code in TorchScript's constants": (
        "model.pt",
        lambda proof: with_member(scripted(net()), "/constants.pkl", malicious(proof)),
        "TorchScript",
        (),
    ),
    "code in a tar": ("model.pt", ancient_tar, "tar archive", ()),
    "NumPy array": ("model.npy", lambda _: b"\x93NUMPY\x01\x00v\x00{}", "NumPy", ()),
    "NumPy archive": ("model.npz", npz, "NumPy", ()),
    "TensorFlow": ("model.h5", lambda _: b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5", ()),
    "plain text": ("model.txt", lambda _: b"weights are at the office\n", "text", ()),
    "another format": ("model.bin", lambda _: bytes(range(100, 200)), "unknown kind", ()),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with four pictures and the source of two nets."""
    (tmp_path / "work" / "photos").mkdir(parents=True)
    for number in range(4):
        values = np.random.default_rng(number).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / "work" / "photos" / f"{number}.png")
    (tmp_path / "work" / "nets.py").write_text(NET)
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def told(*arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("error")
        code = run(list(arguments))
    return code, out.getvalue(), err.getvalue()


def adapt(model: str, *options: str) -> tuple[int, str, str]:
    given = ("--target", "photos", "-o", "run", *PREPROCESSING, *options)
    return told("adapt", model, *given)


def require_refused(folder: Path, model: str, message: str, options: tuple[str, ...]) -> None:
    before = sorted(folder.rglob("*"))
    code, out, err = adapt(model, *options)
    assert (code, out) == (3, ""), err
    assert message.lower() in err.lower()
    lines = err.strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1, err
    # What happened, where, what to do next: the last line tells something to do.
    assert 2 <= len(lines) - lines.index(errors[0]) <= 3, err
    assert lines[-1].startswith("  "), err
    assert "Traceback" not in err
    assert [path for path in sorted(folder.rglob("*")) if "__pycache__" not in path.parts] == before


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_cannot_be_adapted_is_refused_with_a_next_step(case: str, folder: Path) -> None:
    name, make, message, options = FILES[case]
    proof = folder / "proof"
    (folder / name).write_bytes(make(proof))
    require_refused(folder, name, message, options)
    assert told("inspect", name)[0] in (0, 3)
    assert not proof.exists()


def test_a_folder_that_is_no_model_is_refused_with_a_next_step(folder: Path) -> None:
    require_refused(folder, "photos", "config.json", ())


def test_a_folder_whose_weights_run_code_is_refused(folder: Path) -> None:
    pytest.importorskip("transformers")
    proof, model = folder / "proof", folder / "resnet"
    model.mkdir()
    (model / "config.json").write_text(
        '{"model_type": "resnet", "architectures": ["ResNetForImageClassification"]}'
    )
    (model / "pytorch_model.bin").write_bytes(saved({"a": Malice(proof)}))
    require_refused(folder, "resnet", "could run code", ())
    assert not proof.exists()


def test_a_pickle_in_an_exported_program_is_never_run(folder: Path) -> None:
    proof = folder / "proof"
    content = with_member(program(net()), "data/sample_inputs/model.pt", malicious(proof))
    (folder / "model.pt2").write_bytes(content)
    code, _, err = adapt("model.pt2")
    assert code == 0, err
    assert not proof.exists()


CONTAINERS: dict[str, tuple[str, Callable[[], bytes], tuple[str, ...]]] = {
    "zip": ("model.pth", lambda: saved(net().state_dict()), by_arch()),
    "legacy": ("model.pth", lambda: saved(net().state_dict(), legacy=True), by_arch()),
    "module": ("model.pt", lambda: saved(net()), ()),
    "safetensors": ("model.safetensors", safetensors_bytes, by_arch()),
    "TorchScript": ("model.pt", lambda: scripted(net()), ()),
    ".pt2": ("model.pt2", lambda: program(net()), ()),
    "ONNX": ("model.onnx", whole_graph, ()),
}


def corrupted(content: bytes, draw: random.Random) -> bytes:
    """Up to four bytes changed, a stretch zeroed, or the end cut off."""
    changed, kind = bytearray(content), draw.randrange(5)
    if kind == 0:
        return content[: draw.randrange(len(content))]
    if kind == 1:
        start = draw.randrange(len(content))
        end = min(len(content), start + draw.randrange(1, 64))
        changed[start:end] = bytes(end - start)
        return bytes(changed)
    for _ in range(draw.randrange(1, 5)):
        changed[draw.randrange(len(content))] = draw.randrange(256)
    return bytes(changed)


def require_survival(container: str, folder: Path, *, times: int, seed: int) -> None:
    name, make, options = CONTAINERS[container]
    content, draw = make(), random.Random(seed)
    for number in range(times):
        (folder / name).write_bytes(corrupted(content, draw))
        code, _, err = adapt(name, "--labels", "none", "--force", *options)
        # What lies among the weights may be changed unseen; all else is refused.
        assert code in (0, 3), f"{container}, change {number}: {err}"
        assert "Traceback" not in err
        assert code == 0 or err.strip().splitlines()[-1].startswith("  "), err


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_corrupted_file_is_refused_or_works(container: str, folder: Path) -> None:
    require_survival(container, folder, times=15, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("container", CONTAINERS)
def test_hundreds_of_corrupted_files_are_refused_or_work(container: str, folder: Path) -> None:
    require_survival(container, folder, times=300, seed=2)
