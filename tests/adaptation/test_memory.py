"""Memory: a run that would not fit ends with what to do, before the kernel ends it."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import adabn_cli
from adabn_cli import machine as memory


def test_what_is_left_is_read_from_the_kernel() -> None:
    left = memory.available_bytes()
    if not Path("/proc/meminfo").exists():
        assert left is None
        return
    assert left is not None
    assert 1 << 20 < left < 1 << 50


def test_a_container_s_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9999 kB\nMemAvailable: 8000 kB\n")
    (tmp_path / "memory.max").write_text("4096000\n")
    (tmp_path / "memory.current").write_text("1096000\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 1000\nactive_file 500\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.available_bytes() == 3001500
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_bytes() == 8000 * 1024


def test_running_short_ends_cleanly_and_restores_the_model(
    net: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 1 << 20)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(memory.MemoryShortError) as raised:
        adabn_cli.adapt(net, images.split(8))
    assert raised.value.exit_code == 3
    assert "--max-images" in raised.value.hint
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_one_pass_needs_no_batches_side_by_side(
    net: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 1 << 20)
    assert adabn_cli.adapt(net, images.split(8), engine="one-pass").after.n == len(images)


def test_a_full_gpu_ends_cleanly(images: Tensor) -> None:
    class FullBehindTheFirstSite(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn, self.bn2 = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.bn(x)
            if self.bn.running_mean.any():  # Adapted: the batches wait side by side.
                raise torch.OutOfMemoryError("no room on the device")
            return self.bn2(x)

    module = FullBehindTheFirstSite()
    with pytest.raises(memory.MemoryShortError):
        adabn_cli.adapt(module, images.split(8), adapt_initial=True)
    assert not module.bn.running_mean.any()


def test_a_refused_allocation_ends_cleanly(images: Tensor) -> None:
    class Refused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn, self.bn2 = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.bn(x)
            if self.bn.running_mean.any():
                torch.empty(1 << 60, dtype=torch.uint8)
            return self.bn2(x)

    module = Refused()
    with pytest.raises(memory.MemoryShortError) as raised:
        adabn_cli.adapt(module, images.split(8), adapt_initial=True)
    assert "--memory" in raised.value.hint
    assert not module.bn.running_mean.any()


def test_the_limit_on_a_gpu_is_of_its_own_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (6_000, 10_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2_000)
    assert memory.resident_bytes("cuda:1") == 2_000
    assert memory.default_limit("cuda:1") == 6_000  # Three quarters of what is free or held.


_KEPT_AND_LEFT = """
import torch
from adabn_cli.machine import keeping_freed, resident_bytes
start = resident_bytes()
with keeping_freed():
    torch.ones(16 << 20)
    kept = resident_bytes() - start
left = resident_bytes() - start
torch.ones(16 << 20)
print(kept >> 20, left >> 20, resident_bytes() - start >> 20)
"""


@pytest.mark.skipif(not hasattr(memory._LIBC, "mallopt"), reason="glibc alone has these limits")
def test_freed_memory_is_kept_inside_and_given_back_behind() -> None:
    # In a process of its own: one that has run other tests has room for 64 MiB already.
    done = subprocess.run(
        [sys.executable, "-c", _KEPT_AND_LEFT], capture_output=True, text=True, check=True
    )
    kept, left, as_before = map(int, done.stdout.split())
    assert kept > 48
    assert left < 16
    assert as_before < 16
