"""Models that give numbers: their errors. Knows no picture.

N images (n of one batch), D numbers of each, B weightings of the images.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from adabn_cli.errors import ModelError
from adabn_cli.measures.heads import Surveyed, Task, ratio
from adabn_cli.model import Outputs


class Values:
    """A head for numbers [n, D], or [n] for a single one.

    `truth_ND` is NaN where unknown; None without any.
    """

    task: Task = "regression"

    def __init__(self, truth_ND: NDArray[np.float64] | None = None) -> None:
        self._truth_ND = truth_ND
        self._values: dict[int, NDArray[np.float64]] = {}

    def __call__(self, index: int, outputs: Outputs) -> None:
        """Keeps the numbers of a batch."""
        if not isinstance(outputs, torch.Tensor) or outputs.dim() not in (1, 2):
            raise ModelError(
                "The model does not give a row of numbers for each picture.",
                hint="Leave out --task, or pick another output with --output.",
            )
        values_nD = outputs.detach().double().cpu().numpy()
        self._values[index] = values_nD.reshape(len(values_nD), -1)

    def fresh(self) -> Values:
        """One that has seen nothing and is held against the same truth."""
        return Values(self._truth_ND)

    def survey(self) -> Surveyed:
        """Numbers have neither confidence nor entropy, and no class."""
        values_ND = self._values_ND()
        unknown_N = np.full(len(values_ND), np.nan)
        broken = int((~np.isfinite(values_ND)).any(1).sum())
        return Surveyed(
            confidence_N=unknown_N,
            entropy_N=unknown_N,
            predicted_K=np.zeros(0, np.int64),
            not_finite=broken,
        )

    def figures(self, weights_BN: NDArray[np.float64]) -> Mapping[str, NDArray[np.float64]]:
        """Mean absolute and root mean square error over all numbers that are known.

        A prediction of NaN makes them NaN: it is not left out.
        """
        if self._truth_ND is None:
            return {}
        known_ND = ~np.isnan(self._truth_ND)
        error_ND = np.where(known_ND, self._values_ND() - self._truth_ND, 0.0)
        count_B = weights_BN @ known_ND.sum(1).astype(np.float64)
        absolute_B, square_B = (
            ratio(weights_BN @ error_N, count_B)
            for error_N in (np.abs(error_ND).sum(1), (error_ND**2).sum(1))
        )
        return {"mean_absolute_error": absolute_B, "root_mean_square_error": np.sqrt(square_B)}

    def by_class(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """For each of the D numbers how many images have it, and its mean absolute error."""
        values_ND = self._values_ND()
        D = values_ND.shape[1]
        counts_D, errors_D = np.zeros(D, np.int64), np.full(D, np.nan)
        if self._truth_ND is not None:
            known_ND = ~np.isnan(self._truth_ND)
            counts_D = known_ND.sum(0)
            sums_D = np.where(known_ND, np.abs(values_ND - self._truth_ND), 0.0).sum(0)
            errors_D = ratio(sums_D, counts_D.astype(np.float64))
        return counts_D, errors_D

    def by_image(self) -> Mapping[str, NDArray[np.float64]]:
        """The numbers themselves."""
        return {f"value_{d}": column_N for d, column_N in enumerate(self._values_ND().T)}

    def _values_ND(self) -> NDArray[np.float64]:
        return np.concatenate([self._values[index] for index in sorted(self._values)])
