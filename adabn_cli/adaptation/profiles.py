"""A source profile: what every site shows on source images, as a small file, for one model.

Knows safetensors and sites; no checkpoint format, no picture. With it no source image is needed at
the target site. C channels, K classes, N images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adabn_cli.adaptation.fingerprint import Fingerprint, fingerprint, statistics_digest
from adabn_cli.adaptation.histogram import Bins
from adabn_cli.errors import ModelError
from adabn_cli.model import Model
from adabn_cli.moments import EstimatedMoments, ImageMoments, Moments, SiteMoments
from adabn_cli.tensor_file import Facts, Kind, Tensors, as_bytes

_KIND = Kind(
    head="adabn-profile",
    name="source profile",
    version=1,
    hint="Make one with source pictures: adabn profile MODEL --source DIR -o FILE.",
)
#: What is said of each image: the entries of `Predictions`.
_BY_IMAGE = ("predicted_N", "confidence_N", "entropy_N", "class_N")
_IMAGE_FIELDS = [item.name for item in fields(ImageMoments) if item.name != "count"]
#: What the moments of one class take in a file, a channel: float32.
CLASS_BYTES = 4 * len(_IMAGE_FIELDS)


@dataclass(frozen=True)
class SiteProfile:
    """One site: its moments, per class those of its images, and the bins of its histogram."""

    moments: SiteMoments
    classes: Mapping[int, ImageMoments] = field(default_factory=dict)
    bins: Bins | None = None


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What the source model said of every source image, and the class it was known to have.

    A class or a prediction of -1 is none; confidences are fractions, entropies nats.
    """

    predicted_N: Tensor
    confidence_N: Tensor
    entropy_N: Tensor
    class_N: Tensor
    classes: int


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What the sites of one model show on `images` source images, in the order of the forward.

    `statistics` is a digest of those that the model stored meanwhile.
    """

    fingerprint: Fingerprint
    statistics: str
    architecture: str
    images: int
    sites: Mapping[str, SiteProfile]
    predictions: Predictions | None = None

    def expected(self) -> dict[str, EstimatedMoments]:
        """Mean and variance of every site on source images, and how well they are known."""
        return {name: site.moments.estimated(self.images) for name, site in self.sites.items()}

    def expected_mix(self, share_K: NDArray[np.float64]) -> dict[str, EstimatedMoments]:
        """The same for source images whose classes come in these proportions, [K].

        A class without source images has no part. The variance holds what lies between classes.
        """
        return {name: _mixed(site.classes, share_K) for name, site in self.sites.items()}

    def as_bytes(self) -> bytes:
        """The profile as a safetensors file; the same profile gives the same bytes."""
        tensors: dict[str, Tensor] = {}
        counts: dict[str, dict[str, object]] = {}
        for name, site in self.sites.items():
            pixels, images = site.moments.pixels, site.moments.images
            tensors[f"pixels/{name}"] = torch.stack([pixels.mean_C, pixels.m2_C])
            tensors[f"images/{name}"] = _stacked(images)
            for index, of_class in site.classes.items():
                # float32 is enough for a mix of classes, and half the file.
                tensors[f"class/{index}/{name}"] = _stacked(of_class).float()
            if site.bins is not None and site.moments.histogram_CB is not None:
                tensors[f"bins/{name}"] = torch.stack([site.bins.low_C, site.bins.width_C])
                tensors[f"histogram/{name}"] = site.moments.histogram_CB.int()
            counts[name] = {
                "pixels": pixels.count,
                "images": images.count,
                "classes": {str(index): x.count for index, x in site.classes.items()},
            }
        if self.predictions is not None:
            for item in _BY_IMAGE:
                tensors[f"predictions/{item}"] = getattr(self.predictions, item)
        about = {
            "version": _KIND.version,
            "fingerprint": asdict(self.fingerprint),
            "statistics": self.statistics,
            "architecture": self.architecture,
            "images": self.images,
            "classes": self.predictions.classes if self.predictions else None,
            "sites": list(counts.items()),
        }
        return as_bytes(_KIND.head, about, tensors, sort_keys=False)


def _mixed(classes: Mapping[int, ImageMoments], share_K: NDArray[np.float64]) -> EstimatedMoments:
    """Every image of class k weighs `share_k / n_k`; errors as of a weighted mean."""
    parts, counts = list(classes.values()), np.array([x.count for x in classes.values()])
    share_k = np.array([share_K[index] for index in classes])
    share_k = share_k / share_k.sum()
    weights = torch.from_numpy(share_k)[:, None]
    mean_C = (weights * torch.stack([x.mean_C for x in parts])).sum(0)
    squares = [x.about(mean_C) for x in parts]
    square_kC = torch.stack([square_C for square_C, _, _ in squares])
    var_C = (weights * square_kC).sum(0)
    n_k = torch.from_numpy(counts)[:, None]
    mean_m2_kC = torch.stack([x.m2_C for x in parts]) / n_k
    mean_m2_kC = mean_m2_kC + (torch.stack([x.mean_C for x in parts]) - mean_C) ** 2
    square_m2_kC = torch.stack([m2_C for _, m2_C, _ in squares]) / n_k + (square_kC - var_C) ** 2
    # 1 / sum of squared weights: as many equally weighted images would know as much.
    images = 1 / float((share_k**2 / counts).sum())
    return EstimatedMoments(
        mean_C,
        var_C,
        (weights * mean_m2_kC).sum(0) / images,
        (weights * square_m2_kC).sum(0) / images,
    )


def _stacked(moments: ImageMoments) -> Tensor:
    return torch.stack([getattr(moments, name) for name in _IMAGE_FIELDS])


def _unstacked(count: int, values: Tensor) -> ImageMoments:
    return ImageMoments(count, *values.double().unbind(0))


def read_profile(path: Path) -> Profile:
    """The profile in a file. Raises InputError if it is none."""
    return _KIND.read(path, _profile_of)


def _profile_of(about: Facts, tensors: Tensors) -> Profile:
    return Profile(
        fingerprint=Fingerprint(**about["fingerprint"]),
        statistics=about["statistics"],
        architecture=about["architecture"],
        images=about["images"],
        sites={name: _site_profile(name, counts, tensors) for name, counts in about["sites"]},
        predictions=_predictions(about["classes"], tensors),
    )


def _site_profile(name: str, counts: Facts, tensors: Tensors) -> SiteProfile:
    classes, bins = counts["classes"], tensors.get(f"bins/{name}")
    histogram = tensors.get(f"histogram/{name}")
    return SiteProfile(
        SiteMoments(
            Moments(counts["pixels"], *tensors[f"pixels/{name}"].unbind(0)),
            _unstacked(counts["images"], tensors[f"images/{name}"]),
            None if histogram is None else histogram.long(),
        ),
        {int(k): _unstacked(n, tensors[f"class/{k}/{name}"]) for k, n in classes.items()},
        None if bins is None else Bins(*bins.unbind(0)),
    )


def _predictions(classes: int | None, tensors: Tensors) -> Predictions | None:
    if classes is None:
        return None
    return Predictions(**{x: tensors[f"predictions/{x}"] for x in _BY_IMAGE}, classes=classes)


def require_profile_of(profile: Profile, model: Model) -> None:
    """Raises ModelError where the profile was measured on another model, or on an adapted one."""
    own = fingerprint(model)
    if own.sites != profile.fingerprint.sites:
        what = "The profile belongs to another architecture: its sites are not those of this model."
    elif own.weights != profile.fingerprint.weights:
        what = "The profile belongs to a model of the same architecture with other weights."
    elif statistics_digest(model) != profile.statistics:
        what = (
            "The profile was measured on this model with other statistics, before it was adapted."
        )
    else:
        return
    raise ModelError(
        what, where=f"profile: {profile.architecture}; model: {model.architecture}", hint=_KIND.hint
    )
