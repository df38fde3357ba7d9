"""What every format that brings its own graph has to show, against the eager exact engine."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adabn_cli.adaptation.engines import exact
from adabn_cli.adaptation.engines.passes import Passes
from adabn_cli.adaptation.fingerprint import fingerprint
from adabn_cli.adaptation.installer import Installer
from adabn_cli.adaptation.methods import Adaptation
from adabn_cli.model import Model, Place, statistics_of
from adabn_cli.models.live.module import EagerModel, pick_outputs
from adabn_cli.models.open import ModelRequest, open_model

#: Opens a file with torch itself.
Open = Callable[[Path], Callable[[Tensor], Any]]


@contextmanager
def silence() -> Iterator[None]:
    """torch warns of its exporters' own doings, and that TorchScript is deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def network(name: str) -> nn.Module:
    """One of torchvision's, random, with statistics that no two channels share."""
    import torchvision

    torch.manual_seed(0)
    backbone = {"weights_backbone": None} if name.startswith(("fcn", "lraspp")) else {}
    with silence():
        return shaken(torchvision.models.get_model(name, weights=None, num_classes=7, **backbone))


def shaken(module: nn.Module) -> nn.Module:
    """The module in eval mode, its statistics random."""
    generator = torch.Generator().manual_seed(1)
    for key, buffer in module.named_buffers():
        if key.endswith("running_mean"):
            buffer.normal_(0, 0.1, generator=generator)
        elif key.endswith("running_var"):
            buffer.uniform_(0.5, 1.5, generator=generator)
    return module.eval()


def pictures(count: int = 8, size: int = 64, channels: int = 3) -> Tensor:
    """Random ones, brighter from the first to the last."""
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(count, channels, size, size, generator=generator)
    return noise + torch.linspace(-1, 2, count).view(-1, 1, 1, 1)


def read(path: Path) -> Model:
    """The model in a file."""
    return open_model(ModelRequest(path)).model


def adapted(model: Model, images: Tensor, chunk: int = 4) -> tuple[dict[Place, Tensor], Tensor]:
    """Its statistics after the exact engine, and its outputs after."""
    installer = Installer.of(model, Adaptation(), len(images))
    chunks = images.split(chunk)
    outputs: dict[int, Tensor] = {}

    def keep(index: int, found: Tensor | None) -> None:
        assert found is not None
        outputs[index] = found

    exact.estimate(installer, Passes.over(chunks), keep, lambda done, total: None)
    return statistics_of(model), torch.cat([outputs[index] for index in sorted(outputs)])


def require_same(left: dict[Place, Tensor], right: dict[Place, Tensor]) -> None:
    """To the bit."""
    assert left.keys() == right.keys()
    for place, value in left.items():
        assert torch.equal(right[place], value), place


def changed_members(before: Path, after: Path) -> set[str]:
    """The members of two archives that differ; everything else is where and as it was."""
    with zipfile.ZipFile(before) as old, zipfile.ZipFile(after) as new:
        assert new.testzip() is None
        assert old.namelist() == new.namelist()
        return {name for name in old.namelist() if old.read(name) != new.read(name)}


def require_contract(
    module: nn.Module, path: Path, deployed: Open, images: Tensor, tmp_path: Path
) -> None:
    """Adapting the file at `path` does what adapting the live module does, and nothing else.

    `deployed` opens a file as its users do, with torch itself.
    """
    live, opened = EagerModel(module), read(path)
    assert [(s.name, s.kind, s.channels, s.eps, s.keys) for s in opened.sites] == [
        (s.name, s.kind, s.channels, s.eps, s.keys) for s in live.sites
    ]
    assert opened.input_channels == live.input_channels
    assert fingerprint(opened) == fingerprint(live)
    before = statistics_of(opened)
    require_same(statistics_of(live), before)
    expected, outputs = adapted(live, images)
    found, found_outputs = adapted(opened, images)
    require_same(expected, found)
    assert torch.equal(found_outputs, outputs)
    saved = tmp_path / f"saved{path.suffix}"
    opened.save(saved)
    names = changed_members(path, saved)
    assert len(names) == 2 * len(live.sites)
    again = read(saved)
    require_same(expected, statistics_of(again))
    halves = images.split(4)
    assert torch.equal(torch.cat([again.forward(half) for half in halves]), outputs)  # type: ignore[misc]
    with silence(), torch.no_grad():
        run = deployed(saved)
        given = [pick_outputs(run(half), None) for half in halves]
    assert torch.equal(torch.cat(given), outputs)  # type: ignore[arg-type]
    again.load_state({s.keys[role]: before[s.name, role] for s in live.sites for role in s.keys})
    again.save(tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == path.read_bytes()
