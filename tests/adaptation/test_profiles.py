"""Source profiles: what they hold, that they come back as written, and whose they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from learned_statistics import learned
from torch import Tensor, nn

import adabn_cli
from adabn_cli.adaptation.profiles import Profile, read_profile, require_profile_of
from adabn_cli.errors import InputError, ModelError
from adabn_cli.models.live.module import EagerModel
from adabn_cli.moments import image_rows


def net() -> nn.Sequential:
    """A net that finds each of its three classes in about ten of the images."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    )
    module = learned(layers).eval()
    with torch.no_grad():
        logits = module(images())
        module[5].weight.div_(logits.std(0).unsqueeze(1))
        module[5].bias.sub_(logits.mean(0)).div_(logits.std(0))
    return module


def images() -> Tensor:
    return torch.randn(30, 3, 8, 8, generator=torch.Generator().manual_seed(1)) + 0.5


def labels() -> Tensor:
    return torch.arange(30) % 3


@pytest.fixture
def profile() -> Profile:
    batches = zip(images().split(7), labels().split(7), strict=True)
    return adabn_cli.profile(net(), batches)


def test_a_profile_comes_back_as_it_was_written(profile: Profile, tmp_path: Path) -> None:
    file = tmp_path / "source.profile"
    file.write_bytes(profile.as_bytes())
    assert profile.as_bytes() == profile.as_bytes()
    read = read_profile(file)
    assert read.as_bytes() == profile.as_bytes()
    assert (read.fingerprint, read.images) == (profile.fingerprint, 30)
    assert list(read.sites) == ["1"]
    assert read.predictions is not None
    assert read.predictions.class_N.tolist() == labels().tolist()


def test_a_profile_leaves_the_model_as_it_was() -> None:
    module = net().train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    adabn_cli.profile(module, images().split(7))
    assert module.training
    assert all(torch.equal(before[name], x) for name, x in module.state_dict().items())


def test_batches_do_not_change_a_profile(profile: Profile) -> None:
    other = adabn_cli.profile(net(), [(images(), labels())])
    for name in ("mean_C", "var_C", "mean_error2_C", "var_error2_C"):
        one, two = (getattr(x.expected()["1"], name) for x in (profile, other))
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("share", [[1 / 3, 1 / 3, 1 / 3], [0.7, 0.2, 0.1], [1.0, 0.0, 0.0]])
def test_a_mix_is_the_weighted_mean_over_source_images(
    profile: Profile, share: list[float]
) -> None:
    with torch.no_grad():
        rows = image_rows(net()[0](images()).double())
    assert profile.predictions is not None
    predicted = profile.predictions.predicted_N
    counts = torch.bincount(predicted, minlength=3)
    assert (counts > 2).all()
    weights = (torch.tensor(share, dtype=torch.float64) / counts)[predicted]
    weights = (weights / weights.sum()).unsqueeze(1)
    mean = (weights * rows.mean_NC).sum(0)
    square = rows.m2_NC / rows.positions + (rows.mean_NC - mean) ** 2
    var, worth = (weights * square).sum(0), 1 / float((weights**2).sum())
    mixed = profile.expected_mix(torch.tensor(share).double().numpy())["1"]
    close = {"rtol": 1e-5, "atol": 1e-7}
    torch.testing.assert_close(mixed.mean_C, mean, **close)
    torch.testing.assert_close(mixed.var_C, var, **close)
    mean_error2 = (weights * (rows.mean_NC - mean) ** 2).sum(0) / worth
    torch.testing.assert_close(mixed.mean_error2_C, mean_error2, **close)
    var_error2 = (weights * (square - var) ** 2).sum(0) / worth
    torch.testing.assert_close(mixed.var_error2_C, var_error2, **close)


def test_a_profile_belongs_to_one_model_and_its_statistics(profile: Profile) -> None:
    module = net()
    require_profile_of(profile, EagerModel(module))
    module[1].running_mean += 1
    with pytest.raises(ModelError, match="other statistics"):
        require_profile_of(profile, EagerModel(module))
    module[0].weight.data += 1
    with pytest.raises(ModelError, match="other weights"):
        require_profile_of(profile, EagerModel(module))
    with pytest.raises(ModelError, match="another architecture"):
        require_profile_of(profile, EagerModel(nn.Sequential(nn.BatchNorm2d(3))))


@pytest.mark.parametrize("content", [b"", b"not a profile"])
def test_what_is_no_profile_is_told(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "source.profile"
    file.write_bytes(content)
    with pytest.raises(InputError, match="not a source profile"):
        read_profile(file)
    with pytest.raises(InputError, match="no such source profile"):
        read_profile(tmp_path / "missing")
