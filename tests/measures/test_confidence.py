from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy
from torchmetrics.functional.classification import multiclass_calibration_error

from adabn_cli.measures.confidence import (
    calibrate,
    confidence_histogram,
    mutual_information,
    summarise,
)


def reference_ece(predicted: np.ndarray, confidence: np.ndarray, labels: np.ndarray) -> float:
    """The loop of Guo et al. 2017: bins (lo, hi], weighted by their share of images."""
    edges, total = np.linspace(0, 1, 16), 0.0
    for low, high in pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            gap = abs((predicted == labels)[inside].mean() - confidence[inside].mean())
            total += gap * inside.mean()
    return total


def digits(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    confidence = np.concatenate([rng.random(n - 3) * 0.9 + 0.1, [1.0, 1 / 3, 0.2]])
    return rng.integers(0, 10, n), confidence, rng.integers(0, 4, n)


@pytest.mark.parametrize("seed", range(5))
def test_calibration_error_agrees_with_a_plain_loop(seed: int) -> None:
    predicted, confidence, labels = digits(500, seed)
    expected = reference_ece(predicted, confidence, labels)
    assert calibrate(predicted, confidence, labels).expected_error == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_calibration_error_is_that_of_torchmetrics(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, K = 300 + 50 * seed, 2 + 3 * seed
    probabilities = softmax(rng.normal(0, 2, (n, K)), axis=1)
    labels = np.where(rng.random(n) < 0.6, probabilities.argmax(1), rng.integers(0, K, n))
    expected = multiclass_calibration_error(
        torch.tensor(probabilities), torch.tensor(labels), num_classes=K, n_bins=15, norm="l1"
    )
    found = calibrate(probabilities.argmax(1), probabilities.max(1), labels).expected_error
    assert found == pytest.approx(float(expected), abs=1e-6)


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.55, 0.55])
    bins = calibrate(np.array([1, 1, 1, 1]), confidence, np.array([1, 0, 1, 1]))
    assert bins.expected_error == pytest.approx(0.5 * 0.45 + 0.5 * 0.45)


def test_calibration_leaves_out_images_without_label_or_prediction() -> None:
    predicted, labels = np.array([0, -1, 0]), np.array([0, 0, -1])
    bins = calibrate(predicted, np.array([0.7, np.nan, 0.7]), labels)
    assert sum(bins.counts) == sum(bins.correct) == 1


def test_confidence_zero_and_just_over_one_have_a_bin() -> None:
    bins = calibrate(np.array([0, 0]), np.array([0.0, 1.00005]), np.array([0, 0]))
    assert (bins.counts[0], bins.counts[-1]) == (1, 1)


def test_no_image_has_no_calibration_error() -> None:
    nothing = np.zeros(0)
    assert calibrate(nothing, nothing, nothing).expected_error is None


def test_summary_leaves_images_without_a_prediction_out_of_the_means() -> None:
    predicted = np.array([2, -1, 0, 2])
    summary = summarise(
        predicted, np.array([0.5, np.nan, 0.7, 0.9]), np.array([1.0, np.nan, 0.4, 0.1]), 4
    )
    assert summary.confidence_mean == pytest.approx(0.7)
    assert summary.entropy_mean == pytest.approx(0.5)
    assert summary.predicted_histogram == (1, 0, 2, 0)
    assert (summary.n, summary.not_finite) == (4, 1)


@pytest.mark.parametrize("predicted", [np.array([], dtype=np.int64), np.array([-1])])
def test_summary_of_nothing_has_no_means(predicted: np.ndarray) -> None:
    nan = np.full(len(predicted), np.nan)
    summary = summarise(predicted, nan, nan, 3)
    assert summary.confidence_mean is None
    assert summary.entropy_mean is None
    assert summary.predicted_histogram == (0, 0, 0)


def test_the_confidence_histogram_counts_every_image_with_a_prediction_once() -> None:
    confidence = np.array([0.0, 0.05, 0.051, 0.5, 0.97, 1.0, 1.00001, np.nan])
    counts = confidence_histogram(confidence)
    assert (len(counts), sum(counts)) == (20, 7)
    assert (counts[0], counts[1], counts[9], counts[19]) == (2, 1, 1, 3)


@pytest.mark.parametrize("seed", range(5))
def test_mutual_information_is_the_mean_divergence_from_the_mean(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities = softmax(rng.normal(0, 3, (40, 5)), axis=1)
    expected = entropy(probabilities, probabilities.mean(0, keepdims=True), axis=1).mean()
    found = mutual_information(probabilities.sum(0), entropy(probabilities, axis=1))
    assert found == pytest.approx(expected, abs=1e-12)


def test_mutual_information_is_zero_for_equal_and_log_k_for_decided_predictions() -> None:
    equal = np.tile([0.2, 0.3, 0.5], (7, 1))
    found = mutual_information(equal.sum(0), entropy(equal, axis=1))
    assert found is not None
    assert 0 <= found < 1e-12
    assert mutual_information(np.full(4, 5.0), np.zeros(20)) == pytest.approx(np.log(4))


def test_mutual_information_leaves_images_without_a_prediction_out() -> None:
    nan = np.nan
    assert mutual_information(np.array([1.0, 1.0]), np.array([0, nan, 0])) == pytest.approx(
        np.log(2)
    )
    assert mutual_information(np.zeros(3), np.array([nan, nan])) is None
