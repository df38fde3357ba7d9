from __future__ import annotations

import math

import pytest
import torch

from adabn_cli.measures.residual import Residual, residual, worst
from adabn_cli.moments import Moments


def moments(mean: list[float], var: list[float]) -> Moments:
    return Moments.of_variance(10, torch.tensor(mean), torch.tensor(var))


def test_consistent_statistics_have_no_residual() -> None:
    held = moments([3.0, -1.0], [2.0, 0.0])
    assert residual(held, held, 1e-5) == Residual(0.0, 0.0)


def test_residual_by_hand() -> None:
    result = residual(moments([1.0, 0.0], [3.0, 1.0]), moments([2.0, 0.4], [3.0, 0.0]), 1.0)
    assert result.max_mean == pytest.approx(1 / 2)  # one unit, at a standard deviation of 2
    assert result.max_log_variance == pytest.approx(math.log(2))  # from 1 + 1 to 0 + 1


def test_the_mean_is_measured_in_installed_standard_deviations() -> None:
    assert residual(moments([0.0], [4.0]), moments([1.0], [100.0]), 0.0).max_mean == 0.5


def test_a_dead_channel_agrees_with_itself_also_without_epsilon() -> None:
    held = moments([5.0], [0.0])
    assert residual(held, held, 0.0) == Residual(0.0, 0.0)


def test_a_variance_that_came_out_of_nothing_is_infinitely_wrong_without_epsilon() -> None:
    result = residual(moments([0.0], [0.0]), moments([1.0], [1.0]), 0.0)
    assert result == Residual(math.inf, math.inf)


def test_nothing_measured_is_an_error_not_a_zero() -> None:
    with pytest.raises(ValueError, match="without a sample"):
        residual(moments([0.0], [1.0]), Moments.empty(1), 1e-5)


def test_the_worst_site_is_named() -> None:
    result = worst({"a": Residual(0.3, 0.1), "b": Residual(0.2, 0.9), "c": Residual(0.1, 0.0)})
    assert result is not None
    assert (result.max_mean, result.max_log_variance, result.site) == (0.3, 0.9, "b")


@pytest.mark.parametrize("position", [0, 1])
def test_a_residual_that_is_not_a_number_is_the_worst(position: int) -> None:
    sites = [("fine", Residual(0.5, 0.5))]
    sites.insert(position, ("broken", Residual(math.nan, 0.0)))
    result = worst(dict(sites))
    assert result is not None
    assert result.site == "broken"
    assert math.isnan(result.max_mean)


def test_no_site_has_no_residual() -> None:
    assert worst({}) is None
