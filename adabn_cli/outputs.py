"""What a model gives out: logits, maps of them, or boxes. Knows no model and no truth."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Boxes:
    """What a detector sees in `images` pictures: D boxes, of which picture, class and score.

    `image_D` and `class_D` are indices, int64 [D]; scores are in 0 to 1, [D].
    """

    images: int
    image_D: Tensor
    class_D: Tensor
    scores_D: Tensor


#: In a mask, the class of a pixel that counts for nothing.
IGNORED = 255

#: What a model's output was reduced to: a tensor of logits, [N, K] or [N, K, H, W], a detector's
#: boxes, or None where it is neither.
Outputs = Tensor | Boxes | None
