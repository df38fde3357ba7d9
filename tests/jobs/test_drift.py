"""Drift is told where there is some, once, and never where there is none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from adabn_cli.jobs.watch.drift import Drift, Regime
from adabn_cli.model import Site
from adabn_cli.moments import SiteMoments, measure

SITES = {
    name: Site(name, "batch_norm", channels, 1e-5, {})
    for name, channels in (("first", 8), ("last", 20), ("dead", 3))
}


def batch(generator: torch.Generator, n: int = 32, shift: float = 0.0) -> dict[str, SiteMoments]:
    """Positions of one image are alike; channels of the last site all say the same."""
    images = torch.randn(n, 8, 1, 1, generator=generator)
    pixels = images + 0.5 * torch.randn(n, 8, 6, 6, generator=generator) + shift
    alike = torch.randn(n, 1, generator=generator).expand(n, 20).contiguous()
    return {"first": measure(pixels), "last": measure(alike), "dead": measure(torch.zeros(n, 3))}


def taken(regime: Regime, found: dict[str, SiteMoments], n: int = 32) -> Drift | None:
    return regime.take(SITES, found, n)


def test_a_stream_of_like_pictures_does_not_drift() -> None:
    generator = torch.Generator().manual_seed(0)
    for n in (8, 32):
        for _ in range(10):
            regime = Regime()
            assert not any(taken(regime, batch(generator, n), n) for _ in range(20))


def test_a_shift_is_told_by_site_and_size_and_once() -> None:
    generator = torch.Generator().manual_seed(1)
    regime = Regime()
    for _ in range(5):
        assert taken(regime, batch(generator)) is None
    drift = taken(regime, batch(generator, shift=2.0))
    assert drift is not None
    assert (drift.site, drift.drifted_sites) == ("first", 1)
    # 2 in units of the standard deviation of all pixels, which is the root of 1 + 0.25.
    assert drift.shift_std == pytest.approx(2 / 1.25**0.5, rel=0.15)
    assert drift.noise_std < drift.shift_std / 5
    for _ in range(5):
        assert taken(regime, batch(generator, shift=2.0)) is None
    assert taken(regime, batch(generator)) is not None, "the way back is a drift as well"


def test_another_spread_is_a_drift_too() -> None:
    generator = torch.Generator().manual_seed(2)
    regime = Regime()
    for _ in range(5):
        taken(regime, batch(generator))
    found = batch(generator)

    def wider(seen: Tensor) -> SiteMoments:
        return measure(seen * 3)

    found["first"] = wider(torch.randn(32, 8, 6, 6, generator=generator))
    assert taken(regime, found) is not None


def test_a_slow_drift_is_found_in_the_end() -> None:
    generator = torch.Generator().manual_seed(3)
    regime = Regime()
    drifts = [taken(regime, batch(generator, shift=0.1 * step)) for step in range(40)]
    assert drifts[1] is None
    assert any(drifts)


def test_a_shift_within_the_tolerance_is_none_however_sure_it_is() -> None:
    regime = Regime()
    for shift in (0.0, 0.0, 0.05):
        n = 4000
        found = batch(torch.Generator().manual_seed(4), n, shift)
        assert taken(regime, found, n) is None


def test_a_handful_of_pictures_has_a_say_once_there_are_eight() -> None:
    generator = torch.Generator().manual_seed(5)
    regime = Regime()
    taken(regime, batch(generator))
    assert taken(regime, batch(generator, 5, shift=5.0), 5) is None
    assert regime.images == 32
    assert taken(regime, batch(generator, 5, shift=5.0), 5) is not None
    assert regime.images == 10
    assert regime.seen["first"].images.count == 10
