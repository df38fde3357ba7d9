"""The Python API on models that give maps, numbers or boxes."""

from __future__ import annotations

import pytest
import torch
from learned_statistics import learned
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_jaccard_index

import adabn_cli
from adabn_cli.errors import UsageError


def batches(n: int = 3, size: int = 16) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(8, 3, size, size, generator=generator) for _ in range(n)]


def maps(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1)
    return learned(nn.Sequential(*layers))


def test_masks_that_come_with_the_batches_are_scored() -> None:
    net, images = maps().eval(), batches()
    with torch.no_grad():
        masks = [net(batch).argmax(1) for batch in images]
    record = adabn_cli.adapt(net, list(zip(images, masks, strict=True)))
    assert record.task is not None
    figure = record.task.figures[0]
    assert (figure.name, figure.before) == ("mean IoU", 1)
    with torch.no_grad():
        after = torch.cat([net(batch) for batch in images])
    expected = multiclass_jaccard_index(after, torch.cat(masks), 4, average="macro")
    assert figure.after == pytest.approx(float(expected), abs=1e-5)
    assert record.verdict.outcome == "harm"
    assert record.target.labels == "given with the batches"


def test_harm_to_maps_keeps_the_source_where_that_is_asked_for() -> None:
    net, images = maps().eval(), batches()
    state = {key: value.clone() for key, value in net.state_dict().items()}
    with torch.no_grad():
        masks = [net(batch).argmax(1) for batch in images]
    record = adabn_cli.adapt(net, list(zip(images, masks, strict=True)), on_harm="keep")
    assert record.verdict.kept_source
    for key, value in net.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_numbers_that_come_with_the_batches_are_scored() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 2),
    )  # fmt: skip
    truth = [torch.zeros(8, 2), torch.full((8, 2), torch.nan), torch.ones(8, 2)]
    pairs = list(zip(batches(), truth, strict=True))
    record = adabn_cli.adapt(learned(net), pairs, task="regression")
    assert record.task is not None
    assert record.task.n == 16
    with torch.no_grad():
        found = torch.cat([net.eval()(batches()[0]), net(batches()[2]) - 1])
    assert record.task.figures[0].after == pytest.approx(float(found.abs().mean()), rel=1e-5)


def test_masks_of_floats_are_refused() -> None:
    pairs = [(batch, torch.zeros(8, 16, 16)) for batch in batches()]
    with pytest.raises(UsageError, match="class indices"):
        adabn_cli.adapt(maps(), pairs, task="segmentation")


def _suppressed(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Greedy non-maximum suppression, for wheels of torchvision without its operator."""
    from torchvision.ops import box_iou

    order, kept = scores.argsort(descending=True).tolist(), []
    iou = box_iou(boxes, boxes)
    while order:
        best = order.pop(0)
        kept.append(best)
        order = [other for other in order if iou[best, other] <= threshold]
    return torch.tensor(kept, dtype=torch.int64)


def test_a_detector_with_frozen_batchnorm_adapts_and_its_boxes_are_counted(monkeypatch) -> None:
    from torchvision.models.detection import fcos_resnet50_fpn
    from torchvision.ops import boxes as box_ops
    from torchvision.ops import misc

    def batched(boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float) -> Tensor:
        apart = boxes + classes[:, None] * 10_000
        return _suppressed(apart, scores, threshold)

    monkeypatch.setattr(box_ops, "batched_nms", batched)
    torch.manual_seed(0)
    net = fcos_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=64,
        norm_layer=misc.FrozenBatchNorm2d, score_thresh=0.0, detections_per_img=5,
    )  # fmt: skip
    nn.init.constant_(net.head.classification_head.cls_logits.bias, 3.0)
    nn.init.constant_(net.head.regression_head.bbox_ctrness.bias, 3.0)
    images = [batch[:2] for batch in batches(2, 64)]
    boxes = [[{"boxes": torch.zeros(1, 4)}] * 2 for _ in images]
    record = adabn_cli.adapt(learned(net), list(zip(images, boxes, strict=True)), verify=True)
    assert sum(site.adapted for site in record.sites) == 53
    assert record.task is not None
    assert record.task.task == "detection"
    (figure,) = record.task.figures
    assert (figure.name, figure.before) == ("boxes a picture", 5)
    with torch.no_grad():
        found = [out for batch in images for out in net.eval()(batch)]
    counts = [int((out["scores"] >= 0.5).sum()) for out in found]
    assert figure.after == sum(counts) / len(counts)
    assert record.verdict.outcome == "cannot tell"
    assert record.residual is not None
    assert record.residual.max_mean < 1e-4


def plain() -> nn.Module:
    layers = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return learned(nn.Sequential(*layers))


def test_masks_of_another_number_than_the_images_are_refused() -> None:
    masks = torch.zeros(4, 16, 16, dtype=torch.long)
    with pytest.raises(UsageError, match="for 8 images"):
        adabn_cli.adapt(maps(), [(images, masks) for images in batches()])


def test_masks_with_a_channel_are_masks() -> None:
    masks = torch.randint(0, 4, (8, 1, 16, 16), generator=torch.Generator().manual_seed(0))
    given = [(images, masks) for images in batches()]
    record = adabn_cli.adapt(maps(), given, label_offset=0)
    assert record.target.labels == "given with the batches"
    assert record.task is not None
    assert record.task.figures[0].after is not None


def test_several_labels_are_0_or_1() -> None:
    given = [(torch.rand(8, 1, 6, 6), torch.tensor([[0, 1, 2]] * 8))]
    with pytest.raises(UsageError, match="are 0 or 1"):
        adabn_cli.adapt(plain(), given, task="multi-label")


def test_a_sparse_buffer_is_no_reason_to_refuse_a_model() -> None:
    net = plain()
    net.register_buffer("extra", torch.eye(3).to_sparse())
    assert adabn_cli.adapt(net, [torch.rand(8, 1, 6, 6)]).sites[0].adapted
