"""Where batches wait: in memory, on disk or nowhere, with the same statistics to the bit."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from adabn_cli.adaptation.engines import exact, shelf
from adabn_cli.adaptation.engines.passes import Passes
from adabn_cli.adaptation.engines.spill_file import SpillError, SpillFile
from adabn_cli.adaptation.engines.waiting import (
    Probe,
    Room,
    Waiting,
    plan_waiting,
    probe,
)
from adabn_cli.adaptation.installer import Installer
from adabn_cli.adaptation.methods import Adaptation
from adabn_cli.model import no_progress
from adabn_cli.models.live.module import EagerModel

PLANS = [
    Waiting(0, on_disk=10),
    Waiting(0, rerun=10),
    Waiting(3, on_disk=4, rerun=3),
    Waiting(9, on_disk=1),
]


@pytest.fixture(autouse=True)
def everything_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "_WORTH_BYTES", 1)


def adapted(
    net: nn.Module, batches: Sequence[Tensor], waiting: Waiting | None, folder: Path
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """The state and the outputs after adapting a copy of the net."""
    net, outputs = copy.deepcopy(net), [torch.empty(0)] * len(batches)

    def keep(index: int, found: Tensor | None) -> None:
        assert found is not None
        outputs[index] = found.clone()

    passes = Passes.over(batches)
    if waiting is not None:
        placed = Waiting(waiting.in_memory, waiting.on_disk, waiting.rerun, folder)
        passes = replace(passes, waiting=placed)
    installer = Installer.of(EagerModel(net), Adaptation(), sum(map(len, batches)))
    exact.estimate(installer, passes, keep, no_progress)
    return net.state_dict(), outputs


def assert_same(one: tuple[dict[str, Tensor], list[Tensor]], other: tuple[dict, list]) -> None:
    assert all(torch.equal(one[0][key], value) for key, value in other[0].items())
    assert all(map(torch.equal, one[1], other[1]))


@pytest.mark.parametrize("waiting", PLANS, ids=str)
def test_every_plan_gives_the_same_bits(
    net: nn.Module, images: Tensor, tmp_path: Path, waiting: Waiting
) -> None:
    batches = images.split(7)  # Ten, the last of two images.
    given = copy.deepcopy(net.state_dict())
    assert_same(adapted(net, batches, waiting, tmp_path), adapted(net, batches, None, tmp_path))
    assert all(torch.equal(given[key], value) for key, value in net.state_dict().items())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("batch_size", [1, 16, 64])
def test_every_batch_size_can_wait_on_disk(
    net: nn.Module, images: Tensor, tmp_path: Path, batch_size: int
) -> None:
    batches = images.split(batch_size)
    on_disk = adapted(net, batches, Waiting(0, on_disk=len(batches)), tmp_path)
    assert_same(on_disk, adapted(net, batches, None, tmp_path))


@pytest.mark.parametrize("name", ["densenet121", "shufflenet_v2_x0_5", "mobilenet_v3_small"])
@pytest.mark.parametrize(
    "waiting", [Waiting(1, on_disk=2), Waiting(1, on_disk=1, rerun=1)], ids=str
)
def test_real_networks_wait_anywhere(name: str, waiting: Waiting, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = torchvision.models.get_model(name, weights=None)
    images = torch.randn(5, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    batches = images.split(2)
    assert_same(adapted(net, batches, waiting, tmp_path), adapted(net, batches, None, tmp_path))


class Caching(nn.Module):
    """Keeps what its first forward made, changes a tensor in place behind a site, slices another.

    The cache is larger than anything else, so it goes to disk where nothing looks after it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.bn2 = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.cache: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        if self.cache is None:
            self.cache = torch.linspace(0, 1, 12, dtype=x.dtype).repeat(3, 12, 1)
        early, half = x * 2, (x + 1)[:, :, ::2]
        x = self.bn(x + self.cache)
        early += self.cache
        x = self.bn2(x + early)
        return (x.mean(2) + early.mean(2) + half.mean(2)).flatten(1) + self.cache.sum()


