"""Moments as a safetensors file, to the bit. Knows no site, no run and no model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from adabn_cli.moments import ImageMoments, Moments, SiteMoments

_ABOUT = "adabn"
_IMAGE_FIELDS = [item.name for item in fields(ImageMoments) if item.name != "count"]

#: The moments of a file, each under the parts of its name: a tuple of what JSON can hold.
Named = Mapping[Any, SiteMoments]


def as_bytes(
    moments: Named, about: Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None
) -> bytes:
    """A file of moments, of facts that JSON can hold, and of other tensors by name."""
    held = {f"tensor/{name}": _plain(tensor) for name, tensor in (tensors or {}).items()}
    rows: list[dict[str, Any]] = []
    for number, (name, site) in enumerate(moments.items()):
        pixels, images = site.pixels, site.images
        held[f"pixels/{number}"] = _plain(torch.stack([pixels.mean_C, pixels.m2_C]))
        stacked = torch.stack([getattr(images, item) for item in _IMAGE_FIELDS])
        held[f"images/{number}"] = _plain(stacked)
        if site.histogram_CB is not None:
            held[f"histogram/{number}"] = _plain(site.histogram_CB)
        rows.append({"name": name, "pixels": pixels.count, "images": images.count})
    # One JSON entry: safetensors writes several metadata keys in a random order.
    text = json.dumps({"about": about, "moments": rows}, sort_keys=True)
    return save(held, metadata={_ABOUT: text})


def parsed(
    content: bytes, device: str = "cpu"
) -> tuple[dict[tuple[Any, ...], SiteMoments], dict[str, Any], dict[str, Tensor]]:
    """The same from a file: moments, facts, other tensors. Raises ValueError where it is none."""
    # The library's own reader of bytes leaves the metadata out.
    size = int.from_bytes(content[:8], "little")
    try:
        written = json.loads(json.loads(content[8 : 8 + size])["__metadata__"][_ABOUT])
        tensors = load(content)
        moments = {
            tuple(row["name"]): _site(number, row, tensors, torch.device(device))
            for number, row in enumerate(written["moments"])
        }
    except Exception as error:  # Whatever a damaged file makes of these readers.
        raise ValueError(f"{type(error).__name__}: {error}".splitlines()[0]) from error
    others = {
        name.removeprefix("tensor/"): tensor
        for name, tensor in tensors.items()
        if name.startswith("tensor/")
    }
    return moments, written["about"], others


def _site(
    number: int, row: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device
) -> SiteMoments:
    histogram = tensors.get(f"histogram/{number}")
    images = tensors[f"images/{number}"].to(device).unbind()
    return SiteMoments(
        Moments(row["pixels"], *tensors[f"pixels/{number}"].to(device).unbind()),
        ImageMoments(row["images"], **dict(zip(_IMAGE_FIELDS, images, strict=True))),
        None if histogram is None else histogram.to(device),
    )


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous()
