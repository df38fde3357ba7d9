"""What is installed: which sites, and how much of source and target."""

from __future__ import annotations

import pytest
import torch

from adabn_cli.adaptation.installer import select_sites
from adabn_cli.adaptation.methods import Adaptation, match_trust, matched, trust
from adabn_cli.errors import UsageError
from adabn_cli.model import Site
from adabn_cli.moments import EstimatedMoments, Moments, measure

SITES = [Site(name, "batch_norm", 4, 1e-5, {}) for name in ("bn1", "layer1.0.bn1", "layer1.0.bn2")]
SITE = SITES[0]


@pytest.mark.parametrize(
    ("layers", "chosen"),
    [
        ((), {"bn1", "layer1.0.bn1", "layer1.0.bn2"}),
        (("layer1.*",), {"layer1.0.bn1", "layer1.0.bn2"}),
        (("!bn1",), {"layer1.0.bn1", "layer1.0.bn2"}),
        (("*bn1", "!layer1.*"), {"bn1"}),
    ],
)
def test_globs_include_and_exclude_sites(layers: tuple[str, ...], chosen: set[str]) -> None:
    assert select_sites(SITES, layers) == chosen


def test_a_glob_without_a_site_names_the_nearest() -> None:
    with pytest.raises(UsageError) as raised:
        select_sites(SITES, ("layer1.0.bn3",))
    assert "layer1.0.bn1" in raised.value.hint


def test_excluding_every_site_is_an_error() -> None:
    with pytest.raises(UsageError, match="no site"):
        select_sites(SITES, ("!*",))


@pytest.mark.parametrize(
    "options", [{"prior": 1, "alpha": 0.5}, {"alpha": 1.5}, {"prior": -1}, {"prior": "Auto"}]
)
def test_settings_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Adaptation(**options)


@pytest.mark.parametrize(("options", "weight"), [({"prior": 30}, 0.25), ({"alpha": 0.6}, 0.6)])
def test_variances_are_mixed_linearly_as_published(
    options: dict[str, float], weight: float
) -> None:
    source = Moments.of_variance(1, torch.tensor([4.0]), torch.tensor([9.0]))
    measured = measure(torch.randn(10, 1, 3, 3, generator=torch.Generator().manual_seed(0)))
    mixed = Adaptation(**options).target_moments(SITE, source, measured, images=10)
    mean = weight * measured.pixels.mean_C + (1 - weight) * 4
    var = weight * measured.pixels.var_C + (1 - weight) * 9
    torch.testing.assert_close(mixed.mean_C, mean)
    torch.testing.assert_close(mixed.var_C, var)


def test_without_mixing_the_target_alone_is_installed() -> None:
    source = Moments.of_variance(1, torch.tensor([4.0]), torch.tensor([9.0]))
    measured = measure(torch.randn(10, 1, 3, 3))
    assert Adaptation().target_moments(SITE, source, measured, 10) is measured.pixels
    assert Adaptation(prior=5.0).target_moments(SITE, None, measured, 10) is measured.pixels


def test_auto_trusts_a_large_shift_and_not_one_image() -> None:
    source = Moments.of_variance(1, torch.zeros(2), torch.ones(2))
    generator = torch.Generator().manual_seed(0)
    shift = torch.tensor([10.0, 0.0]).view(1, 2, 1, 1)
    many = measure(torch.randn(500, 2, 4, 4, generator=generator) + shift)
    weight = trust(source, many, eps=1e-5, images=500)
    assert weight[0] > 0.99
    assert weight[1] < 0.9
    one = measure(torch.randn(1, 2, 4, 4, generator=generator) + shift)
    assert trust(source, one, eps=1e-5, images=1).tolist() == [0, 0]


def test_auto_learns_no_spread_from_a_silent_channel() -> None:
    source = Moments.of_variance(1, torch.tensor([0.5]), torch.tensor([1.0]))
    silent = measure(torch.zeros(2, 1, 4, 4))
    assert trust(source, silent, eps=1e-5, images=2).tolist() == [0]


