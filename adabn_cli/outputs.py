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


def by_image(outputs: Tensor, images: int) -> Tensor | None:
    """The outputs with an entry for each of `images` images in dimension 0; None if there is none.

    [N * A, k], a row an anchor, becomes [N, A, k]; [k], squeezed for a single image, [1, k]. The
    vector of several images is not cut: [N * A] would look like class scores.
    """
    if outputs.dim() == 0:
        return outputs.reshape(1) if images == 1 else None
    rows = len(outputs)
    if rows == images:
        return outputs
    if rows == 0 or rows % images or (outputs.dim() == 1 and images > 1):
        return None
    return outputs.reshape(images, rows // images, *outputs.shape[1:])
