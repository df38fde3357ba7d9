from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multilabel_average_precision

from adabn_cli.errors import ModelError
from adabn_cli.measures.heads import compared, measured
from adabn_cli.measures.multi_label import LabelScores, average_precisions


def each(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The average precision of every label, each image counted once; a label below 0 is unknown."""
    known = np.where(labels < 0, np.nan, labels.astype(np.float64))
    return average_precisions(scores, known, np.ones((1, len(scores))))[0]


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
    np.testing.assert_allclose(each(scores, labels), expected.reshape(K), atol=1e-6)


def test_average_precision_by_hand() -> None:
    scores = np.array([[0.9], [0.8], [0.7], [0.1]])
    assert each(scores, np.array([[1], [0], [1], [0]])) == pytest.approx(5 / 6)
    assert each(scores, np.array([[0], [0], [0], [1]])) == pytest.approx(1 / 4)


def test_the_scale_of_scores_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 5, (50, 3)), rng.integers(0, 2, (50, 3))
    np.testing.assert_allclose(each(logits, labels), each(1 / (1 + np.exp(-logits)), labels))


def test_unknown_labels_are_left_out_and_a_label_that_none_has_is_no_measure() -> None:
    scores = np.array([[0.9, 0.1], [0.5, 0.2], [0.95, 0.3]])
    found = each(scores, np.array([[1, 0], [0, 0], [-1, 0]]))
    assert found[0] == 1
    assert np.isnan(found[1])


def test_a_score_that_is_not_a_number_ranks_last() -> None:
    found = each(np.array([[np.nan], [0.1], [-5.0]]), np.array([[1], [0], [0]]))
    assert found == pytest.approx(1 / 3)


@pytest.mark.parametrize("seed", range(4))
def test_an_image_of_weight_3_counts_as_three_images(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, labels = rng.random((40, 3)).round(1), (rng.random((40, 3)) < 0.4).astype(np.float64)
    weights = rng.integers(0, 4, (5, 40))
    found = average_precisions(scores, labels, weights.astype(np.float64))
    for row, weight in zip(found, weights, strict=True):
        rows = np.repeat(np.arange(40), weight)
        np.testing.assert_allclose(row, each(scores[rows], labels[rows]), atol=1e-12)


def head(logits: np.ndarray, truth: np.ndarray | None) -> LabelScores:
    filled = LabelScores(truth)
    for index, rows in enumerate(np.array_split(logits, 3)):
        filled(index, torch.tensor(rows))
    return filled


def test_the_mean_leaves_out_labels_that_no_image_has() -> None:
    rng = np.random.default_rng(0)
    logits, truth = rng.normal(size=(30, 4)), (rng.random((30, 4)) < 0.5).astype(np.float64)
    truth[:, 2] = 0
    figure = measured(head(logits, truth))["mean_average_precision"]
    assert figure == pytest.approx(float(np.mean(each(logits, truth)[[0, 1, 3]])), abs=1e-7)
    counts, values = head(logits, truth).by_class()
    assert counts.tolist() == truth.sum(0).tolist()
    assert np.isnan(values[2])


def test_the_interval_of_a_difference_is_paired() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random((200, 2)) < 0.5).astype(np.float64)
    logits = truth + rng.normal(size=(200, 2))
    better = logits + 0.3 * (2 * truth - 1)
    (same,) = compared(head(logits, truth), head(logits, truth))
    assert same.interval == (0, 0)
    (found,) = compared(head(logits, truth), head(better, truth))
    assert found.interval[0] > 0


def test_signals_without_labels() -> None:
    logits = np.array([[0.0, 50.0], [-50.0, 50.0]])
    found = head(logits, None).survey()
    np.testing.assert_allclose(found.confidence_N, [0.75, 1])
    np.testing.assert_allclose(found.entropy_N, [np.log(2) / 2, 0], atol=1e-12)
    assert found.predicted_K.tolist() == [0, 2]
    assert measured(head(logits, None)) == {}


def test_maps_are_no_rows_of_labels() -> None:
    with pytest.raises(ModelError, match="row of labels"):
        LabelScores()(0, torch.zeros(1, 2, 3, 3))


def test_shapes_that_differ_are_an_error() -> None:
    with pytest.raises(ValueError, match="for labels"):
        average_precisions(np.zeros((2, 3)), np.zeros((3, 2)), np.ones((1, 2)))


def test_scores_that_are_all_nan_are_tied() -> None:
    nothing = np.full((2, 1), np.nan)
    for labels in (np.array([[1], [0]]), np.array([[0], [1]])):
        assert each(nothing, labels)[0] == 0.5


def test_probabilities_are_not_squashed_again() -> None:
    found = head(np.array([[0.99, 0.01], [0.5, 0.2], [0.1, 0.9]]), None)
    np.testing.assert_allclose(found.survey().confidence_N, [0.99, 0.65, 0.9], atol=1e-6)
    assert found.survey().predicted_K.tolist() == [1, 1]
