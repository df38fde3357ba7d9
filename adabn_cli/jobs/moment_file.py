"""Moments as a tensor file, to the bit. Knows no site, no run and no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from adabn_cli import tensor_file
from adabn_cli.moments import ImageMoments, Moments, SiteMoments
from adabn_cli.tensor_file import Facts, Tensors

_HEAD = "adabn"
_IMAGE_FIELDS = [item.name for item in fields(ImageMoments) if item.name != "count"]

#: The moments of a file, each under the parts of its name: a tuple of what JSON can hold.
Named = Mapping[Any, SiteMoments]


class MomentFile(NamedTuple):
    """What is in a file: moments, facts, and other tensors by name."""

    moments: Named
    about: Facts
    tensors: Tensors = MappingProxyType({})

    def as_bytes(self) -> bytes:
        """The file; the same moments give the same bytes."""
        held = {f"tensor/{name}": tensor for name, tensor in self.tensors.items()}
        rows: list[dict[str, Any]] = []
        for number, (name, site) in enumerate(self.moments.items()):
            pixels, images = site.pixels, site.images
            held[f"pixels/{number}"] = torch.stack([pixels.mean_C, pixels.m2_C])
            stacked = torch.stack([getattr(images, item) for item in _IMAGE_FIELDS])
            held[f"images/{number}"] = stacked
            if site.histogram_CB is not None:
                held[f"histogram/{number}"] = site.histogram_CB
            rows.append({"name": name, "pixels": pixels.count, "images": images.count})
        return tensor_file.as_bytes(_HEAD, {"about": self.about, "moments": rows}, held)


def read_moments(path: Path, device: str = "cpu") -> MomentFile:
    """What is in the file. Raises OSError, or ValueError if it is no such file."""
    facts, tensors = tensor_file.read(path, _HEAD)
    try:
        moments = {
            tuple(row["name"]): _site(number, row, tensors, torch.device(device))
            for number, row in enumerate(facts["moments"])
        }
        about: Facts = facts["about"]
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{type(error).__name__}: {error}".splitlines()[0]) from error
    others = {
        name.removeprefix("tensor/"): tensor
        for name, tensor in tensors.items()
        if name.startswith("tensor/")
    }
    return MomentFile(moments, about, others)


def _site(number: int, row: Facts, tensors: Tensors, device: torch.device) -> SiteMoments:
    histogram = tensors.get(f"histogram/{number}")
    images = tensors[f"images/{number}"].to(device).unbind()
    return SiteMoments(
        Moments(row["pixels"], *tensors[f"pixels/{number}"].to(device).unbind()),
        ImageMoments(row["images"], **dict(zip(_IMAGE_FIELDS, images, strict=True))),
        None if histogram is None else histogram.to(device),
    )