def test_caches_views_and_changes_in_place_survive(images: Tensor, tmp_path: Path) -> None:
    net, batches = Caching(), images.split(16)
    assert_same(
        adapted(net, batches, Waiting(0, on_disk=5), tmp_path),
        adapted(net, batches, None, tmp_path),
    )
    model = EagerModel(net)
    placed = Passes(batches=batches, waiting=Waiting(0, on_disk=5, folder=tmp_path))
    installer = Installer.of(model, Adaptation(), len(images))
    exact.estimate(installer, placed, lambda *_: None, no_progress)
    assert net.cache is not None
    assert net.cache.sum() > 0  # What outlives the forwards is in memory again.


def test_a_site_used_twice_waits_on_disk_and_is_not_run_again(
    images: Tensor, tmp_path: Path
) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn = nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.bn(torch.relu(self.bn(x))).mean((2, 3))

    batches = images.split(16)
    assert_same(
        adapted(Twice(), batches, Waiting(2, on_disk=3), tmp_path),
        adapted(Twice(), batches, None, tmp_path),
    )
    assert not probe(EagerModel(Twice()), images[:2], tmp_path).reruns
    assert probe(EagerModel(nn.BatchNorm2d(3)), images[:2], tmp_path).reruns


def test_a_full_disk_ends_cleanly_and_restores_the_model(
    net: nn.Module, images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0

    def pwrite(file: int, content: memoryview, offset: int) -> int:
        nonlocal written
        written += len(content)
        if written > 500_000:
            raise OSError(28, "No space left on device")
        return real(file, content, offset)

    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", pwrite)
    before = copy.deepcopy(net.state_dict())
    installer = Installer.of(EagerModel(net), Adaptation(), len(images))
    placed = Passes(batches=images.split(7), waiting=Waiting(0, on_disk=10, folder=tmp_path))
    with pytest.raises(SpillError, match="No space left") as raised, installer.undone_on_failure():
        exact.estimate(installer, placed, lambda *_: None, no_progress)
    assert raised.value.exit_code == 3
    assert "--spill-dir" in raised.value.hint
    assert not list(tmp_path.iterdir())
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_a_file_uses_freed_places_again(tmp_path: Path) -> None:
    file = SpillFile(tmp_path)
    a, b, c = (file.write(memoryview(bytes([n]) * 100)) for n in (1, 2, 3))
    file.release(b)
    file.release(a)
    d = file.write(memoryview(b"\x04" * 150))
    e = file.write(memoryview(b"\x05" * 50))
    assert file.used_bytes == 300
    for place, value in ((c, 3), (d, 4), (e, 5)):
        found = bytearray(place[1])
        file.read(place, memoryview(found))
        assert found == bytes([value]) * place[1]
    file.close()


FOUND = Probe(100, 300, 1000, 1.0, 5.0, spills=True, reruns=True)


@pytest.mark.parametrize(
    ("memory", "disk", "expected"),
    [
        (None, 0, (10, 0, 0)),
        (10**6, 0, (10, 0, 0)),
        (0, 10**6, (0, 10, 0)),
        (0, 0, (0, 0, 10)),
        (3000 + 4 * 1000, 2 * 1000, (4, 2, 4)),
    ],
)
def test_memory_comes_first_then_disk_then_running_again(
    memory: int | None,
    disk: int,
    expected: tuple[int, int, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("adabn_cli.adaptation.engines.waiting._MARGIN", 1)
    found = plan_waiting(FOUND, 10, 10, Room(memory, disk, tmp_path))
    assert (found.in_memory, found.on_disk, found.rerun) == expected


def test_tensors_that_cannot_be_seen_are_run_again(tmp_path: Path) -> None:
    unseen = Probe(100, 300, 1000, 1.0, 5.0, spills=False, reruns=True)
    assert plan_waiting(unseen, 10, 10, Room(0, 10**9, tmp_path)).rerun == 10
