from __future__ import annotations

import numpy as np
import pytest
import torch

from adabn_cli.measures.estimates import GainEstimate, estimate_gain
from adabn_cli.measures.scores import Scores


def logits(seed: int, n: int = 40, K: int = 5) -> torch.Tensor:
    return 3 * torch.randn(n, K, generator=torch.Generator().manual_seed(seed))


def scored(values: torch.Tensor, *watched: Scores, size: int = 16) -> Scores:
    scores = Scores(watched)
    for index, batch in enumerate(values.split(size)):
        scores(index, batch)
    return scores


def test_the_gain_is_the_mean_difference_of_the_teachers_probabilities() -> None:
    source, adapted, taught = logits(0), logits(1), logits(2)
    before, after = scored(source), scored(adapted)
    teacher = scored(taught, before, after)
    p = torch.softmax(taught.double(), 1).numpy()
    rows, a, s = np.arange(40), adapted.argmax(1).numpy(), source.argmax(1).numpy()
    found = estimate_gain(teacher, before, after)
    assert found is not None
    assert found.gain == pytest.approx((p[rows, a] - p[rows, s]).mean(), rel=1e-12)
    assert found.agreement_before == (s == p.argmax(1)).mean()
    assert found.agreement_after == (a == p.argmax(1)).mean()
    assert found.images == 40


def test_a_model_that_judges_itself_needs_no_watching() -> None:
    before = scored(logits(0))
    after = scored(logits(1), before)
    found = estimate_gain(after, before, after)
    assert found is not None
    assert found.gain > 0
    assert found.agreement_after == 1


def test_images_without_a_prediction_are_left_out() -> None:
    source, adapted = logits(0), logits(1)
    source[3], adapted[20] = float("nan"), float("nan")
    before = scored(source)
    found = estimate_gain(after := scored(adapted, before), before, after)
    assert found is not None
    assert found.images == 38
    assert np.isfinite(found.gain)


def test_splitting_batches_changes_no_watched_probability() -> None:
    pairs = []
    for size in (40, 7):
        before = scored(logits(0), size=size)
        pairs.append(scored(logits(1), before, size=size).probability_N(before))
    np.testing.assert_array_equal(*pairs)


def test_outputs_that_are_no_class_scores_give_no_estimate() -> None:
    maps = Scores()
    maps(0, torch.zeros(2, 3, 4, 4))
    assert estimate_gain(maps, maps, maps) is None


@pytest.mark.parametrize(
    ("gain", "images", "own", "outcome"),
    [
        (0.02, 50, False, "help"),
        (0.005, 50, False, "cannot tell"),
        (-0.005, 50, False, "cannot tell"),
        (-0.02, 50, False, "harm"),
        (-0.5, 49, False, "cannot tell"),
        (0.09, 50, True, "cannot tell"),
        (0.11, 50, True, "help"),
    ],
)
def test_verdicts_by_gain(gain: float, images: int, own: bool, outcome: str) -> None:
    assert (
        GainEstimate(gain=gain, agreement_before=1.0, agreement_after=1.0, images=images).outcome(
            own=own
        )
        == outcome
    )
