"""A folded BatchNorm is adapted as the layer that it was."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from adabn_cli.adaptation.rules import RULES, FoldedSite, Unfolded
from adabn_cli.model import Site
from adabn_cli.moments import Moments

KEYS = {"scale": "a", "shift": "b"}
EPS = 1e-3
GAMMA = torch.tensor([1.5, -0.5, 2.0, 0.0, 1.0], dtype=torch.float64)
BETA = torch.tensor([0.1, 2.0, -1.0, 3.0, 0.0], dtype=torch.float64)
MEAN = torch.tensor([0.5, -0.5, 0.0, 1.0, 2.0], dtype=torch.float64)
VAR = torch.tensor([1.0, 4.0, 1e-12, 1.0, 0.25], dtype=torch.float64)
UNFOLDED = Unfolded(GAMMA, BETA, VAR, EPS)
SITE = FoldedSite("conv", "folded_batch_norm", 5, 1e-8, KEYS, unfolded=UNFOLDED)


def normalized(x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    return GAMMA * (x - mean) / (var + EPS).sqrt() + BETA


@pytest.fixture
def x() -> Tensor:
    """What the normalizer took, on the target; one channel hardly varies there, one not at all."""
    drawn = torch.randn(50, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return drawn * torch.tensor([2.0, 0.1, 1e-7, 1.0, 0.0]) + torch.arange(5)


def test_a_folded_layer_is_adapted_as_the_layer_before_the_fold(x: Tensor) -> None:
    y = normalized(x, MEAN, VAR)
    rule = RULES["folded_batch_norm"]
    moments = Moments.of_variance(50, y.mean(0), y.var(0, correction=0))
    entries = rule.absorb(SITE, {}, moments)
    wanted = normalized(x, x.mean(0), x.var(0, correction=0))
    torch.testing.assert_close(y * entries["a"] + entries["b"], wanted)
    held = rule.believed(SITE, entries)
    assert held is not None
    torch.testing.assert_close(held.mean_C[:3], moments.mean_C[:3])
    torch.testing.assert_close(held.var_C, moments.var_C, atol=1e-9, rtol=1e-6)


def test_at_first_it_believes_what_was_stored() -> None:
    found = RULES["folded_batch_norm"].believed(SITE, {"a": torch.ones(5), "b": torch.zeros(5)})
    assert found is not None
    torch.testing.assert_close(found.mean_C, BETA)
    torch.testing.assert_close(found.var_C, GAMMA**2 * VAR / (VAR + EPS), atol=1e-12, rtol=1e-9)


def test_without_a_reference_there_is_no_rule() -> None:
    site = Site("conv", "folded_batch_norm", 5, 1e-8, KEYS)
    with pytest.raises(ValueError, match="no reference"):
        RULES["folded_batch_norm"].believed(site, {})
