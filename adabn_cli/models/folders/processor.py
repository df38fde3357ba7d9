"""What an image processor of transformers does to a picture, as `Preprocessing`.

Reads its configuration (`preprocessor_config.json`); imports nothing. A step that cannot be said as
a resize of the shorter side, a central crop and a normalization is named in the source or a note.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adabn_cli.preprocessing import Preprocessing

#: PIL's numbers.
_RESAMPLING: dict[object, str] = {0: "nearest", 1: "bicubic", 2: "bilinear", 3: "bicubic"}
_LANCZOS = 1
_ENDINGS = ("ImageProcessorFast", "ImageProcessorPil", "ImageProcessor", "FeatureExtractor")
#: From this size on ConvNext's processor, which ResNets use too, squashes instead of cropping.
_CONVNEXT_SQUASHES_FROM = 384
_CROP_PCT = {"ConvNext": 224 / 256, "PoolFormer": 0.9}


@dataclass(frozen=True)
class _Geometry:
    """A size cut out after the shorter side was brought to `resized`; `remark` on what differs."""

    size: tuple[int, int]
    resized: int
    remark: str = ""


def read_image_processor(given: Mapping[str, Any]) -> tuple[Preprocessing | None, tuple[str, ...]]:
    """The preprocessing, and why there is none if the configuration says too little."""
    if not given:
        return None, ()
    if given.get("auto_map"):
        return None, ("the image processor is code of the folder's own, which is never run",)
    geometry, values = _geometry(given), _values(given)
    if geometry is None or values is None or geometry.size[0] > geometry.resized:
        return None, ("the image processor's configuration is not understood: give --img-size "
                      "--mean --std",)  # fmt: skip
    mean, std = values
    number, notes = given.get("resample"), []
    if number == _LANCZOS:
        notes.append("the image processor resizes by Lanczos; here it is bicubic")
    remark = f", {geometry.remark}" if geometry.remark else ""
    flipped = ", channels flipped for the network" if flips_channels(given) else ""
    found = Preprocessing(
        size=geometry.size,
        mean=mean,
        std=std,
        crop_pct=_crop_pct(geometry.size[0], geometry.resized),
        interpolation=_RESAMPLING.get(number, "bilinear"),
        source=f"preprocessor_config.json: {_kind(given)}{remark}{flipped}",
    )
    return found, tuple(notes)


def flips_channels(given: Mapping[str, Any]) -> bool:
    """Whether the network gets blue before red."""
    # MobileViT's does so unless it is told not to.
    return bool(given.get("do_flip_channel_order", _kind(given) == "MobileViT"))


def _kind(given: Mapping[str, Any]) -> str:
    """The processor's name without its endings: "ConvNext"."""
    name = str(given.get("image_processor_type") or given.get("feature_extractor_type") or "")
    return next((name.removesuffix(end) for end in _ENDINGS if name.endswith(end)), name)


def _geometry(given: Mapping[str, Any]) -> _Geometry | None:
    """None if the size is not said, or depends on the picture."""
    kind, size = _kind(given), _sides(given.get("size"))
    if size is None or not given.get("do_resize", True):
        return None
    height, width, whole = size
    cut = (
        _sides(given.get("crop_size"))
        if given.get("do_center_crop", kind == "PoolFormer")
        else None
    )
    if kind in _CROP_PCT and (kind == "PoolFormer" or height < _CONVNEXT_SQUASHES_FROM):
        share = given.get("crop_pct") or _CROP_PCT[kind]
        final = cut[:2] if cut else (height, height)
        return _Geometry(final, int(height / share))
    if kind == "Levit" and not whole:
        height = width = int(256 / 224 * height)
    squashed = "" if not whole and kind != "ConvNext" else "squashed there, here cut"
    if cut is not None:
        return _Geometry(cut[:2], height, squashed)
    return _Geometry((height, width), height, squashed or "here cut to a square")


def _sides(size: Any) -> tuple[int, int, bool] | None:
    """Height, width, and whether both were given: else they are of the shorter side."""
    given = size if isinstance(size, Mapping) else {"shortest_edge": size}
    both = given.get("height") is not None and given.get("width") is not None
    names = ("height", "width") if both else ("shortest_edge", "shortest_edge")
    height, width = (given.get(name) for name in names)
    if type(height) is not int or type(width) is not int or min(height, width) < 1:
        return None
    return height, width, both


def _values(given: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and std for values in 0 to 1; a processor starts from 0 to 255 and scales first."""
    kind = _kind(given)
    factor = given.get("rescale_factor", 1 / 255) if given.get("do_rescale", True) else 1.0
    offset = 1.0 if kind == "EfficientNet" and given.get("rescale_offset") else 0.0
    normalizes = bool(given.get("do_normalize", True)) and kind != "MobileViT"
    mean, std = given.get("image_mean"), given.get("image_std")
    again = kind == "EfficientNet" and given.get("include_top", True)
    if not normalizes:
        mean, std = [0.0] * 3, (std if again else [1.0] * 3)
    try:
        mean_C, std_C = [float(x) for x in mean or ()], [float(x) for x in std or ()]
        gain = 255 * float(factor)
    except (TypeError, ValueError):
        return None
    if again and normalizes:  # It divides by the deviation a second time.
        std_C = [x * x for x in std_C]
    if len(mean_C) != len(std_C) or len(mean_C) not in (1, 3) or min(*std_C, gain) <= 0:
        return None
    scaled = tuple((x + offset) / gain for x in mean_C), tuple(x / gain for x in std_C)
    return scaled if all(map(math.isfinite, (*scaled[0], *scaled[1]))) else None


def _crop_pct(crop: int, resized: int) -> float:
    """The ratio whose `floor(crop / ratio)` is `resized`, which crop / resized may miss by one."""
    ratio = crop / resized
    return ratio if math.floor(crop / ratio) == resized else math.nextafter(ratio, 0.0)
