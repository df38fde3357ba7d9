"""How many different scenes a few pictures show. Knows no file, label or model.

n pictures, of which every pair is compared; P pixels of a window, S places of it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# Pictures are compared at this side, moved against each other by up to an eighth of it.
_SIDE = 24
_REACH = 3
# What is wider than this many pixels to either side, light and background, is taken away: aligned
# faces correlate at 0.49 with it and at 0.41 without, digits of 8 px at 0.59 and 0.42.
_DETAIL = 4
# Pairs from one scene, moved by 6%, zoomed by 15%, with noise, correlate at 0.79 to 0.96 (medians
# over 14 photographs, faces and digits), pairs of different pictures at 0.18 to 0.48.
_SAME = 0.85
# Standard deviations of inputs that are normalized to about 1: under one level of 255.
_FLAT = 0.01


def distinct_scenes(images_nCHW: Tensor) -> float:
    """How many scenes, each with equally many of the pictures, are as often alike as these are.

    1 where all show one scene, n where no two are alike: one over the share of pairs, a picture
    with itself included, of the same scene. Two pictures are of the same scene where the inner part
    of one correlates with some part of the other by 0.85 or more; flat ones are all the same. At
    least one picture, each normalized as a model takes it.
    """
    inner_nP, parts_nSP = _windows(images_nCHW.float().mean(1, keepdim=True))
    spread_n = inner_nP.std(1)
    inner_nP = functional.normalize(inner_nP, dim=1)
    parts_nSP = functional.normalize(parts_nSP, dim=2)
    alike_nn = torch.einsum("ap,bsp->abs", inner_nP, parts_nSP).amax(2)
    same_nn = torch.maximum(alike_nn, alike_nn.T) >= _SAME
    flat_n = spread_n < _FLAT
    same_nn |= flat_n[:, None] & flat_n[None, :]
    same_nn.fill_diagonal_(True)
    return 1 / float(same_nn.double().mean())


def _windows(gray_n1HW: Tensor) -> tuple[Tensor, Tensor]:
    """The inner window of every picture, [n, P], and windows of that size all over it, [n, S, P].

    Each without its mean.
    """
    small = functional.interpolate(
        gray_n1HW, (_SIDE, _SIDE), mode="bilinear", antialias=True, align_corners=False
    )
    padded = functional.pad(small, (_DETAIL,) * 4, mode="replicate")
    detail = small - functional.avg_pool2d(padded, 2 * _DETAIL + 1, stride=1)
    parts_nSP = functional.unfold(detail, _SIDE - 2 * _REACH).transpose(1, 2)
    parts_nSP = parts_nSP - parts_nSP.mean(2, keepdim=True)
    return parts_nSP[:, parts_nSP.shape[1] // 2], parts_nSP
