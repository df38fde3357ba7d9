"""Maps of logits held against masks: pixel accuracy and IoU from one confusion matrix.

Knows no picture. Shapes: n images of a batch, K classes, [H, W] pixels, L pixels with a label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: The value of a pixel that counts for nothing, as in most masks.
IGNORED = 255


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

    def merge(self, other: Confusion) -> Confusion:
        """Both parts together."""
        return Confusion(self.counts_KK + other.counts_KK, self.unpredicted_K + other.unpredicted_K)

    @property
    def pixels(self) -> int:
        """How many pixels have a label."""
        return int(self.counts_KK.sum() + self.unpredicted_K.sum())

    @property
    def pixel_accuracy(self) -> float | None:
        """The share of labelled pixels that is right; None without any."""
        return int(np.trace(self.counts_KK)) / self.pixels if self.pixels else None

    @property
    def iou_K(self) -> NDArray[np.float64]:
        """Intersection over union of every class; NaN for one neither labelled nor predicted."""
        right_K = np.diag(self.counts_KK)
        labelled_K = self.counts_KK.sum(1) + self.unpredicted_K
        union_K = labelled_K + self.counts_KK.sum(0) - right_K
        iou_K: NDArray[np.float64] = np.full(len(union_K), np.nan)
        np.divide(right_K, union_K, out=iou_K, where=union_K > 0)
        return iou_K

    @property
    def mean_iou(self) -> float | None:
        """The mean over the classes that have an IoU; None without any."""
        return float(np.nanmean(self.iou_K)) if self.pixels else None


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


def entropy_maps(logits_nKHW: Tensor) -> Tensor:
    """The entropy of every pixel's probabilities in nats, [n, H, W]; NaN where not finite."""
    log_p_nKHW = torch.log_softmax(_two_sided(logits_nKHW.detach()).double(), dim=1)
    entropy_nHW: Tensor = torch.special.entr(log_p_nKHW.exp()).sum(1)
    return entropy_nHW


def _two_sided(logits_nKHW: Tensor) -> Tensor:
    if logits_nKHW.shape[1] == 1:
        return torch.cat([torch.zeros_like(logits_nKHW), logits_nKHW], dim=1)
    return logits_nKHW
