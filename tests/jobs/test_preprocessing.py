"""Preprocessing is never guessed, and a wrong one is noticed where a real shift is not."""

from __future__ import annotations

import pytest
import torch

from adabn_cli.adaptation.installer import Installer
from adabn_cli.adaptation.methods import Adaptation
from adabn_cli.data.open import TargetRequest, open_target
from adabn_cli.errors import UsageError
from adabn_cli.jobs.preprocessing import (
    PreprocessingOptions,
    resolve_preprocessing,
    suspect_preprocessing,
)
from adabn_cli.models.open import ModelRequest, open_model
from adabn_cli.preprocessing import Preprocessing


class _Model:
    def __init__(self, preprocessing=None, channels=3):
        self.preprocessing, self.input_channels = preprocessing, channels
        self.input_size = (None, None)

    def state(self):
        return {}

    def forward(self, images):
        if images.shape[1] != self.input_channels:
            raise RuntimeError("other channels")


_KNOWN = Preprocessing((32, 32), (0.5,) * 3, (0.2,) * 3, source="checkpoint")


def test_options_come_before_the_checkpoint_and_both_are_named():
    assert resolve_preprocessing(_Model(_KNOWN), PreprocessingOptions()) == _KNOWN
    found = resolve_preprocessing(_Model(_KNOWN), PreprocessingOptions(size=(8, 8)))
    assert (found.size, found.mean) == ((8, 8), _KNOWN.mean)
    assert found.source == "options (size); the rest: checkpoint"


def test_one_number_is_for_all_channels():
    options = PreprocessingOptions(size=(8, 8), mean=(0.5,), std=(0.2,))
    assert resolve_preprocessing(_Model(), options).mean == (0.5, 0.5, 0.5)
    assert resolve_preprocessing(_Model(channels=1), options).mean == (0.5,)


@pytest.mark.parametrize(
    ("model", "options", "told"),
    [
        (_Model(), {}, "--img-size --mean --std"),
        (_Model(), {"size": (8, 8), "mean": (0.5,)}, "Give --std "),
        (_Model(_KNOWN), {"mean": (0.5,)}, "--mean has 1 numbers, --std has 3"),
        (_Model(_KNOWN), {"std": (0.0,) * 3}, "not positive"),
        (_Model(_KNOWN), {"mean": (124.0,) * 3}, "255"),
        (_Model(_KNOWN), {"std": (float("nan"),) * 3}, "finite"),
        (_Model(_KNOWN), {"size": (0, 8)}, "--img-size"),
        (_Model(_KNOWN), {"crop_pct": 0.0}, "--crop-pct"),
        (_Model(_KNOWN), {"interpolation": "magic"}, "bicubic"),
        (_Model(_KNOWN, channels=1), {}, "Give 1 number to"),
        (_Model(_KNOWN, channels=4), {}, "gray or RGB"),
        (
            _Model(None, None),
            {"size": (8, 8), "mean": (0.5,) * 2, "std": (1.0,) * 2},
            "one or three",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_a_usage_error(model, options, told):
    with pytest.raises(UsageError) as raised:
        resolve_preprocessing(model, PreprocessingOptions(**options))
    assert told in str(raised.value)
    assert raised.value.where
    assert raised.value.hint.endswith(".")


def _suspicion(request, folder, given):
    opened = open_model(request)
    target = open_target(
        TargetRequest(folder, given, batch_size=64, workers=1, max_images=64),
        lambda done, total: None,
    )
    images = next(iter(target.batches()))
    return suspect_preprocessing(
        opened.model, images, Installer.of(opened.model, Adaptation(), 64), given
    )


@pytest.mark.parametrize("domain", ["source", "target"])
@pytest.mark.parametrize(
    ("mean", "std", "told"),
    [(0.0, 1.0, "--mean"), (0.0, 1 / 255, "--mean"), (0.1314, 0.264, None)],
)
def test_a_wrong_normalization_is_noticed_and_a_real_shift_is_not(
    sample_data, domain, mean, std, told
):
    request = ModelRequest(sample_data / "digits_bn.pt")
    found = _suspicion(request, sample_data / domain, Preprocessing((16, 16), (mean,), (std,)))
    assert (found is None) == (told is None)
    if told:
        assert told in found
        assert "Check the preprocessing" in found


@pytest.mark.parametrize(
    ("file", "arch", "size", "mean", "std"),
    [
        ("ccexam_usps.pth", "USPSNet", 16, (0.2471,), (0.2994,)),
        ("ccexam_svhn.pth", "SVHNNet", 32, (0.4377, 0.4438, 0.4728), (0.198, 0.201, 0.197)),
    ],
)
@pytest.mark.parametrize("digits", ["optdigits_1797", "mnist_1000"])
def test_the_right_preprocessing_of_real_shifts_is_not_suspected(
    shared_data, file, arch, size, mean, std, digits
):
    pytest.importorskip("ccexam")
    request = ModelRequest(
        shared_data / "checkpoints" / file,
        arch=f"ccexam.models:{arch}",
        arch_args={"input_size": size},
    )
    given = Preprocessing((size, size), mean, std)
    assert _suspicion(request, shared_data / "digits" / digits, given) is None


def test_swapped_channels_are_noticed_where_colours_are_lopsided(tmp_path):
    from torch import nn

    generator = torch.Generator().manual_seed(0)
    means, stds = torch.tensor([0.8, 0.45, 0.15]), torch.tensor([0.05, 0.2, 0.1])
    rgb = torch.rand(64, 3, 16, 16, generator=generator) - 0.5
    rgb = rgb * stds.view(1, 3, 1, 1) + means.view(1, 3, 1, 1)
    given = Preprocessing((16, 16), (0.5,) * 3, (0.25,) * 3)
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8, momentum=None))
    with torch.no_grad():
        net[0].weight.copy_(torch.randn(8, 3, 1, 1, generator=generator))
        net((rgb - 0.5) / 0.25)
    torch.save(net.eval(), tmp_path / "net.pt")
    model = open_model(ModelRequest(tmp_path / "net.pt")).model
    installer = Installer.of(model, Adaptation(), 64)
    assert suspect_preprocessing(model, (rgb - 0.5) / 0.25, installer, given) is None
    bgr = suspect_preprocessing(model, (rgb.flip(1) - 0.5) / 0.25, installer, given)
    assert bgr is not None
    assert "swapped channels" in bgr
