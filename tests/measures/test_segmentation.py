from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_jaccard_index

from adabn_cli.errors import ModelError
from adabn_cli.measures.heads import compared, measured
from adabn_cli.measures.segmentation import Maps, confusion, entropy_maps


def maps(seed: int, K: int, n: int = 6) -> tuple[Tensor, Tensor]:
    """Logits that agree with their masks on about half of the pixels; a tenth is ignored."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.randint(0, K, (n, 9, 7), generator=generator)
    logits = torch.randn(n, K, 9, 7, generator=generator)
    logits.scatter_add_(1, masks[:, None], torch.ones(n, 1, 9, 7))
    masks[torch.rand(masks.shape, generator=generator) < 0.1] = 255
    return logits, masks


def head(logits: Tensor, masks: Tensor | None) -> Maps:
    parts = torch.arange(len(logits)).split(2)
    filled = Maps(None if masks is None else lambda index: masks[parts[index]])
    for index, rows in enumerate(parts):
        filled(index, logits[rows])
    return filled


@pytest.mark.parametrize("K", [2, 3, 8, 19])
@pytest.mark.parametrize("seed", range(3))
def test_iou_and_pixel_accuracy_are_those_of_torchmetrics(seed: int, K: int) -> None:
    logits, masks = maps(seed, K)
    found = measured(head(logits, masks))
    shown_K, iou_K = head(logits, masks).by_class()
    assert shown_K.tolist() == [int((masks == k).flatten(1).any(1).sum()) for k in range(K)]
    each = multiclass_jaccard_index(logits, masks, K, ignore_index=255, average="none")
    np.testing.assert_allclose(iou_K, each.numpy(), atol=1e-6)
    mean = multiclass_jaccard_index(logits, masks, K, ignore_index=255, average="macro")
    assert found["mean_iou"] == pytest.approx(float(mean), abs=1e-6)
    accuracy = multiclass_accuracy(logits, masks, K, ignore_index=255, average="micro")
    assert found["pixel_accuracy"] == pytest.approx(float(accuracy), abs=1e-6)


def test_a_class_that_is_nowhere_has_no_iou_and_no_part_in_the_mean() -> None:
    masks = torch.tensor([[[0, 0, 1, 1]]])
    logits = torch.zeros(1, 4, 1, 4)
    logits[0, 0, 0, :3] = 1
    logits[0, 3, 0, 3] = 1
    found = head(logits, masks)
    np.testing.assert_allclose(found.by_class()[1], [2 / 3, 0, np.nan, 0])
    assert measured(found)["mean_iou"] == pytest.approx(2 / 9)
    reference = multiclass_jaccard_index(logits, masks, 4, average="macro")
    assert measured(found)["mean_iou"] == pytest.approx(float(reference))


def test_splitting_batches_changes_no_figure() -> None:
    logits, masks = maps(0, 5)
    whole = Maps(lambda _: masks)
    whole(0, logits)
    assert measured(whole) == measured(head(logits, masks))


def test_one_channel_decides_between_two_classes() -> None:
    logits, masks = maps(1, 2)
    single = logits[:, 1:] - logits[:, :1]
    np.testing.assert_array_equal(
        confusion(single, masks).counts_KK, confusion(logits, masks).counts_KK
    )
    torch.testing.assert_close(entropy_maps(single), entropy_maps(logits), atol=1e-6, rtol=0)


def test_pixels_without_a_prediction_are_wrong() -> None:
    logits = torch.zeros(1, 2, 1, 4)
    logits[0, 0] = torch.tensor([1.0, torch.nan, torch.inf, -torch.inf])
    found = confusion(logits, torch.zeros(1, 1, 4, dtype=torch.uint8))
    assert found.counts_KK.tolist() == [[1, 1], [0, 0]]
    assert found.unpredicted_K.tolist() == [2, 0]
    scored = head(logits, torch.zeros(1, 1, 4, dtype=torch.uint8))
    assert measured(scored)["pixel_accuracy"] == 0.25
    assert scored.by_class()[1].tolist() == [0.25, 0]
    assert entropy_maps(logits).isnan().flatten().tolist() == [False, True, True, False]


def test_masks_of_ignored_pixels_alone_tell_nothing() -> None:
    found = measured(head(torch.zeros(1, 3, 2, 2), torch.full((1, 2, 2), 255)))
    assert found == {"mean_iou": None, "pixel_accuracy": None}


@pytest.mark.parametrize(
    ("masks", "told"),
    [
        (torch.zeros(1, 2, 3), "do not fit"),
        (torch.full((1, 2, 2), 3), "labels 3 to 3 with 3 classes"),
        (torch.full((1, 2, 2), -1), "labels -1 to -1"),
    ],
)
def test_masks_that_do_not_fit_are_an_error(masks: Tensor, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        confusion(torch.zeros(1, 3, 2, 2), masks)


def test_entropy_maps_agree_with_scipy() -> None:
    logits, _ = maps(2, 6)
    expected = entropy(logits.double().softmax(1).numpy(), axis=1)
    np.testing.assert_allclose(entropy_maps(logits * 1).numpy(), expected, atol=1e-12)
    sure = torch.tensor([800.0, -800.0, 0.0]).view(1, 3, 1, 1)
    assert entropy_maps(sure).item() == 0


def test_probabilities_are_not_taken_for_logits() -> None:
    logits, masks = maps(3, 4)
    by_logits, by_shares = head(logits, masks), head(logits.softmax(1), masks)
    assert measured(by_logits) == measured(by_shares)
    for a, b in zip(
        (by_logits.survey().confidence_N, by_logits.survey().entropy_N),
        (by_shares.survey().confidence_N, by_shares.survey().entropy_N),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)
    single = (logits[:, 1:2] - logits[:, :1]).sigmoid()
    two = masks.clamp(max=1)
    assert measured(head(single, two)) == measured(head(single.logit(), two))


def test_small_maps_are_brought_to_their_masks_size() -> None:
    logits, masks = maps(4, 3)
    large = torch.nn.functional.interpolate(logits, size=(18, 14), mode="bilinear")
    twice = masks.repeat_interleave(2, 1).repeat_interleave(2, 2)
    expected = measured(head(large, twice))["mean_iou"]
    assert measured(head(logits, twice))["mean_iou"] == pytest.approx(expected)


def test_an_image_of_weight_2_counts_as_two_images() -> None:
    logits, masks = maps(5, 4)
    rows = torch.tensor([0, 0, 2, 5, 5])
    weights = np.array([[2.0, 0, 1, 0, 0, 2]])
    found = head(logits, masks).figures(weights)
    expected = measured(head(logits[rows], masks[rows]))
    assert found["mean_iou"][0] == pytest.approx(expected["mean_iou"])
    assert found["pixel_accuracy"][0] == pytest.approx(expected["pixel_accuracy"])


def test_the_same_maps_differ_by_nothing() -> None:
    logits, masks = maps(6, 3)
    for figure in compared(head(logits, masks), head(logits, masks)):
        assert figure.interval == (0, 0)


def test_a_map_of_nan_is_counted_and_takes_no_part_in_the_means() -> None:
    logits, _ = maps(7, 3)
    logits[1] = torch.nan
    found = head(logits, None).survey()
    assert found.not_finite == 1
    assert np.isnan(found.confidence_N).tolist() == [False, True, False, False, False, False]
    assert found.predicted_K.sum() == 5 * 9 * 7


def test_class_scores_are_no_maps() -> None:
    with pytest.raises(ModelError, match="no maps"):
        Maps()(0, torch.zeros(1, 3))


def test_saturated_probabilities_are_right_at_any_size() -> None:
    sure = torch.sigmoid(torch.full((6, 1, 4, 4), 30.0))
    assert measured(head(sure, torch.ones(6, 4, 4, dtype=torch.uint8)))["pixel_accuracy"] == 1
    one_hot = torch.zeros(6, 2, 4, 4)
    one_hot[:, 1] = 1
    found = head(one_hot, torch.ones(6, 8, 8, dtype=torch.uint8))
    assert measured(found)["pixel_accuracy"] == 1
    assert found.survey().not_finite == 0
