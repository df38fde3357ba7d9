"""What can be said of accuracy on a target without labels: estimates, no measurements.

Accuracy by confidences: `average_thresholded_confidence` and `difference_of_confidences` take
confidence to mean on the target what it means on the source; target accuracy cannot be known
without such an assumption. Confidences are largest probabilities; NaN, where a model gave none,
counts as 0, and as wrong. How far they may be off: a digit net that is right on 99% of its source,
and as sure of another domain where it is right on 39%, is given 99.8% (ATC) and 88% (DoC) there.

What adapting is worth: `estimate_gain`, by the probabilities of a third model, the teacher.
Whether it holds depends on that model. N source images, M of the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adabn_cli.measures.scores import Scores


def average_thresholded_confidence(
    source_N: NDArray[np.float64], right_N: NDArray[np.bool_], target_M: NDArray[np.float64]
) -> float | None:
    """The share of target confidences at or over a threshold; None without source or target.

    The threshold is where the share of source confidences under it is the source's error, up to
    ties (ATC: Garg et al. 2022).
    """
    if len(source_N) == 0 or len(target_M) == 0:
        return None
    wrong = int((~right_N).sum())
    if wrong == len(source_N):
        return 0.0
    threshold = np.sort(np.nan_to_num(source_N))[wrong]
    return float((np.nan_to_num(target_M) >= threshold).mean())


def difference_of_confidences(
    source_N: NDArray[np.float64], right_N: NDArray[np.bool_], target_M: NDArray[np.float64]
) -> float | None:
    """Source accuracy plus the change in mean confidence, in [0, 1]; None as above.

    DoC: Guillory et al. 2021.
    """
    if len(source_N) == 0 or len(target_M) == 0:
        return None
    change = np.nan_to_num(target_M).mean() - np.nan_to_num(source_N).mean()
    return float(np.clip(right_N.mean() + change, 0, 1))


#: Fewer images say nothing: the estimate was 9 points off on average over 16 of them.
FEWEST_IMAGES = 50

# A loss of less is called none; see docs/shifts.md for how often harm is seen at that.
_HARM = 0.01
# A model that judges itself is always sure of a gain: of those over 10 points in the tuning cases
# of docs/shifts.md 9 of 49 were losses, of those over 1 point 17 of 65.
_OWN_HELP = 0.10


@dataclass(frozen=True, kw_only=True)
class GainEstimate:
    """Accuracy of the adapted model above the source model's, a fraction, as the teacher sees it.

    The agreements are shares of images on which they say what the teacher says.
    """

    gain: float
    agreement_before: float
    agreement_after: float
    images: int

    def outcome(self, *, own: bool) -> Literal["help", "harm", "cannot tell"]:
        """The verdict; `own` says that the teacher is the adapted model, which never sees harm."""
        if self.images < FEWEST_IMAGES:
            return "cannot tell"
        if self.gain > (_OWN_HELP if own else _HARM):
            return "help"
        return "harm" if self.gain < -_HARM else "cannot tell"


def estimate_gain(teacher: Scores, before: Scores, after: Scores) -> GainEstimate | None:
    """The mean of `p_teacher(prediction after) - p_teacher(prediction before)` over the images.

    `teacher` has watched the others or is `after`. None where no image has all three predictions.
    """
    if not (teacher.scorable and before.scorable and after.scorable):
        return None
    gain_N = teacher.probability_N(after) - teacher.probability_N(before)
    known_N = ~np.isnan(gain_N)
    if not known_N.any():
        return None
    taught_N = teacher.predicted_N[known_N]
    return GainEstimate(
        gain=float(gain_N[known_N].mean()),
        agreement_before=float((before.predicted_N[known_N] == taught_N).mean()),
        agreement_after=float((after.predicted_N[known_N] == taught_N).mean()),
        images=int(known_N.sum()),
    )
