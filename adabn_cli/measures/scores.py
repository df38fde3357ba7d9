"""What a model's outputs say about every image: class, confidence, entropy. Knows no label.

Shapes: N images (n of one batch), K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adabn_cli.measures.heads import Head
from adabn_cli.model import Outputs
from adabn_cli.ranks import Ranks

# Rows of probabilities sum to one up to the rounding of what wrote them; logits do not.
_SUM_TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """One batch read in one way."""

    predicted_n: NDArray[np.int64]
    confidence_n: NDArray[np.float64]
    entropy_n: NDArray[np.float64]
    sum_K: NDArray[np.float64]
    top_n5: NDArray[np.int32]
    watched_n: tuple[NDArray[np.float64], ...]


#: What of one batch is handed on to scores elsewhere.
_HANDED_ON = ("predicted_n", "confidence_n", "entropy_n", "sum_K", "top_n5")


class Scores:
    """An OutputSink that keeps each image's predicted class, confidence and entropy.

    Outputs [n, K] are logits, or probabilities where all of them are in [0, 1] with rows that sum
    to 1; that is decided when the scores are read, over all images. One column is the logit, or
    the probability where all are in [0, 1], of class 1 against class 0. Anything else, None
    included, cannot be scored: then `scorable` is False and the arrays are empty.

    `watched` are scores of the same images, in the same batches, by other models: what probability
    this one gives their predictions is kept too.

    A `head` takes the outputs instead where they are no class scores; without one of its own, these
    scores have a fresh one like that of the watched.
    """

    def __init__(self, watched: Sequence[Scores] = (), head: Head | None = None) -> None:
        self._watched = tuple(watched)
        like = next((other.head for other in watched if other.head is not None), None)
        self.head: Head | None = like.fresh() if head is None and like is not None else head
        self._columns: int | None = None
        self._refused = False
        self._as_logits: dict[int, _Rows] = {}
        self._as_probabilities: dict[int, _Rows] = {}

    def __call__(self, index: int, outputs: Outputs) -> None:
        """Scores batch `index`; the same index again replaces it."""
        if self.head is not None:
            self.head(index, outputs)
            return
        if self._refused or not isinstance(outputs, Tensor) or not self._fits(outputs):
            self._refused = True
            self._as_logits.clear()
            self._as_probabilities.clear()
            return
        self._columns = outputs.shape[1]
        tolerance = max(_SUM_TOLERANCE, torch.finfo(outputs.dtype).eps)
        values_nK = outputs.detach().cpu().double()
        others = [other.predicted_in(index) for other in self._watched if other.scorable]
        self._as_logits[index] = _read(_softmax(values_nK), others)
        self._as_probabilities.pop(index, None)
        if _could_be_probabilities(values_nK, tolerance):
            self._as_probabilities[index] = _read(_two_sided(values_nK), others)

    def join(self, ranks: Ranks) -> None:
        """Takes in what the same scores have on other ranks, each of other batches."""
        found = ranks.gather(
            (self._columns, self._refused, self._as_logits, self._as_probabilities)
        )
        for columns, _, as_logits, as_probabilities in found:
            self._columns = columns if self._columns is None else self._columns
            self._as_logits.update(as_logits)
            self._as_probabilities.update(as_probabilities)
        if any(refused for _, refused, *_ in found):
            self._refused = True
            self._as_logits.clear()
            self._as_probabilities.clear()

    def as_arrays(self) -> dict[str, NDArray[np.generic]]:
        """All that is known of every batch, by names; empty where nothing can be scored.

        Both readings, as logits and as probabilities: which one holds is decided over all images.
        """
        return {
            f"{reading}/{batch}/{name}": getattr(rows, name)
            for reading, held in self._readings().items()
            for batch, rows in held.items()
            for name in _HANDED_ON
        }

    def include(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Takes in what other scores, of other batches, gave as arrays; ValueError for others."""
        found: dict[tuple[str, int], dict[str, NDArray[Any]]] = {}
        for key, array in arrays.items():
            reading, batch, name = key.split("/")
            found.setdefault((reading, int(batch)), {})[name] = array
        for (reading, index), by_name in found.items():
            self._readings()[reading][index] = _Rows(**by_name, watched_n=())
            self._columns = len(by_name["sum_K"])

    def _readings(self) -> dict[str, dict[int, _Rows]]:
        return {"logits": self._as_logits, "probabilities": self._as_probabilities}

    def _fits(self, outputs: Tensor) -> bool:
        shaped = outputs.dim() == 2 and outputs.shape[1] > 0 and outputs.is_floating_point()
        return shaped and self._columns in (None, outputs.shape[1])

    @property
    def scorable(self) -> bool:
        """Whether the outputs were [n, K] throughout, with at least one batch."""
        return bool(self._as_logits)

    @property
    def n_classes(self) -> int:
        """K; 2 for outputs of one column, 0 where nothing was scored."""
        if not self.scorable or self._columns is None:
            return 0
        return max(self._columns, 2)

    @property
    def probabilities(self) -> bool:
        """Whether the outputs were probabilities already, so that no softmax was taken."""
        if len(self._as_probabilities) < len(self._as_logits):
            return False
        return any((rows.predicted_n >= 0).any() for rows in self._as_probabilities.values())

    @property
    def predicted_N(self) -> NDArray[np.int64]:
        """The most probable class of every image, the first one on a tie; -1 where not finite."""
        return np.concatenate([np.empty(0, np.int64), *(x.predicted_n for x in self._rows())])

    @property
    def confidence_N(self) -> NDArray[np.float64]:
        """The largest probability of every image; NaN where not finite."""
        return np.concatenate([np.empty(0), *(x.confidence_n for x in self._rows())])

    def predicted_in(self, index: int) -> NDArray[np.int64]:
        """The most probable class of every image of one batch, [n]; -1 where not finite."""
        return (self._as_probabilities if self.probabilities else self._as_logits)[
            index
        ].predicted_n

    def probability_N(self, watched: Scores) -> NDArray[np.float64]:
        """What probability is given here to what `watched` predicts; NaN where either is none.

        `watched` is one of those named at the start, or these scores themselves.
        """
        if watched is self:
            return self.confidence_N
        position = [other for other in self._watched if other.scorable].index(watched)
        return np.concatenate([np.empty(0), *(x.watched_n[position] for x in self._rows())])

    @property
    def entropy_N(self) -> NDArray[np.float64]:
        """The entropy of every image's probabilities, in nats; NaN where not finite."""
        return np.concatenate([np.empty(0), *(x.entropy_n for x in self._rows())])

    @property
    def probability_sum_K(self) -> NDArray[np.float64]:
        """Probabilities summed over the images that have any, [K]."""
        return sum((x.sum_K for x in self._rows()), start=np.zeros(self.n_classes))

    @property
    def top_N5(self) -> NDArray[np.int32]:
        """The five most probable classes of every image, all where K < 5; -1 where not finite.

        Equal ones are in no order.
        """
        width = min(5, self.n_classes)
        return np.concatenate([np.empty((0, width), np.int32), *(x.top_n5 for x in self._rows())])

    @property
    def not_finite(self) -> int:
        """Images whose outputs give no probabilities: NaN or infinite logits."""
        return int((self.predicted_N < 0).sum())

    def _rows(self) -> list[_Rows]:
        rows = self._as_probabilities if self.probabilities else self._as_logits
        return [rows[index] for index in sorted(rows)]


