from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adabn_cli.measures.estimates import (
    average_thresholded_confidence,
    difference_of_confidences,
)

probabilities = st.floats(0.1, 1)
images = st.lists(st.tuples(probabilities, st.booleans()), min_size=1, max_size=60)
targets = st.lists(probabilities, min_size=1, max_size=60)


def columns(source: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    confidences, right = zip(*source, strict=True)
    return np.array(confidences), np.array(right)


def reference_atc(source: np.ndarray, right: np.ndarray, target: np.ndarray) -> float:
    """The largest threshold among the scores, and beyond them, that leaves too few under it."""
    thresholds = sorted({*source.tolist(), 2.0})
    fitting = [t for t in thresholds if np.mean(source < t) <= np.mean(~right) + 1e-12]
    return float(np.mean(target >= max(fitting)))


@given(images, targets)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_atc_puts_the_sources_error_under_its_threshold(
    source: list[tuple[float, bool]], target: list[float]
) -> None:
    confidences, right = columns(source)
    found = average_thresholded_confidence(confidences, right, np.array(target))
    assert found == pytest.approx(reference_atc(confidences, right, np.array(target)))


@given(images, targets)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_doc_is_source_accuracy_plus_the_change_in_confidence(
    source: list[tuple[float, bool]], target: list[float]
) -> None:
    confidences, right = columns(source)
    expected = sum(right) / len(right) + sum(target) / len(target) - sum(confidences) / len(right)
    found = difference_of_confidences(confidences, right, np.array(target))
    assert found == pytest.approx(min(max(expected, 0), 1), abs=1e-12)


@given(images)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_both_give_the_sources_own_accuracy_back(source: list[tuple[float, bool]]) -> None:
    confidences, right = columns(source)
    accuracy = pytest.approx(right.mean(), abs=1e-12)
    assert difference_of_confidences(confidences, right, confidences) == accuracy
    if len(set(confidences.tolist())) == len(confidences):
        assert average_thresholded_confidence(confidences, right, confidences) == accuracy


def test_calibrated_confidences_give_the_accuracy_of_a_harder_target() -> None:
    rng = np.random.default_rng(0)
    source, target = rng.uniform(0.5, 1, 20_000), rng.uniform(0.2, 1, 20_000)
    right = rng.random(20_000) < source
    accuracy = pytest.approx((rng.random(20_000) < target).mean(), abs=0.01)
    assert difference_of_confidences(source, right, target) == accuracy


def test_a_model_that_is_always_wrong_or_always_right_stays_so() -> None:
    scores = np.array([0.4, 0.6, 0.9])
    assert average_thresholded_confidence(scores, np.zeros(3, bool), np.array([1.0])) == 0
    assert average_thresholded_confidence(scores, np.ones(3, bool), np.array([0.5, 0.3])) == 0.5


def test_images_without_a_prediction_count_as_wrong() -> None:
    source, right = np.array([np.nan, 0.8, 0.9]), np.array([False, True, True])
    target = np.array([np.nan, 0.85])
    assert average_thresholded_confidence(source, right, target) == 0.5
    expected = 2 / 3 + 0.85 / 2 - 1.7 / 3
    assert difference_of_confidences(source, right, target) == pytest.approx(expected)


def test_without_source_or_target_there_is_no_estimate() -> None:
    nothing, one = np.array([]), np.array([0.5])
    for estimate in (average_thresholded_confidence, difference_of_confidences):
        assert estimate(nothing, nothing.astype(bool), one) is None
        assert estimate(one, np.array([True]), nothing) is None
