"""Models that give maps: mean IoU and pixel accuracy from one confusion matrix, and entropy maps.

Knows no picture. Shapes: n images of a batch, K classes, [H, W] pixels, L pixels with a label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from adabn_cli.errors import ModelError
from adabn_cli.measures.heads import Surveyed, Task, ratio
from adabn_cli.model import IGNORED, Outputs


@dataclass(frozen=True, eq=False)
class Confusion:
    """Labelled pixels by class: rows what they are, columns what was predicted.

    `unpredicted_K` are those whose logits are not finite: wrong, and of no predicted class.
    """

    counts_KK: NDArray[np.int64]
    unpredicted_K: NDArray[np.int64]

    @classmethod
    def empty(cls, classes: int) -> Confusion:
        """The matrix of no pixel."""
        return cls(np.zeros((classes, classes), np.int64), np.zeros(classes, np.int64))

    @property
    def labelled_K(self) -> NDArray[np.int64]:
        """Pixels that are of each class."""
        labelled_K: NDArray[np.int64] = self.counts_KK.sum(1) + self.unpredicted_K
        return labelled_K

    @property
    def union_K(self) -> NDArray[np.int64]:
        """Pixels that are of each class, or were predicted to be."""
        union_K: NDArray[np.int64] = (
            self.labelled_K + self.counts_KK.sum(0) - np.diag(self.counts_KK)
        )
        return union_K


def confusion(logits_nKHW: Tensor, masks_nHW: Tensor, *, ignored: int = IGNORED) -> Confusion:
    """The matrix of one batch; maps of one channel decide between two classes.

    Masks hold class indices; pixels of `ignored` are left out. Raises ValueError where a mask does
    not fit the maps, in size or with a class that there is none of.
    """
    if logits_nKHW.dim() != 4 or masks_nHW.shape != (len(logits_nKHW), *logits_nKHW.shape[2:]):
        raise ValueError(
            f"masks {tuple(masks_nHW.shape)} do not fit maps {tuple(logits_nKHW.shape)}"
        )
    logits_nKHW, masks_nHW = _two_sided(logits_nKHW.detach()), masks_nHW.to(logits_nKHW.device)
    K, known_nHW = logits_nKHW.shape[1], masks_nHW != ignored
    labels_L = masks_nHW[known_nHW].long()
    if len(labels_L) and not 0 <= int(labels_L.min()) <= int(labels_L.max()) < K:
        raise ValueError(f"labels {int(labels_L.min())} to {int(labels_L.max())} with {K} classes")
    predicted_L = logits_nKHW.argmax(1)[known_nHW]
    # As softmax has it: -inf is a probability of 0, NaN and +inf are none.
    broken_nHW = logits_nKHW.isnan().any(1) | (logits_nKHW.amax(1).isinf())
    predicted_L[broken_nHW[known_nHW]] = K
    counts = torch.bincount(labels_L * (K + 1) + predicted_L, minlength=K * (K + 1))
    counts_KP = counts.view(K, K + 1).cpu().numpy()
    return Confusion(counts_KP[:, :K].copy(), counts_KP[:, K].copy())


def classes_of_areas(
    outputs: Tensor, masks_nHW: Tensor
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of every class that a mask shows: the class, and which one most of its pixels are taken for.

    The latter is -1 where most have no finite logits.
    """
    labels: list[int] = []
    predicted: list[int] = []
    for logits_KHW, mask_HW in zip(outputs, masks_nHW, strict=True):
        held = confusion(_fitted(logits_KHW[None], mask_HW), mask_HW[None])
        for label in np.flatnonzero(held.labelled_K):
            most = int(held.counts_KK[label].argmax())
            finite = held.counts_KK[label, most] > held.unpredicted_K[label]
            labels.append(int(label))
            predicted.append(most if finite else -1)
    return np.array(labels, np.int64), np.array(predicted, np.int64)


