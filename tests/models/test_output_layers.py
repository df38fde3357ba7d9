"""Layers without a normalizer: what is a site at its output, and how it folds into the weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from adabn_cli.model import FixedLayer
from adabn_cli.models.live.module import EagerModel
from adabn_cli.models.live.output_layers import OutputLayer, as_output_layer
from adabn_cli.normalizers.weight_norm import log_scale_weight_norm


def old_weight_norm(layer: nn.Module, dim: int = 0) -> nn.Module:
    """The form with weight_g and weight_v, which most checkpoints have."""
    with pytest.warns(FutureWarning):
        return nn.utils.weight_norm(layer, dim=dim)


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "linear": (lambda: nn.Linear(6, 4), (6,), "affine"),
    "linear on tokens": (lambda: nn.Linear(6, 4), (3, 6), "affine"),
    "conv": (lambda: nn.Conv2d(6, 4, 3, groups=2), (6, 5, 5), "affine"),
    "conv1d": (lambda: nn.Conv1d(6, 4, 3), (6, 5), "affine"),
    "conv3d": (lambda: nn.Conv3d(6, 4, 1), (6, 2, 2, 2), "affine"),
    "transposed": (lambda: nn.ConvTranspose2d(6, 4, 3), (6, 5, 5), "affine"),
    "transposed in groups": (lambda: nn.ConvTranspose2d(6, 4, 3, groups=2), (6, 5, 5), "affine"),
    "weight_g": (lambda: old_weight_norm(nn.Conv2d(6, 4, 3)), (6, 5, 5), "weight_norm"),
    "weight_g transposed": (
        lambda: old_weight_norm(nn.ConvTranspose2d(6, 4, 3), dim=1),
        (6, 5, 5),
        "weight_norm",
    ),
    "original0": (
        lambda: parametrizations.weight_norm(nn.Conv2d(6, 4, 3)),
        (6, 5, 5),
        "weight_norm",
    ),
    "log scale": (lambda: log_scale_weight_norm(nn.Linear(6, 4), c=2.0), (6,), "weight_norm"),
}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", LAYERS)
def test_folding_does_what_the_scaled_and_shifted_output_did(name: str) -> None:
    make, shape, kind = LAYERS[name]
    torch.manual_seed(0)
    layer = make()
    model = EagerModel(nn.Sequential(layer))
    images = draw(5, *shape)
    with torch.no_grad():
        plain = layer(images)
    site = model.sites[0]
    assert (site.kind, site.channels) == (kind, 4)
    scale, shift = draw(4, seed=1).abs().double() + 0.1, draw(4, seed=2).double()
    model.load_state({site.keys["scale"]: scale, site.keys["shift"]: shift})
    axis = -1 if isinstance(layer, nn.Linear) else 1
    view = [1] * plain.dim()
    view[axis] = 4
    wanted = plain.double() * scale.view(view) + shift.view(view)
    forward = model.forward(images)
    assert forward is not None
    torch.testing.assert_close(forward.double(), wanted, rtol=1e-5, atol=1e-5)
    model.fold()
    assert not model.folded()
    with torch.no_grad():
        torch.testing.assert_close(layer(images).double(), wanted, rtol=1e-5, atol=1e-5)


def test_a_scale_of_one_and_no_shift_leave_the_output_to_the_bit() -> None:
    model = EagerModel(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)))
    images = draw(2, 3, 9, 9)
    with torch.no_grad():
        assert torch.equal(model.module(images), model.forward(images))


def test_outputs_are_sites_only_where_no_layer_stores_statistics() -> None:
    assert [site.kind for site in EagerModel(nn.Sequential(nn.Linear(3, 3))).sites] == ["affine"]
    beside = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    assert [site.kind for site in EagerModel(beside).sites] == ["batch_norm"]


class Standardized(nn.Conv2d):
    """A layer whose output does not scale with its weight."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight / self.weight.std(), self.bias)


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (nn.Conv2d(3, 4, 3, bias=False), "no bias"),
        (Standardized(3, 4, 3), "own way"),
        (parametrizations.spectral_norm(nn.Linear(3, 4)), "another way"),
        (parametrizations.weight_norm(nn.Linear(3, 4), dim=1), "each output channel"),
    ],
)
def test_what_a_scale_cannot_be_folded_into_is_named(layer: nn.Module, why: str) -> None:
    found = as_output_layer("layer", layer)
    assert isinstance(found, FixedLayer)
    assert why in found.reason


def test_layers_that_share_a_weight_are_no_sites() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    model = EagerModel(nn.Sequential(first, second))
    assert model.sites == []
    assert all("shares its weight" in layer.reason for layer in model.fixed)


def test_other_layers_are_not_looked_at() -> None:
    assert as_output_layer("relu", nn.ReLU()) is None
    assert isinstance(as_output_layer("fc", nn.Linear(2, 2)), OutputLayer)
