"""Models that give several labels to an image: average precision. Knows no picture.

N images (n of one batch), K labels of each, B weightings of the images.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adabn_cli.errors import ModelError
from adabn_cli.measures.heads import Surveyed, Task, ratio
from adabn_cli.model import Outputs


class LabelScores:
    """A head for logits [n, K], each of which decides on a label by itself.

    `truth_NK` is 1 or 0, NaN where unknown; None without any.
    """

    task: Task = "multi-label"

    def __init__(self, truth_NK: NDArray[np.float64] | None = None) -> None:
        self._truth_NK = truth_NK
        self._logits: dict[int, NDArray[np.float32]] = {}

    def __call__(self, index: int, outputs: Outputs) -> None:
        """Keeps the logits of a batch."""
        if not isinstance(outputs, torch.Tensor) or outputs.dim() != 2:
            raise ModelError(
                "The model does not give a row of labels for each picture.",
                hint="Leave out --task, or pick another output with --output.",
            )
        self._logits[index] = outputs.detach().float().cpu().numpy()

    def fresh(self) -> LabelScores:
        """One that has seen nothing and is held against the same truth."""
        return LabelScores(self._truth_NK)

    def survey(self) -> Surveyed:
        """Confidence is that of the surer side of a label, entropy a label's; means over labels."""
        p_NK = self._probabilities_NK()
        broken_N = p_NK.isnan().any(1)
        entropy_N = (torch.special.entr(p_NK) + torch.special.entr(1 - p_NK)).mean(1)
        return Surveyed(
            confidence_N=torch.maximum(p_NK, 1 - p_NK).mean(1).numpy(),
            entropy_N=entropy_N.numpy(),
            predicted_K=(p_NK > 0.5).sum(0).numpy(),
            not_finite=int(broken_N.sum()),
        )

    def figures(self, weights_BN: NDArray[np.float64]) -> Mapping[str, NDArray[np.float64]]:
        """The mean over labels of the average precision; labels that no image has are left out."""
        if self._truth_NK is None:
            return {}
        found_BK = average_precisions(self._logits_NK(), self._truth_NK, weights_BN)
        known_B = (~np.isnan(found_BK)).sum(1).astype(np.float64)
        return {"mean_average_precision": ratio(np.nansum(found_BK, 1), known_B)}

    def by_class(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Images that have each label, and its average precision."""
        logits_NK = self._logits_NK()
        if self._truth_NK is None:
            K = logits_NK.shape[1]
            return np.zeros(K, np.int64), np.full(K, np.nan)
        every_1N = np.ones((1, len(logits_NK)))
        found_1K = average_precisions(logits_NK, self._truth_NK, every_1N)
        return (self._truth_NK > 0).sum(0), found_1K[0]

    def by_image(self) -> Mapping[str, NDArray[np.float64]]:
        """How many labels each image was given, and the mean confidence."""
        return {
            "labels": (self._probabilities_NK() > 0.5).sum(1).double().numpy(),
            "confidence": self.survey().confidence_N,
        }

    def _probabilities_NK(self) -> Tensor:
        """The outputs themselves where all of them are in [0, 1], else their sigmoid."""
        outputs_NK = torch.from_numpy(self._logits_NK()).double()
        known = outputs_NK[~outputs_NK.isnan()]
        inside = bool(((known >= 0) & (known <= 1)).all())
        return outputs_NK if inside else torch.sigmoid(outputs_NK)

    def _logits_NK(self) -> NDArray[np.float32]:
        return np.concatenate([self._logits[index] for index in sorted(self._logits)])


def average_precisions(
    scores_NK: NDArray[np.floating],
    labels_NK: NDArray[np.floating],
    weights_BN: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The average precision of every label, [B, K]; NaN for one that no image has.

    The precision at each score, weighted by the recall gained there; images of equal score come
    together, and each counts by its weight. Labels are 1 or 0, NaN where unknown; scores of any
    scale rank images, one of NaN last.
    """
    if scores_NK.shape != labels_NK.shape:
        raise ValueError(f"scores {scores_NK.shape} for labels {labels_NK.shape}")
    columns = zip(scores_NK.T, labels_NK.T, strict=True)
    return np.stack([_average_precision(*column, weights_BN) for column in columns], axis=1)


def _average_precision(
    scores_N: NDArray[np.floating], labels_N: NDArray[np.floating], weights_BN: NDArray[np.float64]
) -> NDArray[np.float64]:
    known_N = ~np.isnan(labels_N)
    right_n, weights_Bn = labels_N[known_N] > 0, weights_BN[:, known_N]
    if not right_n.any():
        return np.full(len(weights_BN), np.nan)
    scores_n = np.nan_to_num(
        scores_N[known_N].astype(np.float64), nan=-np.inf, posinf=np.inf, neginf=-np.inf
    )
    order_n = np.argsort(-scores_n, kind="stable")
    weights_Bn = weights_Bn[:, order_n]
    # The last image of each run of equal scores.
    sorted_n = scores_n[order_n]
    ends = np.append(np.flatnonzero(sorted_n[1:] != sorted_n[:-1]), len(order_n) - 1)
    found_BE = np.cumsum(weights_Bn * right_n[order_n], axis=1)[:, ends]
    all_BE = np.cumsum(weights_Bn, axis=1)[:, ends]
    gained_BE = np.diff(found_BE, axis=1, prepend=0)
    precision_BE = np.zeros_like(all_BE)
    np.divide(found_BE, all_BE, out=precision_BE, where=all_BE > 0)
    return ratio((gained_BE * precision_BE).sum(1), found_BE[:, -1])
