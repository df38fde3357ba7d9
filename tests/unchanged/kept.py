"""What is kept of a command, in expected/, and the machine that made it.

Of a model the digest is kept: what an adapted one has of its own is in the pack, which is kept
whole. Of a record all is kept but when, on which machine and with which versions it was made.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

EXPECTED = Path(__file__).parent / "expected"
_MADE_ON = EXPECTED / "made_on.json"
_LIBRARIES = ("torch", "onnx", "onnxruntime", "numpy", "scipy", "pillow")
_MODELS = {".pt", ".pt2", ".torchscript", ".onnx"}
_OF_THE_MACHINE = {"started", "seconds", "seconds_by_stage", "host", "versions"}
_OF_THE_MACHINE |= {"peak_memory_bytes"}


def this_machine() -> dict[str, str]:
    """All that the last bits of a result depend on."""
    processor = {"machine": platform.machine(), "cpu": torch.backends.cpu.get_cpu_capability()}
    return processor | {name: version(name) for name in _LIBRARIES}


def made_on() -> dict[str, str]:
    """The same of the machine that made what is kept."""
    found: dict[str, str] = json.loads(_MADE_ON.read_text(encoding="utf-8"))
    return found


def results(folder: Path, told: str) -> dict[str, bytes]:
    """What a command has put into a folder, and what it told, by the names that it is kept under.

    Symbolic links are left out.
    """
    told_as = "told.json" if told.startswith("{") else "told.txt"
    found = {told_as: told.encode()} | _files(folder)
    return dict(_to_keep(name, content) for name, content in found.items())


def kept(command: str) -> dict[str, bytes]:
    """What is kept of the command of that name."""
    return _files(_folder(command))


def keep(command: str, found: dict[str, bytes]) -> None:
    """Keeps this in place of what was kept, and that this machine made it."""
    folder = _folder(command)
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in found.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    _MADE_ON.write_text(json.dumps(this_machine(), indent=1) + "\n", encoding="utf-8")


def _folder(command: str) -> Path:
    return EXPECTED / command.replace(" ", "_")


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")  # Follows no links.
        if path.is_file() and not path.is_symlink()
    }


def _to_keep(name: str, content: bytes) -> tuple[str, bytes]:
    if Path(name).suffix in _MODELS:
        return f"{name}.sha256", f"{hashlib.sha256(content).hexdigest()}\n".encode()
    if name.endswith(".json"):
        return name, _less_the_machine(json.loads(content))
    return name, content


def _less_the_machine(record: dict[str, Any]) -> bytes:
    if "run" in record:
        record["run"] = {x: y for x, y in record["run"].items() if x not in _OF_THE_MACHINE}
    return (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode()