def _fitted(logits_1KHW: Tensor, mask_HW: Tensor) -> Tensor:
    """Maps of the size of a mask."""
    fitted = logits_1KHW.detach().float()
    if fitted.shape[2:] == mask_HW.shape:
        return fitted
    return interpolate(fitted, size=mask_HW.shape, mode="bilinear")


def entropy_maps(logits_nKHW: Tensor) -> Tensor:
    """The entropy of every pixel's probabilities in nats, [n, H, W]; NaN where not finite."""
    log_p_nKHW = torch.log_softmax(_two_sided(logits_nKHW.detach()).double(), dim=1)
    entropy_nHW: Tensor = torch.special.entr(log_p_nKHW.exp()).sum(1)
    return entropy_nHW


def _two_sided(logits_nKHW: Tensor) -> Tensor:
    if logits_nKHW.shape[1] == 1:
        return torch.cat([torch.zeros_like(logits_nKHW), logits_nKHW], dim=1)
    return logits_nKHW


# The least probability that counts as one.
_LEAST = 1e-12

#: The masks [n, H, W] of a batch by its index: class indices, and IGNORED where there is none.
Masks = Callable[[int], Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class _ReadMaps:
    """The maps of one batch: means over their pixels, pixels by class, and counts by the masks."""

    confidence_n: NDArray[np.float64]
    entropy_n: NDArray[np.float64]
    not_finite: int
    predicted_K: NDArray[np.int64]
    right_nK: NDArray[np.int64]
    union_nK: NDArray[np.int64]
    labelled_nK: NDArray[np.int64]


class Maps:
    """A head for maps [n, K, h, w] of logits, or of probabilities where the first ones are that.

    Maps of another size than the masks are brought to theirs, bilinear, as segmentation nets do
    that work at a quarter of the picture. One channel decides between two classes.
    """

    task: Task = "segmentation"

    def __init__(self, masks: Masks | None = None) -> None:
        self._masks = masks
        self._probabilities: bool | None = None
        self._read: dict[int, _ReadMaps] = {}

    def __call__(self, index: int, outputs: Outputs) -> None:
        """Measures the maps of a batch, one after the other. Raises ModelError for no maps."""
        if not isinstance(outputs, Tensor) or outputs.dim() != 4:
            raise ModelError(
                "The model gives no maps of classes.",
                hint="Leave out --task, or pick another output with --output.",
            )
        logits_nKHW = outputs.detach()
        if self._probabilities is None:
            self._probabilities = _are_probabilities(logits_nKHW)
        if self._probabilities:
            # 0 and 1 have no finite logits, and a saturated sigmoid gives just these.
            p_nKHW = logits_nKHW.double().clamp(_LEAST, 1 - _LEAST)
            logits_nKHW = p_nKHW.logit() if p_nKHW.shape[1] == 1 else p_nKHW.log()
        masks_nHW = None if self._masks is None else self._masks(index)
        self._read[index] = _read_maps(logits_nKHW, masks_nHW)

    def fresh(self) -> Maps:
        """One that has seen nothing, is held against the same masks, and reads maps alike."""
        fresh = Maps(self._masks)
        fresh._probabilities = self._probabilities
        return fresh

    def survey(self) -> Surveyed:
        """Confidence and entropy are means over an image's pixels; classes are counted by pixel."""
        parts = self._parts()
        return Surveyed(
            confidence_N=np.concatenate([part.confidence_n for part in parts]),
            entropy_N=np.concatenate([part.entropy_n for part in parts]),
            predicted_K=np.sum([part.predicted_K for part in parts], axis=0),
            not_finite=sum(part.not_finite for part in parts),
        )

    def figures(self, weights_BN: NDArray[np.float64]) -> Mapping[str, NDArray[np.float64]]:
        """Mean IoU over the classes that have one, and the share of labelled pixels that is right.

        Both from one confusion matrix over all images, not from means over images.
        """
        if self._masks is None:
            return {}
        right_BK, union_BK, labelled_BK = (
            weights_BN @ self._stacked(name).astype(np.float64)
            for name in ("right_nK", "union_nK", "labelled_nK")
        )
        iou_BK, labelled_B = ratio(right_BK, union_BK), labelled_BK.sum(1)
        known_B = (union_BK > 0).sum(1).astype(np.float64)
        return {
            "mean_iou": ratio(np.nansum(iou_BK, axis=1), np.where(labelled_B > 0, known_B, 0.0)),
            "pixel_accuracy": ratio(right_BK.sum(1), labelled_B),
        }

    def by_class(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Images that show each class, and its IoU."""
        right_K, union_K = (
            self._stacked(name).sum(0).astype(np.float64) for name in ("right_nK", "union_nK")
        )
        return (self._stacked("labelled_nK") > 0).sum(0), ratio(right_K, union_K)

    def by_image(self) -> Mapping[str, NDArray[np.float64]]:
        """Confidence and entropy of every image, and the share of its pixels that is right."""
        found = self.survey()
        columns = {"confidence": found.confidence_N, "entropy_nats": found.entropy_N}
        if self._masks is not None:
            right_N, labelled_N = (
                self._stacked(name).sum(1).astype(np.float64)
                for name in ("right_nK", "labelled_nK")
            )
            columns["pixel_accuracy"] = ratio(right_N, labelled_N)
        return columns

    def _parts(self) -> list[_ReadMaps]:
        return [self._read[index] for index in sorted(self._read)]

    def _stacked(self, name: Literal["right_nK", "union_nK", "labelled_nK"]) -> NDArray[np.int64]:
        return np.concatenate([getattr(part, name) for part in self._parts()])


def _are_probabilities(maps_nKHW: Tensor) -> bool:
    """Whether no pixel speaks against it; those with NaN say nothing."""
    maps_KP = maps_nKHW.float().transpose(0, 1).flatten(1)
    maps_KP = maps_KP[:, ~maps_KP.isnan().any(0)]
    inside = bool(((maps_KP >= 0) & (maps_KP <= 1 + 1e-3)).all())
    if len(maps_KP) == 1 or not inside:
        return inside
    return bool(((maps_KP.sum(0) - 1).abs() <= 1e-3).all())


def _read_maps(logits_nKHW: Tensor, masks_nHW: Tensor | None) -> _ReadMaps:
    rows = []
    # One image at a time: probabilities of 32 maps of 21 x 520 x 520 in float64 are 1.4 GB.
    for place, logits_KHW in enumerate(logits_nKHW):
        entropy_HW = entropy_maps(logits_KHW[None])[0]
        p_KHW = torch.softmax(_two_sided(logits_KHW[None].double()), dim=1)[0]
        K, known_HW = len(p_KHW), ~entropy_HW.isnan()
        predicted_K = torch.bincount(p_KHW.argmax(0)[known_HW], minlength=K)
        held = Confusion.empty(K)
        if masks_nHW is not None:
            mask_HW = masks_nHW[place]
            held = confusion(_fitted(logits_KHW[None], mask_HW), mask_HW[None])
        rows.append(
            (p_KHW.amax(0)[known_HW].mean(), entropy_HW[known_HW].mean(), held, predicted_K)
        )
        del p_KHW
    confidence_n, entropy_n = (
        torch.stack(column).cpu().numpy()
        for column in zip(*((row[0], row[1]) for row in rows), strict=True)
    )
    return _ReadMaps(
        confidence_n=confidence_n,
        entropy_n=entropy_n,
        not_finite=int(np.isnan(confidence_n).sum()),
        predicted_K=torch.stack([row[3] for row in rows]).sum(0).cpu().numpy(),
        right_nK=np.stack([np.diag(row[2].counts_KK) for row in rows]),
        union_nK=np.stack([row[2].union_K for row in rows]),
        labelled_nK=np.stack([row[2].labelled_K for row in rows]),
    )
