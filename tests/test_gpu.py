"""On a GPU the same comes out as on the CPU. Run by `make test-gpu`."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path

import pytest
import torch

from adabn_cli.adaptation.engines import engine
from adabn_cli.adaptation.engines.passes import Passes
from adabn_cli.adaptation.engines.waiting import Waiting
from adabn_cli.adaptation.installer import Installer
from adabn_cli.adaptation.methods import Adaptation
from adabn_cli.adaptation.packs import read_pack
from adabn_cli.cli.boundary import run
from adabn_cli.machine import default_limit, resident_bytes
from adabn_cli.model import no_output, no_progress
from adabn_cli.models.live.module import EagerModel
from adabn_cli.process_group import ProcessGroup

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]


@pytest.fixture
def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3),
        torch.nn.BatchNorm2d(16),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 32, 3),
        torch.nn.BatchNorm2d(32),
    ).eval()


def adapted(net, batches, device, name="exact", **planned):
    model = EagerModel(copy.deepcopy(net).to(device))
    installer = Installer.of(model, Adaptation(), sum(map(len, batches)))
    planned = {"waiting": Waiting(len(batches)), **planned}
    engine(name).estimate(installer, Passes(batches=batches, **planned), no_output, no_progress)
    return {key: value.cpu() for key, value in model.state().items()}


@pytest.mark.parametrize("name", ["exact", "one-pass", "online"])
def test_engines_give_the_statistics_of_the_cpu(net, name, monkeypatch):
    batches = torch.randn(4, 8, 3, 20, 20).unbind()
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    here, there = adapted(net, batches, "cpu", name), adapted(net, batches, "cuda", name)
    for key, value in here.items():
        torch.testing.assert_close(there[key], value, rtol=1e-4, atol=1e-5)


def test_batches_that_wait_on_disk_give_the_same_bits(net, tmp_path):
    batches = torch.randn(4, 8, 3, 20, 20).unbind()
    kept = adapted(net, batches, "cuda")
    spilled = adapted(net, batches, "cuda", waiting=Waiting(1, on_disk=3, folder=tmp_path))
    assert all(torch.equal(value, spilled[key]) for key, value in kept.items())


def test_one_rank_over_nccl_gives_the_same_bits(net, monkeypatch):
    for name, value in {"ADDR": "127.0.0.1", "PORT": "29578"}.items():
        monkeypatch.setenv(f"MASTER_{name}", value)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    batches = torch.randn(4, 8, 3, 20, 20).unbind()
    group = ProcessGroup("cuda:0")
    try:
        together = adapted(net, batches, "cuda:0", ranks=group)
    finally:
        group.close()
    alone = adapted(net, batches, "cuda:0")
    assert all(torch.equal(value, alone[key]) for key, value in together.items())


def test_the_command_takes_the_gpu_and_plans_its_memory(sample_data: Path, tmp_path: Path):
    given = ["adapt", str(sample_data / "digits_bn.pt"), "-t", str(sample_data / "target"), "-q"]
    for device in ("cpu", "auto"):
        assert run([*given, "--device", device, "-o", str(tmp_path / device)]) == 0
    here, there = (json.loads((tmp_path / d / "run.json").read_text()) for d in ("cpu", "auto"))
    assert there["run"]["device"].startswith("cuda")
    assert there["after"]["accuracy"] == pytest.approx(here["after"]["accuracy"], abs=0.005)
    packs = [read_pack(tmp_path / device / "pack.safetensors") for device in ("cpu", "auto")]
    for place, value in packs[0].target.items():
        torch.testing.assert_close(packs[1].target[place], value, rtol=0.02, atol=0.02)
    total = torch.cuda.get_device_properties(0).total_memory
    assert 0 < (default_limit("cuda") or 0) <= total
    assert resident_bytes("cuda") <= total
    assert (os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) > resident_bytes()
