"""`--bf16` is near float32, says so everywhere, and is refused where it cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from adabn_cli.adaptation.engines.exact import estimate
from adabn_cli.adaptation.engines.passes import Passes
from adabn_cli.adaptation.installer import Installer
from adabn_cli.adaptation.methods import Adaptation
from adabn_cli.model import no_output, no_progress
from adabn_cli.models.live.module import EagerModel


def record(folder: str) -> dict:
    return json.loads((Path(folder) / "run.json").read_text())


def test_a_run_is_near_that_of_float32_and_says_so(command, sample_model, few_pictures):
    given = ("adapt", sample_model, "-t", few_pictures, "--verify")
    assert command(*given, "-o", "plain").code == 0
    done = command(*given, "--bf16", "-o", "run")
    assert done.code == 0
    assert "Computed in bfloat16" in " ".join((done.out + done.err).split())
    rough, exact = record("run"), record("plain")
    assert (rough["method"]["dtype"], exact["method"]["dtype"]) == ("bfloat16", "float32")
    # Behind one another in the same precision, sites agree as they do in float32.
    assert rough["residual"]["max_mean"] < 1e-5
    kl = [one["kl"]["before"]["mean"] for one in (rough, exact)]
    assert kl[0] != kl[1]
    assert kl[0] == pytest.approx(kl[1], rel=0.02)


def test_forwards_alone_are_in_bfloat16_and_no_mode_is_left_behind():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Conv2d(8, 5, 4)
    )
    batches = list(torch.randn(3, 4, 3, 6, 6))
    plain, rough = EagerModel(net), EagerModel(net, bf16=True)
    outputs = rough.forward(batches[0])
    assert outputs.dtype == torch.bfloat16
    off = (outputs.float() - plain.forward(batches[0])).abs().max()
    assert 0 < off < 0.05
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    found = []
    for model in (rough, plain):
        installer = Installer.of(model, Adaptation(), 12)
        seen = estimate(installer, Passes.over(batches), no_output, no_progress).measured
        found.append(seen["1"])
    assert kept["0.weight"].equal(net[0].weight)
    off = (found[0].pixels.mean_C - found[1].pixels.mean_C).abs() / found[1].pixels.var_C.sqrt()
    assert 1e-6 < off.max() < 0.05
    assert not torch.is_autocast_enabled("cpu")


def test_a_graph_has_a_precision_of_its_own(command, tmp_path, few_pictures):
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4)).eval()
    torch.jit.script(net).save(tmp_path / "net.pt")
    done = command("adapt", tmp_path / "net.pt", "-t", few_pictures, "--bf16", "--json")
    assert done.code == 2
    assert "Leave out --bf16" in done.out + done.err
