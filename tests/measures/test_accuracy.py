from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from adabn_cli.measures.accuracy import (
    accuracy,
    agreement,
    compare,
    holm,
    mcnemar_p,
    paired_interval,
    per_class,
    top_accuracy,
    wilson_interval,
)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


@given(st.integers(1, 5000), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_wilson_interval_is_that_of_statsmodels(n: int, share: float, confidence: float) -> None:
    successes = round(share * n)
    expected = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
    assert wilson_interval(successes, n, confidence) == pytest.approx(expected, abs=1e-12)


def test_wilson_interval_of_newcombe_1998_table_one() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), Table I, method 3.
    published = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0000, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (successes, n), expected in published.items():
        assert wilson_interval(successes, n) == pytest.approx(expected, abs=5e-5)


def test_wilson_interval_reaches_its_ends_exactly() -> None:
    assert wilson_interval(0, 7)[0] == 0
    assert wilson_interval(7, 7)[1] == 1
    assert wilson_interval(0, 0) == (0, 1)


def test_accuracy_ignores_images_without_a_label() -> None:
    result = accuracy(ints(0, 1, 2, 2), ints(0, 1, 0, -1))
    assert result is not None
    assert (result.value, result.correct, result.n) == (2 / 3, 2, 3)
    assert result.interval == wilson_interval(2, 3)


def test_without_any_label_there_is_no_accuracy_and_no_change() -> None:
    nothing = ints(-1, -1)
    assert accuracy(ints(0, -1), nothing) is None
    assert compare(ints(0, -1), ints(0, 1), nothing) is None
    assert accuracy(ints(), ints()) is None


def test_an_image_without_a_prediction_is_wrong() -> None:
    result = accuracy(ints(-1, 1), ints(0, 1))
    assert result is not None
    assert result.value == 0.5


@given(st.integers(0, 200), st.integers(0, 200))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_mcnemar_p_is_the_exact_one_of_statsmodels(fixed: int, broken: int) -> None:
    expected = 1.0
    if fixed + broken:
        expected = mcnemar([[10, fixed], [broken, 10]], exact=True).pvalue
    assert mcnemar_p(fixed, broken) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_p_by_hand() -> None:
    assert mcnemar_p(0, 0) == 1
    assert mcnemar_p(5, 0) == pytest.approx(2 / 2**5)
    assert mcnemar_p(1, 6) == pytest.approx(2 * (1 + 7) / 2**7)


def test_compare_counts_fixed_and_broken_over_the_labelled_images() -> None:
    labels = ints(0, 0, 1, 1, 2, -1)
    change = compare(ints(0, 1, 1, 0, 0, 0), ints(0, 0, 0, 1, 1, 2), labels)
    assert change is not None
    assert (change.fixed, change.broken, change.n) == (2, 1, 5)
    assert change.accuracy == pytest.approx(1 / 5)
    assert change.mcnemar_p == 1
    assert change.interval == paired_interval(2, 1, 5)


def test_paired_interval_by_hand() -> None:
    # Bonett, Price 2012, eq. for the adjusted Wald interval: one image more in both cells.
    up, down, n = 9 / 42, 2 / 42, 42
    half = 1.959964 * math.sqrt((up + down - (up - down) ** 2) / n)
    assert paired_interval(8, 1, 40) == pytest.approx((up - down - half, up - down + half))


@given(st.integers(0, 80), st.integers(0, 80), st.integers(1, 400))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_paired_interval_is_that_of_a_mean_difference_by_statsmodels(
    fixed: int, broken: int, unchanged: int
) -> None:
    # With the one image more in both cells it is the mean of +1, -1 and 0 with White's error.
    differences = np.repeat([1.0, -1.0, 0.0], [fixed + 1, broken + 1, unchanged])
    fit = OLS(differences, np.ones(len(differences))).fit(cov_type="HC0")
    expected = fit.conf_int(0.05)[0].clip(-1, 1).tolist()
    found = paired_interval(fixed, broken, fixed + broken + unchanged)
    assert found == pytest.approx(expected, abs=1e-9)


def test_paired_interval_has_a_width_where_nothing_changed_and_stays_within_one() -> None:
    low, high = paired_interval(0, 0, 100)
    assert low == pytest.approx(-high)
    assert 0.01 < high < 0.05
    assert paired_interval(1, 0, 1) >= (-1, 0)
    assert paired_interval(1, 0, 1)[1] <= 1
    assert paired_interval(0, 3, 3)[0] >= -1