def _softmax(logits_nK: Tensor) -> Tensor:
    if logits_nK.shape[1] == 1:
        # sigmoid(-z), not 1 - sigmoid(z), which is 0 from z = 37 on.
        return torch.cat([torch.sigmoid(-logits_nK), torch.sigmoid(logits_nK)], dim=1)
    return torch.softmax(logits_nK, dim=1)


def _two_sided(probabilities_nK: Tensor) -> Tensor:
    if probabilities_nK.shape[1] == 1:
        return torch.cat([1 - probabilities_nK, probabilities_nK], dim=1)
    return probabilities_nK


def _could_be_probabilities(values_nK: Tensor, tolerance: float) -> bool:
    """Whether no row speaks against it; rows with NaN say nothing."""
    values_nK = values_nK[~values_nK.isnan().any(1)]
    inside = bool(((values_nK >= 0) & (values_nK <= 1 + tolerance)).all())
    if values_nK.shape[1] == 1:
        return inside
    return inside and bool(((values_nK.sum(1) - 1).abs() <= tolerance).all())


def _read(probabilities_nK: Tensor, others: Sequence[NDArray[np.int64]]) -> _Rows:
    good_n = ~probabilities_nK.isnan().any(1).numpy()
    p_nK = probabilities_nK.numpy()
    # entr is 0 at 0, where p log p would be NaN.
    entropy_n = torch.special.entr(probabilities_nK).sum(1).numpy()
    return _Rows(
        predicted_n=np.where(good_n, p_nK.argmax(1), -1).astype(np.int64),
        confidence_n=np.where(good_n, p_nK.max(1), np.nan),
        entropy_n=np.where(good_n, entropy_n, np.nan),
        sum_K=p_nK[good_n].sum(0),
        top_n5=np.where(good_n[:, None], _top(probabilities_nK), -1).astype(np.int32),
        watched_n=tuple(
            np.where(good_n & (other_n >= 0), p_nK[np.arange(len(p_nK)), other_n], np.nan)
            for other_n in others
        ),
    )


def _top(probabilities_nK: Tensor) -> NDArray[np.int64]:
    # Not a sort: 0.1 s for 20,000 rows of 1000 classes instead of 1.3 s.
    top_n5: NDArray[np.int64] = probabilities_nK.topk(
        min(5, probabilities_nK.shape[1])
    ).indices.numpy()
    return top_n5
