"""When predictions speak for another reading of the labels, and when they only seem to."""

from __future__ import annotations

import numpy as np
import pytest

from adabn_cli.measures.label_agreement import above_chance, far_better


def drawn(share: float, n: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels from 1 on, and predictions of which that share are one lower, the others random."""
    generator = np.random.default_rng(seed)
    labels_M = generator.integers(1, classes, n)
    random_M = generator.integers(0, classes, n)
    return np.where(generator.random(n) < share, labels_M - 1, random_M), labels_M


def test_agreement_above_chance_is_that_of_a_permutation_test():
    predicted_M, labels_M = drawn(0.3, 40, 5, seed=0)
    generator = np.random.default_rng(1)
    shuffled = [(predicted_M == generator.permutation(labels_M - 1)).sum() for _ in range(20000)]
    expected = ((predicted_M == labels_M - 1).sum() - np.mean(shuffled)) / np.std(shuffled)
    assert above_chance(predicted_M, labels_M - 1) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(("share", "n", "classes"), [(1.0, 24, 4), (0.6, 64, 4), (0.25, 128, 1000)])
def test_what_agrees_one_lower_is_far_better(share, n, classes):
    for seed in range(50):
        predicted_M, labels_M = drawn(share, n, classes, seed)
        assert far_better(predicted_M, labels_M, labels_M - 1)
        assert not far_better(predicted_M, labels_M - 1, labels_M)


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_a_model_that_guesses_speaks_for_nothing(classes):
    for seed in range(500):
        predicted_M, labels_M = drawn(0.0, 128, classes, seed)
        assert not far_better(predicted_M, labels_M, labels_M - 1)


def test_a_model_that_says_one_class_of_everything_speaks_for_nothing():
    labels_M = np.repeat([1, 2], [100, 20])
    assert not far_better(np.zeros(120, np.int64), labels_M, labels_M - 1)


def test_one_class_alone_speaks_for_nothing():
    assert not far_better(np.zeros(120, np.int64), np.ones(120, np.int64), np.zeros(120, np.int64))


def test_a_weak_model_of_right_labels_is_not_doubted():
    generator = np.random.default_rng(0)
    for _ in range(200):
        labels_M = generator.integers(1, 10, 128)
        near_M = labels_M + generator.integers(-1, 2, 128)  # Right as often as one beside.
        assert not far_better(near_M.clip(0, 9), labels_M, labels_M - 1)


@pytest.mark.parametrize("n", [0, 1, 9])
def test_a_few_pictures_do_not_tell(n):
    labels_M = np.arange(n) % 3 + 1
    assert not far_better(labels_M - 1, labels_M, labels_M - 1)