def test_swapping_before_and_after_mirrors_the_change() -> None:
    low, high = paired_interval(30, 4, 200)
    assert paired_interval(4, 30, 200) == pytest.approx((-high, -low))


@pytest.mark.parametrize("n", [20, 50, 200, 1797])
@pytest.mark.parametrize(
    ("p_fixed", "p_broken"),
    [(0.05, 0.05), (0.3, 0.02), (0.1, 0.0), (0.01, 0.2), (0.45, 0.45), (0.5, 0.01), (0.02, 0.01)],
)
def test_paired_interval_covers_the_true_difference(
    n: int, p_fixed: float, p_broken: float
) -> None:
    rng = np.random.default_rng(0)
    draws = rng.multinomial(n, [p_fixed, p_broken, 1 - p_fixed - p_broken], size=4000)
    cells, times = np.unique(draws[:, :2], axis=0, return_counts=True)
    covered = 0
    for (fixed, broken), many in zip(cells.tolist(), times.tolist(), strict=True):
        low, high = paired_interval(fixed, broken, n)
        covered += many * (low <= p_fixed - p_broken <= high)
    assert covered / len(draws) >= 0.93


def test_agreement_is_the_share_of_equal_predictions() -> None:
    assert agreement(ints(0, 1, 2, 3), ints(0, 1, 2, 0)) == 0.75
    assert agreement(ints(), ints()) is None


def test_images_without_a_prediction_agree_with_nothing() -> None:
    assert agreement(ints(-1, 1), ints(-1, 1)) == 0.5


@pytest.mark.parametrize("n", [1, 2, 5, 30])
def test_holm_is_that_of_statsmodels(n: int) -> None:
    p_values = (np.random.default_rng(n).random(n) ** 4).round(2).tolist()  # with ties
    expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(expected.tolist(), abs=1e-12)


def test_holm_of_nothing_is_nothing() -> None:
    assert holm([]) == []


def test_per_class_agrees_with_taking_each_class_alone() -> None:
    rng = np.random.default_rng(3)
    n_classes = 6
    labels = rng.choice(np.arange(-1, n_classes - 1), size=400, p=[0.1, 0.4, 0.3, 0.14, 0.06, 0])
    before, after = rng.integers(-1, n_classes, 400), rng.integers(0, n_classes, 400)
    after = np.where((labels == 0) & (rng.random(400) < 0.5), 0, after)
    rows = per_class(before, after, labels, n_classes)
    tested = {}
    for k, row in enumerate(rows):
        alone = compare(before[labels == k], after[labels == k], labels[labels == k])
        assert row.label == k
        if alone is None:
            assert (row.n, row.before, row.after, row.fixed) == (0, None, None, 0)
            continue
        assert (row.n, row.fixed, row.broken) == (alone.n, alone.fixed, alone.broken)
        assert row.before == pytest.approx(np.mean(before[labels == k] == k))
        assert row.after == pytest.approx(np.mean(after[labels == k] == k))
        if alone.n >= 30:
            tested[k] = alone.mcnemar_p
    assert 2 <= len(tested) < n_classes - 1
    corrected = multipletests(list(tested.values()), method="holm")[1]
    assert [rows[k].mcnemar_p for k in tested] == pytest.approx(corrected.tolist())
    assert all(row.mcnemar_p is None for row in rows if row.label not in tested)


def test_a_label_beyond_the_classes_is_an_error() -> None:
    with pytest.raises(ValueError, match="label 3 with 3 classes"):
        per_class(ints(0), ints(0), ints(3), 3)


def test_arrays_of_different_length_are_an_error() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        accuracy(ints(0), ints(0, 0, 0))
    with pytest.raises(ValueError, match="differ in length"):
        agreement(ints(0), ints(0, 0, 0))


def test_top_accuracy_is_over_labelled_images_alone() -> None:
    top = np.array([[0, 1], [2, 1], [-1, -1], [3, 0]], dtype=np.int32)
    assert top_accuracy(top, ints(1, 0, 0, -1)) == pytest.approx(1 / 3)
    assert top_accuracy(top, ints(-1, -1, -1, -1)) is None
    with pytest.raises(ValueError, match="4 rows of classes for 1 labels"):
        top_accuracy(top, ints(0))