def test_a_prior_counts_the_images_that_a_site_saw() -> None:
    source = Moments.of_variance(1, torch.tensor([4.0]), torch.tensor([9.0]))
    measured = measure(torch.zeros(2, 1, 3, 3))
    mixed = Adaptation(prior=6).target_moments(SITE, source, measured, images=24)
    assert mixed.mean_C.item() == pytest.approx(4 * 6 / 8)


def test_auto_lies_nearer_to_the_truth_than_either_side_where_images_are_few() -> None:
    """Over many draws of 6 images, auto's mean loss is below the target's and the source's."""
    generator = torch.Generator().manual_seed(0)
    C, draws = 200, 30
    truth_mean = 0.5 * torch.randn(C, generator=generator).double()
    source = Moments.of_variance(1, torch.zeros(C), torch.ones(C))
    loss = torch.zeros(3, dtype=torch.float64)
    for _ in range(draws):
        x = torch.randn(6, C, 1, 1, generator=generator).double() + truth_mean.view(1, C, 1, 1)
        measured = measure(x)
        mixed = Adaptation(prior="auto").target_moments(SITE, source, measured, 6)
        for index, found in enumerate((mixed, measured.pixels, source)):
            gap = (found.mean_C - truth_mean) ** 2 + (found.var_C.sqrt() - 1) ** 2
            loss[index] += gap.mean()
    assert loss[0] < loss[1]
    assert loss[0] < loss[2]


def estimated(seed: int, n: int = 200, scale: float = 1.0) -> EstimatedMoments:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 5, 3, generator=generator, dtype=torch.float64) * scale + seed
    return measure(x).estimated(n)


def moments_of(known: EstimatedMoments) -> Moments:
    return Moments.of_variance(1, known.mean_C, known.var_C)


def test_a_match_to_what_the_checkpoint_stores_is_adabn() -> None:
    target, expected = estimated(0, scale=3.0), estimated(1)
    found = matched(moments_of(expected), target, expected)
    torch.testing.assert_close(found.mean_C, target.mean_C, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.var_C, target.var_C, rtol=1e-12, atol=1e-12)


def test_a_target_that_is_the_profile_is_matched_to_the_source_model() -> None:
    source, expected = moments_of(estimated(2, scale=0.5)), estimated(1)
    found = matched(source, expected, expected)
    torch.testing.assert_close(found.mean_C, source.mean_C, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.var_C, source.var_C, rtol=1e-12, atol=1e-12)


def test_matching_gives_the_output_what_it_is_on_source_images() -> None:
    """The mean and variance of (x - mu) / sigma on the target are those on the profile."""
    source, target, expected = moments_of(estimated(2)), estimated(0, scale=3.0), estimated(1)
    found = matched(source, target, expected)
    wanted_mean = (expected.mean_C - source.mean_C) / source.var_C.sqrt()
    mean = (target.mean_C - found.mean_C) / found.var_C.sqrt()
    torch.testing.assert_close(mean, wanted_mean)
    torch.testing.assert_close(target.var_C / found.var_C, expected.var_C / source.var_C)


def test_a_channel_silent_in_the_profile_is_not_amplified_without_bound() -> None:
    silent = EstimatedMoments(*(torch.zeros(1, dtype=torch.float64) for _ in range(4)))
    one = torch.ones(1, dtype=torch.float64)
    found = matched(Moments.of_variance(1, one, one), EstimatedMoments(one, one, one, one), silent)
    assert 0 < float(found.var_C) <= 1001


def test_a_difference_within_sampling_error_is_not_trusted() -> None:
    same, far = match_trust(estimated(1), estimated(1), 1e-5), estimated(9)
    assert same.eq(0).all()
    assert match_trust(far, estimated(1), 1e-5).gt(0.99).all()
    few = EstimatedMoments(far.mean_C, far.var_C, torch.full((5,), torch.inf), far.var_error2_C)
    assert match_trust(few, estimated(1), 1e-5).eq(0).all()
