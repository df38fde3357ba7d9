"""TorchScript and .pt2 leave changed in the bytes of their statistics and in checksums alone."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graph_contract import adapted, pictures, read, shaken, silence
from torch import nn


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4)
    return shaken(nn.Sequential(*layers))


def script(path: Path) -> None:
    with silence():
        torch.jit.script(net()).save(str(path))


def program(path: Path) -> None:
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    with silence():
        torch.export.save(
            torch.export.export(net(), (pictures(2, 12),), dynamic_shapes=shapes), path
        )


def with_checksums_in_headers(path: Path) -> None:
    """The same archive as another program would write it: no checksum behind a member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    path.write_bytes(buffer.getvalue())


def plainly_again(write: Callable[[Path], None]) -> Callable[[Path], None]:
    def written(path: Path) -> None:
        write(path)
        with_checksums_in_headers(path)

    return written


def run_script(path: Path) -> Any:
    return torch.jit.load(str(path)).eval()  # type: ignore[no-untyped-call]


def run_program(path: Path) -> Any:
    return torch.export.load(path).module()


def allowed(path: Path, changed: set[str]) -> Iterator[range]:
    """Where the contents of these members lie, and their checksums."""
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        position = archive.start_dir
        for member in archive.infolist():
            lengths = struct.unpack("<HHH", content[position + 28 : position + 34])
            if member.filename in changed:
                name, extra = struct.unpack_from("<HH", content, member.header_offset + 26)
                start = member.header_offset + 30 + name + extra
                end = start + member.file_size
                yield range(start, end)
                yield range(position + 16, position + 20)
                yield range(member.header_offset + 14, member.header_offset + 18)
                if member.flag_bits & 8:
                    yield range(end + 4, end + 8)
            position += 46 + sum(lengths)


@pytest.mark.parametrize(
    ("write", "run"),
    [(script, run_script), (program, run_program), (plainly_again(script), run_script)],
    ids=["TorchScript", ".pt2", "TorchScript, zipped again"],
)
def test_only_statistics_and_checksums_change(
    write: Callable[[Path], None], run: Callable[[Path], Any], tmp_path: Path
) -> None:
    before, after = tmp_path / "before.pt2", tmp_path / "after.pt2"
    write(before)
    model, images = read(before), pictures(8, 12)
    _, outputs = adapted(model, images)
    model.save(after)
    old, new = (np.frombuffer(path.read_bytes(), np.uint8) for path in (before, after))
    assert len(old) == len(new)
    with zipfile.ZipFile(before) as one, zipfile.ZipFile(after) as other:
        assert other.testzip() is None
        changed = {name for name in one.namelist() if one.read(name) != other.read(name)}
        assert sorted(one.getinfo(name).file_size for name in changed) == [16, 16, 32, 32]
    places = {byte for span in allowed(before, changed) for byte in span}
    assert set(np.flatnonzero(old != new).tolist()) <= places
    with silence(), torch.no_grad():
        deployed = run(after)
        found = torch.cat([deployed(half) for half in images.split(4)])
    assert torch.equal(found, outputs)
