"""A source profile: what every site shows on source images, as a small file, for one model.

Knows safetensors and sites; no checkpoint format, no picture. With it no source image is needed at
the target site. C channels, K classes, N images.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from adabn_cli.adaptation.fingerprint import Fingerprint, fingerprint, statistics_digest
from adabn_cli.errors import InputError, ModelError
from adabn_cli.histogram import Bins
from adabn_cli.model import Model
from adabn_cli.moments import EstimatedMoments, ImageMoments, Moments, SiteMoments

_FORMAT = "adabn-profile"
_VERSION = 1
_IMAGE_FIELDS = [item.name for item in fields(ImageMoments) if item.name != "count"]
#: What the moments of one class take in a file, a channel: float32.
CLASS_BYTES = 4 * len(_IMAGE_FIELDS)


@dataclass(frozen=True)
class SiteProfile:
    """One site: its moments, per class those of its images, and the bins of its histogram."""

    moments: SiteMoments
    classes: Mapping[int, ImageMoments] = field(default_factory=dict)
    bins: Bins | None = None

    def merge(self, other: SiteProfile) -> SiteProfile:
        """Both together."""
        classes = dict(self.classes)
        for index, images in other.classes.items():
            classes[index] = classes[index].merge(images) if index in classes else images
        if self.bins is not None and self.bins.equals(other.bins):
            return SiteProfile(self.moments.merge(other.moments), classes, self.bins)
        mine, others = (replace(x.moments, histogram_CB=None) for x in (self, other))
        return SiteProfile(mine.merge(others), classes)


@dataclass(frozen=True)
class Predictions:
    """What the source model said of every source image, and the class it was known to have.

    A class or a prediction of -1 is none; confidences are fractions, entropies nats.
    """

    predicted_N: Tensor
    confidence_N: Tensor
    entropy_N: Tensor
    class_N: Tensor
    classes: int


@dataclass(frozen=True)
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

    def merge(self, other: Profile) -> Profile:
        """The profile of both sets of source images, which must be of one model.

        Histograms are kept where both were counted in the same bins. Raises ModelError where the
        profiles belong to different models, or to one before and after it was adapted.
        """
        if (self.fingerprint, self.statistics) != (other.fingerprint, other.statistics):
            raise ModelError(
                "The profiles belong to different models.",
                where=f"{self.architecture}; {other.architecture}",
                hint="Merge profiles of one model file.",
            )
        if self.sites.keys() != other.sites.keys():
            raise ModelError(
                "The profiles were measured at different sites.", hint="Make both again."
            )
        return replace(
            self,
            images=self.images + other.images,
            sites={name: site.merge(other.sites[name]) for name, site in self.sites.items()},
            predictions=_joined(self.predictions, other.predictions),
        )

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
            for item in ("predicted_N", "confidence_N", "entropy_N", "class_N"):
                tensors[f"predictions/{item}"] = getattr(self.predictions, item)
        # One JSON entry: safetensors writes several metadata keys in a random order.
        about = {
            "version": _VERSION,
            "fingerprint": asdict(self.fingerprint),
            "statistics": self.statistics,
            "architecture": self.architecture,
            "images": self.images,
            "classes": self.predictions.classes if self.predictions else None,
            "sites": list(counts.items()),
        }
        contiguous = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        return save(contiguous, metadata={_FORMAT: json.dumps(about)})


def _joined(one: Predictions | None, other: Predictions | None) -> Predictions | None:
    """The predictions of both, in that order; None where one has none or other classes."""
    if one is None or other is None or one.classes != other.classes:
        return None
    names = ("predicted_N", "confidence_N", "entropy_N", "class_N")
    pairs = {x: torch.cat([getattr(one, x), getattr(other, x)]) for x in names}
    return Predictions(**pairs, classes=one.classes)


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
    """The profile in a file. Raises InputError where it is none."""
    if not path.is_file():
        raise InputError("There is no such profile.", where=str(path), hint=_MAKE_ONE)
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[_FORMAT])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if about["version"] > _VERSION:
            raise InputError(
                f"The profile is of version {about['version']}; this adabn reads up to {_VERSION}.",
                where=str(path),
                hint='Update it: pip install --upgrade "adabn".',
            )
        return Profile(
            Fingerprint(**about["fingerprint"]),
            about["statistics"],
            about["architecture"],
            about["images"],
            {name: _site_profile(name, counts, tensors) for name, counts in about["sites"]},
            _predictions(about["classes"], tensors),
        )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            "This is not a source profile.",
            where=f"{path}: {error}".splitlines()[0],
            hint=_MAKE_ONE,
        ) from error


_MAKE_ONE = "Make one with source pictures: adabn profile MODEL --source DIR -o FILE."


def _site_profile(
    name: str, counts: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> SiteProfile:
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


def _predictions(classes: int | None, tensors: Mapping[str, Tensor]) -> Predictions | None:
    if classes is None:
        return None
    names = ("predicted_N", "confidence_N", "entropy_N", "class_N")
    return Predictions(**{x: tensors[f"predictions/{x}"] for x in names}, classes=classes)


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
        what, where=f"profile: {profile.architecture}; model: {model.architecture}", hint=_MAKE_ONE
    )
