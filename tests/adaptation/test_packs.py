"""Domain packs: the same bytes for the same statistics, and only for the model they belong to."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from learned_statistics import learned
from torch import nn

import adabn_cli
from adabn_cli.adaptation.fingerprint import fingerprint
from adabn_cli.adaptation.packs import Pack, put_in, read_pack, take_out
from adabn_cli.errors import InputError, ModelError
from adabn_cli.model import statistics_of
from adabn_cli.models.live.module import EagerModel


def net(channels: int = 4, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, channels, 3), nn.BatchNorm2d(channels), nn.ReLU()
    return learned(nn.Sequential(*layers))


@pytest.fixture
def pack() -> Pack:
    """A pack for `net()`."""
    model = EagerModel(net())
    source = statistics_of(model)
    adabn_cli.adapt(model.module, [torch.randn(9, 3, 8, 8, generator=torch.Generator())])
    return Pack(
        fingerprint=fingerprint(model),
        architecture=model.architecture,
        target=statistics_of(model),
        source=source,
        images=9,
    )


def test_a_pack_comes_back_as_it_was_written(pack: Pack, tmp_path: Path) -> None:
    file = tmp_path / "pack.safetensors"
    file.write_bytes(pack.as_bytes())
    read = read_pack(file)
    assert read.fingerprint == pack.fingerprint
    assert read.images == 9
    for side in ("target", "source"):
        written, found = getattr(pack, side), getattr(read, side)
        assert written.keys() == found.keys()
        assert all(torch.equal(written[place], found[place]) for place in written)


def test_the_same_statistics_give_the_same_bytes(pack: Pack) -> None:
    assert pack.as_bytes() == pack.as_bytes()


def test_put_in_and_taken_out_is_the_source(pack: Pack) -> None:
    module = net()
    before = copy.deepcopy(module.state_dict())
    model = EagerModel(module)
    put_in(pack, model)
    assert not torch.equal(module[1].running_mean, before["1.running_mean"])
    take_out(pack, model)
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


def test_other_weights_are_refused_and_left_alone(pack: Pack) -> None:
    other = net(seed=1)
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(ModelError, match="other weights"):
        put_in(pack, EagerModel(other))
    assert all(torch.equal(before[key], value) for key, value in other.state_dict().items())


def test_another_architecture_is_refused(pack: Pack) -> None:
    with pytest.raises(ModelError, match="another architecture"):
        put_in(pack, EagerModel(net(channels=5)))


def test_taking_out_what_is_not_in_is_refused(pack: Pack) -> None:
    with pytest.raises(ModelError, match="does not hold this pack"):
        take_out(pack, EagerModel(net()))


def test_fingerprint_does_not_change_with_the_statistics() -> None:
    module = net()
    before = fingerprint(EagerModel(module))
    adabn_cli.adapt(module, [torch.randn(9, 3, 8, 8)])
    assert fingerprint(EagerModel(module)) == before


def test_fingerprint_changes_with_one_weight() -> None:
    module = net()
    before = fingerprint(EagerModel(module))
    with torch.no_grad():
        module[0].weight.view(-1)[0] += 1e-3
    assert fingerprint(EagerModel(module)).weights != before.weights


def test_fingerprint_sees_values_not_their_precision() -> None:
    module = net().half()
    assert fingerprint(EagerModel(module)) == fingerprint(EagerModel(copy.deepcopy(module).float()))


@pytest.mark.parametrize("content", [b"", b"not a pack", b"\x00" * 64])
def test_what_is_no_pack_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "pack.safetensors"
    file.write_bytes(content)
    with pytest.raises(InputError, match="not a domain pack"):
        read_pack(file)


def test_a_missing_pack_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such domain pack"):
        read_pack(tmp_path / "none.safetensors")
