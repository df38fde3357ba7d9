from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from adabn_cli.measures.divergence import model_divergence, summarise, symmetric_kl_nats
from adabn_cli.moments import Moments


def moments(mean: list[float], var: list[float], count: int = 10) -> Moments:
    return Moments.of_variance(count, torch.tensor(mean), torch.tensor(var))


def kl_by_integration(m_p: float, v_p: float, m_q: float, v_q: float) -> float:
    p, q = norm(m_p, math.sqrt(v_p)), norm(m_q, math.sqrt(v_q))
    reach = 12 * math.sqrt(v_p)
    value, _ = quad(
        lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), m_p - reach, m_p + reach, epsabs=1e-12
    )
    return value


@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.1])
def test_symmetric_kl_agrees_with_numerical_integration(eps: float) -> None:
    rng = np.random.default_rng(0)
    m_s, m_t = rng.normal(size=12), rng.normal(size=12)
    v_s, v_t = rng.uniform(0.2, 4, 12), rng.uniform(0.2, 4, 12)
    source = Moments.of_variance(1, torch.from_numpy(m_s), torch.from_numpy(v_s))
    target = Moments.of_variance(500, torch.from_numpy(m_t), torch.from_numpy(v_t))
    kl_C = symmetric_kl_nats(source, target, eps)
    for c in range(12):
        s, t = (m_s[c], v_s[c] + eps), (m_t[c], v_t[c] + eps)
        expected = kl_by_integration(*s, *t) + kl_by_integration(*t, *s)
        assert float(kl_C[c]) == pytest.approx(expected, rel=1e-8)


def test_symmetric_kl_is_the_papers_sum_of_both_directions() -> None:
    # (v_s + d^2)/2v_t + (v_t + d^2)/2v_s - 1 with v_s = 1, v_t = 4, d = 2.
    kl_C = symmetric_kl_nats(moments([2.0], [1.0]), moments([0.0], [4.0]), 0.0)
    assert float(kl_C) == pytest.approx(5 / 8 + 8 / 2 - 1)


def test_symmetric_kl_does_not_depend_on_the_order_of_domains() -> None:
    a, b = moments([2.0, 0.0], [1.0, 3.0]), moments([0.0, 0.1], [4.0, 2.0])
    torch.testing.assert_close(symmetric_kl_nats(a, b, 1e-5), symmetric_kl_nats(b, a, 1e-5))


def test_kl_near_zero_is_right_to_the_last_digits_and_never_negative() -> None:
    # Written as a difference of ones, 1e-9 relative in the variance gives 0 or 2e-16, not 5e-19.
    source = Moments.of_variance(1, torch.zeros(1), torch.ones(1))
    target = Moments(1, source.mean_C, source.m2_C * (1 + 1e-9))
    assert float(symmetric_kl_nats(source, target, 0.0)) == pytest.approx(5e-19, rel=1e-6)
    assert float(symmetric_kl_nats(source, source, 1e-5)) == 0


def test_epsilon_keeps_a_source_channel_of_tiny_variance_finite() -> None:
    source, target = moments([0.0, 0.0], [1e-30, 0.0]), moments([0.0, 0.0], [1e-6, 1e-6])
    assert symmetric_kl_nats(source, target, 1e-5).max() < 0.01


def test_summary_leaves_dead_channels_out_and_counts_them() -> None:
    kl_C = torch.tensor([1e9, 0.1, 0.4, torch.inf, 0.2, 0.3]).double()
    dead_C = torch.tensor([True, False, False, True, False, False])
    summary = summarise(kl_C, dead_C)
    live = np.array([0.1, 0.4, 0.2, 0.3])
    assert summary.mean == pytest.approx(live.mean(), rel=1e-6)
    assert summary.median == pytest.approx(np.median(live), rel=1e-6)
    assert summary.p95 == pytest.approx(np.quantile(live, 0.95), rel=1e-6)
    assert summary.max == pytest.approx(0.4, rel=1e-6)
    assert (summary.max_channel, summary.channels, summary.dead_channels) == (2, 6, 2)


def test_a_channel_that_never_varied_on_the_target_is_dead() -> None:
    source, target = moments([0.0, 1.0], [1.0, 1.0]), moments([3.0, 1.0], [0.0, 1.0])
    summary = summarise(symmetric_kl_nats(source, target, 1e-5), target.dead_C)
    assert (summary.dead_channels, summary.max, summary.max_channel) == (1, 0, 1)


def test_a_site_of_dead_channels_has_no_divergence() -> None:
    summary = summarise(torch.full((3,), torch.inf), torch.ones(3, dtype=torch.bool))
    assert (summary.mean, summary.max, summary.max_channel) == (None, None, None)
    assert (summary.channels, summary.dead_channels) == (3, 3)


def test_the_model_weighs_neurons_alike_and_sites_apart() -> None:
    kl = {
        "small": torch.tensor([4.0, 2.0]),
        "wide": torch.tensor([0.5, 1.5, 0.0, 0.5, 2.5, 99.0]),
        "dead": torch.tensor([7.0]),
    }
    dead = {name: torch.zeros(len(kl_C), dtype=torch.bool) for name, kl_C in kl.items()}
    dead["wide"][5] = dead["dead"][0] = True
    summary = model_divergence(kl, dead)
    neurons = np.array([4, 2, 0.5, 1.5, 0, 0.5, 2.5])
    assert summary.mean == pytest.approx(neurons.mean())
    assert summary.mean_over_sites == pytest.approx((3 + 1) / 2)
    assert summary.median == pytest.approx(np.median(neurons))
    assert summary.p95 == pytest.approx(np.quantile(neurons, 0.95))
    assert (summary.max, summary.max_site, summary.max_channel) == (4, "small", 0)
    assert (summary.channels, summary.dead_channels) == (9, 2)


def test_a_neuron_that_is_not_a_number_shows_as_the_largest() -> None:
    kl = {"first": torch.tensor([9.0]), "broken": torch.tensor([0.1, torch.nan])}
    dead = {"first": torch.tensor([False]), "broken": torch.tensor([False, False])}
    summary = model_divergence(kl, dead)
    assert summary.max_site == "broken"
    assert summary.max_channel == 1
    assert summary.max is not None
    assert math.isnan(summary.max)


def test_a_model_without_a_live_neuron_has_no_divergence() -> None:
    assert model_divergence({}, {}).mean is None
    summary = model_divergence({"a": torch.tensor([1.0])}, {"a": torch.tensor([True])})
    assert (summary.mean, summary.max_site, summary.channels) == (None, None, 1)
