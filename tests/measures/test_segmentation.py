from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_jaccard_index

from adabn_cli.measures.segmentation import Confusion, confusion, entropy_maps


def maps(seed: int, K: int, n: int = 6) -> tuple[Tensor, Tensor]:
    """Logits that agree with their masks on about half of the pixels; a tenth is ignored."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.randint(0, K, (n, 9, 7), generator=generator)
    logits = torch.randn(n, K, 9, 7, generator=generator)
    logits.scatter_add_(1, masks[:, None], torch.ones(n, 1, 9, 7))
    masks[torch.rand(masks.shape, generator=generator) < 0.1] = 255
    return logits, masks


@pytest.mark.parametrize("K", [2, 3, 8, 19])
@pytest.mark.parametrize("seed", range(3))
def test_iou_and_pixel_accuracy_are_those_of_torchmetrics(seed: int, K: int) -> None:
    logits, masks = maps(seed, K)
    found = confusion(logits, masks)
    each = multiclass_jaccard_index(logits, masks, K, ignore_index=255, average="none")
    np.testing.assert_allclose(found.iou_K, each.numpy(), atol=1e-6)
    mean = multiclass_jaccard_index(logits, masks, K, ignore_index=255, average="macro")
    assert found.mean_iou == pytest.approx(float(mean), abs=1e-6)
    accuracy = multiclass_accuracy(logits, masks, K, ignore_index=255, average="micro")
    assert found.pixel_accuracy == pytest.approx(float(accuracy), abs=1e-6)
    assert found.pixels == int((masks != 255).sum())


def test_a_class_that_is_nowhere_has_no_iou_and_no_part_in_the_mean() -> None:
    masks = torch.tensor([[[0, 0, 1, 1]]])
    logits = torch.zeros(1, 4, 1, 4)
    logits[0, 0, 0, :3] = 1
    logits[0, 3, 0, 3] = 1
    found = confusion(logits, masks)
    np.testing.assert_allclose(found.iou_K, [2 / 3, 0, np.nan, 0])
    assert found.mean_iou == pytest.approx(2 / 9)
    reference = multiclass_jaccard_index(logits, masks, 4, average="macro")
    assert found.mean_iou == pytest.approx(float(reference))


def test_splitting_batches_changes_no_count() -> None:
    logits, masks = maps(0, 5)
    whole, merged = confusion(logits, masks), Confusion.empty(5)
    for part in torch.arange(6).split([1, 3, 2]):
        merged = merged.merge(confusion(logits[part], masks[part]))
    np.testing.assert_array_equal(merged.counts_KK, whole.counts_KK)


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
    assert (found.pixel_accuracy, found.pixels) == (0.25, 4)
    assert found.iou_K.tolist() == [0.25, 0]
    assert entropy_maps(logits).isnan().flatten().tolist() == [False, True, True, False]


def test_masks_of_ignored_pixels_alone_tell_nothing() -> None:
    found = confusion(torch.zeros(1, 3, 2, 2), torch.full((1, 2, 2), 255))
    assert (found.pixels, found.pixel_accuracy, found.mean_iou) == (0, None, None)
    assert Confusion.empty(3).mean_iou is None


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
