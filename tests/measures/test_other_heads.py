from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional import mean_absolute_error, mean_squared_error
from torchmetrics.functional.classification import multilabel_average_precision

from adabn_cli.measures.other_heads import Errors, average_precisions


@pytest.mark.parametrize("seed", range(6))
def test_average_precisions_are_those_of_torchmetrics(seed: int) -> None:
    rng = np.random.default_rng(seed)
    N, K = 60 + 20 * seed, 2 + seed
    labels = (rng.random((N, K)) < 0.3).astype(np.int64)
    labels[0] = 1
    # Rounded, so that many are tied.
    scores = np.clip(rng.random((N, K)) * 0.7 + 0.3 * labels, 0, 1).round(1 + seed % 3)
    expected = multilabel_average_precision(
        torch.tensor(scores), torch.tensor(labels), num_labels=K, average="none"
    )
    np.testing.assert_allclose(average_precisions(scores, labels), expected.reshape(K), atol=1e-6)


def test_average_precision_by_hand() -> None:
    scores = np.array([[0.9], [0.8], [0.7], [0.1]])
    assert average_precisions(scores, np.array([[1], [0], [1], [0]])) == pytest.approx(5 / 6)
    assert average_precisions(scores, np.array([[0], [0], [0], [1]])) == pytest.approx(1 / 4)


def test_the_scale_of_scores_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 5, (50, 3)), rng.integers(0, 2, (50, 3))
    np.testing.assert_allclose(
        average_precisions(logits, labels), average_precisions(1 / (1 + np.exp(-logits)), labels)
    )


def test_unknown_labels_are_left_out_and_a_label_that_none_has_is_no_measure() -> None:
    scores = np.array([[0.9, 0.1], [0.5, 0.2], [0.95, 0.3]])
    found = average_precisions(scores, np.array([[1, 0], [0, 0], [-1, 0]]))
    assert found[0] == 1
    assert np.isnan(found[1])


def test_a_score_that_is_not_a_number_ranks_last() -> None:
    found = average_precisions(np.array([[np.nan], [0.1], [-5.0]]), np.array([[1], [0], [0]]))
    assert found == pytest.approx(1 / 3)


@pytest.mark.parametrize("seed", range(4))
def test_errors_are_those_of_torchmetrics_in_parts_or_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, truth = rng.normal(0, 9, (80, 2)), rng.normal(0, 9, (80, 2))
    merged = Errors(0, 0.0, 0.0)
    for part in np.split(np.arange(80), [1, 30, 30]):
        merged = merged.merge(Errors.of(predicted[part], truth[part]))
    a, b = torch.tensor(predicted).flatten(), torch.tensor(truth).flatten()
    assert merged.mean_absolute == pytest.approx(float(mean_absolute_error(a, b)))
    expected = float(mean_squared_error(a, b, squared=False))
    assert merged.root_mean_square == pytest.approx(expected)
    assert merged.n == 160


def test_unknown_values_are_left_out_and_missing_predictions_are_not() -> None:
    errors = Errors.of(np.array([1.0, 2.0]), np.array([np.nan, 4.0]))
    assert (errors.n, errors.mean_absolute, errors.root_mean_square) == (1, 2, 2)
    broken = Errors.of(np.array([np.nan, 2.0]), np.array([1.0, 4.0]))
    assert broken.mean_absolute is not None
    assert np.isnan(broken.mean_absolute)
    nothing = Errors.of(np.array([1.0]), np.array([np.nan]))
    assert (nothing.mean_absolute, nothing.root_mean_square) == (None, None)


def test_shapes_that_differ_are_an_error() -> None:
    with pytest.raises(ValueError, match="for labels"):
        average_precisions(np.zeros((2, 3)), np.zeros((3, 2), np.int64))
    with pytest.raises(ValueError, match="for values"):
        Errors.of(np.zeros(3), np.zeros(1))
