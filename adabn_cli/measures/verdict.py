"""What adapting is worth without labels, by the probabilities of a third model. Knows no label.

An estimate: whether it holds depends on that model, the teacher. N images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from adabn_cli.measures.scores import Scores

#: Fewer images say nothing: the estimate was 9 points off on average over 16 of them.
FEWEST_IMAGES = 50

# A loss of less is called none; see docs/shifts.md for how often harm is seen at that.
_HARM = 0.01
# A model that judges itself is always sure of a gain: of those over 10 points in the tuning cases
# of docs/shifts.md 9 of 49 were losses, of those over 1 point 17 of 65.
_OWN_HELP = 0.10


@dataclass(frozen=True)
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
        float(gain_N[known_N].mean()),
        float((before.predicted_N[known_N] == taught_N).mean()),
        float((after.predicted_N[known_N] == taught_N).mean()),
        int(known_N.sum()),
    )
