from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import entropy
from torchmetrics.functional.classification import multiclass_accuracy

from adabn_cli.measures.accuracy import top_accuracy
from adabn_cli.measures.scores import Scores


def scored(*batches: torch.Tensor | None) -> Scores:
    scores = Scores()
    for index, batch in enumerate(batches):
        scores(index, batch)
    return scores


def test_scores_of_logits_agree_with_scipy_in_float64() -> None:
    logits = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)) * 8
    expected = softmax(logits.double().numpy(), axis=1)
    scores = scored(logits)
    assert scores.predicted_N.dtype == np.int64
    np.testing.assert_array_equal(scores.predicted_N, logits.argmax(1).numpy())
    np.testing.assert_allclose(scores.confidence_N, expected.max(1), rtol=1e-13)
    np.testing.assert_allclose(scores.entropy_N, entropy(expected, axis=1), atol=1e-15)
    np.testing.assert_allclose(scores.probability_sum_K, expected.sum(0), rtol=1e-12)
    assert (scores.n_classes, scores.not_finite, scores.probabilities) == (7, 0, False)


def test_splitting_batches_changes_no_score() -> None:
    logits = torch.randn(23, 4, generator=torch.Generator().manual_seed(1))
    whole, parts = scored(logits), scored(*logits.split([1, 2, 8, 12]))
    np.testing.assert_array_equal(whole.predicted_N, parts.predicted_N)
    np.testing.assert_array_equal(whole.confidence_N, parts.confidence_N)
    np.testing.assert_array_equal(whole.entropy_N, parts.entropy_N)


def test_scores_stand_in_image_order_and_a_repeated_batch_replaces_the_first() -> None:
    scores = Scores()
    for index, label in ((0, 1), (1, 2), (0, 0)):
        scores(index, torch.eye(3)[[label]] * 5)
    assert scores.predicted_N.tolist() == [0, 2]


@pytest.mark.parametrize(
    "outputs",
    [
        None,
        torch.zeros(3),
        torch.zeros(2, 3, 4, 4),
        torch.zeros(2, 0),
        torch.zeros(2, 3, dtype=torch.int64),
        torch.zeros(2, 9),
    ],
    ids=["none", "flat", "maps", "no class", "integers", "another width"],
)
def test_outputs_that_are_no_logits_make_everything_unscorable(
    outputs: torch.Tensor | None,
) -> None:
    scores = scored(torch.randn(2, 3, generator=torch.Generator().manual_seed(0)), outputs)
    scores(2, torch.zeros(2, 3))
    assert not scores.scorable
    assert len(scores.predicted_N) == len(scores.confidence_N) == len(scores.entropy_N) == 0
    assert (scores.n_classes, scores.not_finite, scores.probabilities) == (0, 0, False)


def test_no_batch_is_not_scorable() -> None:
    assert not Scores().scorable


def test_nan_and_infinite_logits_are_counted_and_predict_nothing() -> None:
    bad = torch.tensor([[1.0, torch.nan], [torch.inf, 0.0], [3.0, 1.0], [-torch.inf, 2.0]])
    scores = scored(bad)
    assert scores.predicted_N.tolist() == [-1, -1, 0, 1]
    assert scores.not_finite == 2
    assert np.isnan(scores.confidence_N).tolist() == [True, True, False, False]
    assert np.isnan(scores.entropy_N).tolist() == [True, True, False, False]
    assert scores.entropy_N[3] == 0
    assert scores.probability_sum_K.sum() == pytest.approx(2)


def test_a_model_that_gives_only_nan_has_no_probabilities() -> None:
    scores = scored(torch.full((3, 2), torch.nan))
    assert scores.scorable
    assert not scores.probabilities
    assert scores.not_finite == 3


def test_one_logit_column_is_a_binary_model() -> None:
    logits = torch.tensor([[-800.0], [-1.0], [0.0], [2.0], [40.0]])
    scores = scored(logits)
    assert scores.n_classes == 2
    assert scores.predicted_N.tolist() == [0, 0, 0, 1, 1]
    pair = np.concatenate([np.zeros((5, 1)), logits.double().numpy()], axis=1)
    np.testing.assert_allclose(scores.confidence_N, softmax(pair, axis=1).max(1), rtol=1e-14)
    expected = -(np.exp(log_softmax(pair, axis=1)) * log_softmax(pair, axis=1)).sum(1)
    np.testing.assert_allclose(scores.entropy_N, expected, rtol=1e-12)


def test_one_column_within_zero_and_one_is_read_as_a_probability() -> None:
    scores = scored(torch.tensor([[0.2], [0.9]], dtype=torch.float64))
    assert scores.probabilities
    assert scores.predicted_N.tolist() == [0, 1]
    np.testing.assert_allclose(scores.confidence_N, [0.8, 0.9])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_probabilities_are_not_put_through_softmax_again(dtype: torch.dtype) -> None:
    logits = torch.randn(40, 1000, generator=torch.Generator().manual_seed(2)) * 3
    outputs = logits.softmax(1).to(dtype)
    scores = scored(*outputs.split(16))
    assert scores.probabilities
    np.testing.assert_array_equal(scores.confidence_N, outputs.double().max(1).values.numpy())


def test_one_batch_of_logits_settles_that_none_were_probabilities() -> None:
    lookalike = torch.tensor([[0.25, 0.75]])
    scores = scored(lookalike, torch.tensor([[3.0, -1.0]]), lookalike)
    assert not scores.probabilities
    expected = softmax(lookalike.numpy(), axis=1).max()
    np.testing.assert_allclose(scores.confidence_N[[0, 2]], expected, rtol=1e-7)


def test_rows_of_nan_say_nothing_against_probabilities() -> None:
    scores = scored(torch.tensor([[0.25, 0.75], [torch.nan, torch.nan]]))
    assert scores.probabilities
    assert scores.predicted_N.tolist() == [1, -1]


def test_outputs_that_still_carry_a_gradient_are_scored() -> None:
    assert scored(torch.ones(2, 3, requires_grad=True)).scorable


@pytest.mark.parametrize("K", [3, 5, 6, 40])
def test_the_five_most_probable_classes_give_the_top_five_accuracy_of_torchmetrics(K: int) -> None:
    generator = torch.Generator().manual_seed(K)
    logits = torch.randn(80, K, generator=generator) * 3
    labels = torch.randint(0, K, (80,), generator=generator)
    scores = scored(*logits.split(32))
    width = min(K, 5)
    assert scores.top_N5.shape == (80, width)
    np.testing.assert_array_equal(scores.top_N5[:, 0], scores.predicted_N)
    expected = multiclass_accuracy(logits, labels, num_classes=K, average="micro", top_k=width)
    assert top_accuracy(scores.top_N5, labels.numpy()) == pytest.approx(float(expected))


def test_an_image_without_a_prediction_has_no_probable_classes() -> None:
    logits = torch.tensor([[1.0, torch.nan, 0.0, 2.0, 3.0, 4.0, 5.0], [0, 1, 2, 3, 4, 5, 6]])
    assert scored(logits).top_N5.tolist() == [[-1] * 5, [6, 5, 4, 3, 2]]
    assert Scores().top_N5.shape == (0, 0)
