"""Moments: merged without loss, whatever the parts, the layout and the precision."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adabn_cli.moments import Moments, SiteMoments, image_rows, measure


def direct(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population variance of [N, C, *] in float64, by torch itself."""
    var, mean = torch.var_mean(x.double().transpose(0, 1).flatten(1), dim=1, correction=0)
    return mean, var


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 5), min_size=1, max_size=6).filter(lambda s: sum(s) > 0),
    positions=st.sampled_from([(), (1, 1), (3, 2), (4,), (2, 2, 3)]),
    offset=st.sampled_from([0.0, 3000.0, -1e5]),
)
def test_splitting_does_not_change_moments(
    sizes: list[int], positions: tuple[int, ...], offset: float
) -> None:
    generator = torch.Generator().manual_seed(sum(sizes))
    x = torch.randn(sum(sizes), 3, *positions, generator=generator, dtype=torch.float64) + offset
    merged = SiteMoments.empty(3)
    for part in x.split(sizes):
        merged = merged.merge(measure(part))
    mean, var = direct(x)
    assert merged.pixels.count == x.numel() // 3
    torch.testing.assert_close(merged.pixels.mean_C, mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(merged.pixels.var_C, var, rtol=1e-6, atol=1e-10)


def test_merging_is_associative_and_commutative() -> None:
    parts = [measure(torch.randn(n, 4, 5, 5)).pixels for n in (1, 7, 3)]
    a, b, c = parts
    for one, other in ((a.merge(b).merge(c), a.merge(b.merge(c))), (a.merge(b), b.merge(a))):
        assert one.count == other.count
        torch.testing.assert_close(one.mean_C, other.mean_C, rtol=1e-14, atol=1e-14)
        torch.testing.assert_close(one.m2_C, other.m2_C, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_float32_keeps_the_variance_far_from_zero(memory_format: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)
    x = 1000 + 0.01 * torch.randn(40, 3, 9, 9, generator=generator)
    mean, var = direct(x)
    found = measure(x.contiguous(memory_format=memory_format)).pixels
    torch.testing.assert_close(found.mean_C, mean, rtol=1e-10, atol=0)
    torch.testing.assert_close(found.var_C, var, rtol=1e-6, atol=0)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_float32_partials_are_right_to_seven_digits(memory_format: torch.memory_format) -> None:
    x = torch.randn(16, 8, 56, 56, generator=torch.Generator().manual_seed(0)) * 3 + 2
    mean, var = direct(x)
    found = measure(x.contiguous(memory_format=memory_format)).pixels
    torch.testing.assert_close(found.mean_C, mean, rtol=0, atol=3e-7)
    torch.testing.assert_close(found.var_C, var, rtol=3e-7, atol=0)


def test_stripes_that_the_rough_mean_falls_on_keep_six_digits() -> None:
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    x[..., ::8] += 1000
    mean, var = direct(x)
    found = measure(x.contiguous(memory_format=torch.channels_last)).pixels
    torch.testing.assert_close(found.mean_C, mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(found.var_C, var, rtol=2e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_before_it_is_summed(dtype: torch.dtype) -> None:
    x = (torch.randn(8, 2, 64, 64, generator=torch.Generator().manual_seed(0)) + 4).to(dtype)
    mean, var = direct(x)
    found = measure(x).pixels
    torch.testing.assert_close(found.mean_C, mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.var_C, var, rtol=1e-6, atol=1e-6)


def squares(x: Tensor) -> tuple[Tensor, Tensor]:
    """Per image of [N, C, *]: mean, and mean squared deviation from the mean of all, [N, C]."""
    values = x.double().flatten(2)
    means = values.mean(2)
    return means, ((values - means.mean(0)[:, None]) ** 2).mean(2)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 5), min_size=1, max_size=5).filter(lambda s: sum(s) > 1),
    offset=st.sampled_from([0.0, 50.0]),
)
def test_splitting_does_not_change_how_images_differ(sizes: list[int], offset: float) -> None:
    generator = torch.Generator().manual_seed(sum(sizes))
    x = torch.randn(sum(sizes), 3, 4, 4, generator=generator, dtype=torch.float64)
    x = x * (1 + x[:, :, :1, :1].abs()) + offset + x[:, :, 1:2, 1:2]
    merged = SiteMoments.empty(3)
    for part in x.split(sizes):
        merged = merged.merge(measure(part))
    means, square = squares(x)
    images = merged.images
    close = {"rtol": 1e-8, "atol": 1e-9}
    torch.testing.assert_close(images.square_mean_C, square.mean(0), **close)
    torch.testing.assert_close(images.square_m2_C, ((square - square.mean(0)) ** 2).sum(0), **close)
    torch.testing.assert_close(
        images.cross_C, ((means - means.mean(0)) * (square - square.mean(0))).sum(0), **close
    )


def test_the_error_of_the_variance_is_that_of_the_mean_of_squares() -> None:
    x = torch.randn(40, 2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    _, square = squares(x)
    estimated = measure(x).estimated(40)
    torch.testing.assert_close(estimated.var_C, square.mean(0))
    torch.testing.assert_close(estimated.var_error2_C, square.var(0) / 40)
    torch.testing.assert_close(estimated.mean_error2_C, x.mean((2, 3)).var(0) / 40)
    assert measure(x[:1]).estimated(1).var_error2_C.isinf().all()


def test_one_sample_has_variance_zero() -> None:
    found = measure(torch.tensor([[5.0, -2.0]])).pixels
    assert found.count == 1
    assert found.var_C.tolist() == [0, 0]


def test_an_empty_part_changes_nothing() -> None:
    some = measure(torch.randn(4, 3, 2, 2))
    nothing = measure(torch.empty(0, 3, 2, 2))
    assert nothing.pixels.count == 0
    assert some.merge(nothing) is not None
    assert torch.equal(some.merge(nothing).pixels.m2_C, some.pixels.m2_C)
    assert torch.equal(nothing.merge(some).pixels.mean_C, some.pixels.mean_C)


def test_dead_channels_are_those_that_never_vary() -> None:
    x = torch.randn(50, 3, 4, 4)
    x[:, 1] = 1234.567
    x[:, 2] = 0
    assert measure(x).pixels.dead_C.tolist() == [False, True, True]


def test_standard_error_comes_from_the_spread_between_images() -> None:
    generator = torch.Generator().manual_seed(0)
    levels = torch.randn(400, 1, 1, 1, generator=generator)
    x = (levels + 0.01 * torch.randn(400, 1, 8, 8, generator=generator)).float()
    found = measure(x)
    expected = x.double().mean((2, 3)).std(0) / 20
    torch.testing.assert_close(found.standard_error(400), expected, rtol=1e-6, atol=0)
    # Pixels of an image say the same thing: 25,600 of them are worth about 400.
    assert found.effective_count(400).item() == pytest.approx(400, rel=0.02)


def test_one_image_has_no_standard_error() -> None:
    found = measure(torch.randn(1, 2, 8, 8))
    assert found.standard_error(1).tolist() == [float("inf")] * 2
    assert found.effective_count(1).tolist() == [0, 0]


def test_of_variance_gives_the_variance_back() -> None:
    var = torch.tensor([0.5, 2.0])
    assert Moments.of_variance(10, torch.zeros(2), var).var_C.tolist() == [0.5, 2.0]


def test_several_rows_of_one_image_are_no_more_knowledge() -> None:
    x = torch.randn(30, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    once, four_times = measure(x), measure(x.repeat(4, 1, 1, 1))
    torch.testing.assert_close(
        once.standard_error(30), four_times.standard_error(30), rtol=0.02, atol=0
    )


LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
SHAPES = pytest.mark.parametrize(
    "shape",
    [
        (5, 64, 96, 96),
        (7, 300, 31, 33),
        (9, 3, 7, 7),
        (2, 8, 400, 400),
        (3, 5, 1, 101),
        (4, 6, 2, 3),
    ],
)


@LAYOUTS
@SHAPES
def test_images_alone_have_the_bits_that_they_have_among_others(layout, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 3
    x = x.contiguous(memory_format=layout)
    together = image_rows(x)
    alone = [image_rows(x[n : n + 1]) for n in range(len(x))]
    assert torch.equal(together.mean_NC, torch.cat([one.mean_NC for one in alone]))
    assert torch.equal(together.m2_NC, torch.cat([one.m2_NC for one in alone]))


@LAYOUTS
@SHAPES
@pytest.mark.parametrize("far", [0, 0.5, 3.9, 4.1, 100, 30_000])
def test_each_image_is_right_wherever_its_channels_lie(layout, shape, far):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    x[0, ::2] += far  # One image, and every other channel of it.
    x = x.contiguous(memory_format=layout)
    true = x.double().flatten(2)
    mean_NC, std_NC = true.mean(2), true.var(2, correction=0).sqrt()
    found = image_rows(x)
    var_NC = found.m2_NC / found.positions
    assert ((found.mean_NC - mean_NC).abs() / std_NC).max() < 2e-6
    torch.testing.assert_close(var_NC, std_NC**2, rtol=2e-6, atol=0)
