from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional import mean_absolute_error, mean_squared_error

from adabn_cli.errors import ModelError
from adabn_cli.measures.heads import compared, measured
from adabn_cli.measures.regression import Values


def head(values: np.ndarray, truth: np.ndarray | None) -> Values:
    filled = Values(truth)
    for index, rows in enumerate(np.array_split(values, 3)):
        filled(index, torch.tensor(rows))
    return filled


@pytest.mark.parametrize("seed", range(4))
def test_errors_are_those_of_torchmetrics(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, truth = rng.normal(0, 9, (80, 2)), rng.normal(0, 9, (80, 2))
    found = measured(head(predicted, truth))
    a, b = torch.tensor(predicted).flatten(), torch.tensor(truth).flatten()
    assert found["mean_absolute_error"] == pytest.approx(float(mean_absolute_error(a, b)))
    expected = float(mean_squared_error(a, b, squared=False))
    assert found["root_mean_square_error"] == pytest.approx(expected)


def test_unknown_values_are_left_out_and_missing_predictions_are_not() -> None:
    truth = np.array([[np.nan], [4.0], [1.0]])
    known = measured(head(np.array([[1.0], [2.0], [1.0]]), truth))
    assert known == {"mean_absolute_error": 1, "root_mean_square_error": pytest.approx(2**0.5)}
    broken = head(np.array([[1.0], [np.nan], [1.0]]), truth)
    assert measured(broken) == {"mean_absolute_error": None, "root_mean_square_error": None}
    assert broken.survey().not_finite == 1
    nothing = head(np.ones((3, 1)), np.full((3, 1), np.nan))
    assert set(measured(nothing).values()) == {None}


def test_one_number_an_image_may_come_without_a_column() -> None:
    filled = Values(np.array([[1.0], [2.0]]))
    filled(0, torch.tensor([1.0, 4.0]))
    assert measured(filled)["mean_absolute_error"] == 1
    counts, errors = filled.by_class()
    assert (counts.tolist(), errors.tolist()) == ([2], [1])


def test_fewer_errors_are_an_interval_below_zero() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(100, 1))
    far, near = truth + rng.normal(size=(100, 1)), truth + 0.1 * rng.normal(size=(100, 1))
    absolute, _ = compared(head(far, truth), head(near, truth))
    difference = absolute.after - absolute.before
    assert absolute.interval[0] < difference < absolute.interval[1] < 0
    # The bootstrap of a mean is its standard error, by which half the interval is 1.96 wide.
    change = np.abs(near - truth) - np.abs(far - truth)
    width = (absolute.interval[1] - absolute.interval[0]) / 2
    assert width == pytest.approx(1.96 * change.std() / 10, rel=0.1)


def test_maps_are_no_rows_of_numbers() -> None:
    with pytest.raises(ModelError, match="row of numbers"):
        Values()(0, torch.zeros(1, 2, 3, 3))
