"""How pictures become this model's input: options first, then what the checkpoint says.

Never guessed: what nobody says is an error that lists the options to give.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from adabn_cli.adaptation import Installer
from adabn_cli.errors import UsageError
from adabn_cli.measures.divergence import symmetric_kl_nats
from adabn_cli.model import Model, Preprocessing
from adabn_cli.moments import measure

_INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


@dataclass(frozen=True)
class PreprocessingOptions:
    """What the user said; None where nothing."""

    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop_pct: float | None = None
    interpolation: str | None = None

    @property
    def given(self) -> dict[str, object]:
        """The options that were given, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def resolve_preprocessing(model: Model, options: PreprocessingOptions) -> Preprocessing:
    """The preprocessing to use, with its source.

    Raises UsageError where size, mean or std are known from nowhere, or do not fit the model.
    """
    known, given = model.preprocessing, options.given
    if known is None:
        missing = [name for name in ("size", "mean", "std") if name not in given]
        if missing:
            names = {"size": "--img-size", "mean": "--mean", "std": "--std"}
            raise UsageError(
                "Nothing in the checkpoint says how pictures become its input.",
                where=f"Unknown: {', '.join(missing)}",
                hint=f"Give {' '.join(names[name] for name in missing)} as in training, e.g. "
                "--img-size 224 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225",
            )
        known = Preprocessing(**given, source="options")  # type: ignore[arg-type]
    elif given:
        source = f"options ({', '.join(sorted(given))}); the rest: {known.source}"
        known = replace(known, **given, source=source)  # type: ignore[arg-type]
    return _with_channels(_checked(known), model.input_channels)


def _checked(preprocessing: Preprocessing) -> Preprocessing:
    p = preprocessing
    problem = None
    if len(p.mean) != len(p.std):
        problem = f"--mean has {len(p.mean)} numbers, --std has {len(p.std)}."
    elif min(p.std) <= 0:
        problem = f"--std {min(p.std):g} is not positive."
    elif max(p.mean) > 1 or max(p.std) > 1:
        problem = "--mean and --std are in units of 0 to 1; divide those in 0 to 255 by 255."
    elif min(p.size) < 1:
        problem = f"--img-size {p.size[0]} is not a size in pixels."
    elif not 0 < p.crop_pct <= 1:
        problem = f"--crop-pct {p.crop_pct:g} is not in (0, 1]."
    elif p.interpolation not in _INTERPOLATIONS:
        problem = f"--interpolation {p.interpolation} is none of {', '.join(_INTERPOLATIONS)}."
    if problem:
        raise UsageError(problem, where=f"preprocessing from {p.source}", hint="Correct it.")
    return p


def _with_channels(preprocessing: Preprocessing, channels: int | None) -> Preprocessing:
    given = preprocessing.channels
    if channels is None or channels == given:
        if given not in (1, 3):
            raise UsageError(
                f"Pictures have 1 (gray) or 3 (RGB) channels, not {given}.",
                hint="Give one or three numbers to --mean and --std.",
            )
        return preprocessing
    if given == 1 and channels == 3:
        # One number for all three channels, as with the common --mean 0.5 --std 0.5.
        return replace(preprocessing, mean=preprocessing.mean * 3, std=preprocessing.std * 3)
    raise UsageError(
        f"The model takes {channels} channels; mean and std are given for {given}.",
        where=f"preprocessing from {preprocessing.source}",
        hint=f"Give {channels} numbers to --mean and --std."
        if channels in (1, 3)
        else "Only models of gray or RGB pictures can be adapted.",
    )


def suspect_preprocessing(
    model: Model, images: Tensor, installer: Installer, preprocessing: Preprocessing
) -> str | None:
    """A warning where the first site would see less shift under another common preprocessing.

    A wrong normalization looks like domain shift to AdaBN. So the first site is measured on some
    images under the mistakes people make; one that explains nearly all of a large shift is named.
    """
    site, given_kl = _first_site_kl(model, images, installer)
    if site is None or given_kl < _LARGE_SHIFT_NATS:
        return None
    shifts = {
        name: _first_site_kl(model, other, installer)[1]
        for name, other in _mistakes(images, preprocessing).items()
    }
    name, least = min(shifts.items(), key=lambda item: item[1])
    if least > given_kl * _EXPLAINED:
        return None
    return (
        f"The first site ({site}) sees a shift of {given_kl:.3g} nats, but of {least:.2g} with "
        f"{name}: check the preprocessing before you trust this run."
    )


# On digits, natural and corrupted pictures a real shift leaves 0.02 to 0.6 nats (median over
# channels) at the first site; forgetting the ImageNet normalization leaves 1 to 30.
_LARGE_SHIFT_NATS = 0.5
_EXPLAINED = 0.1


def _first_site_kl(model: Model, images: Tensor, installer: Installer) -> tuple[str | None, float]:
    """The first site's name and its median KL over neurons, before anything is adapted."""
    forward = model.suspended(images)
    try:
        site, activation = next(forward)
    except StopIteration:
        return None, 0.0
    source = installer.source.get(site.name)
    if source is None:
        return None, 0.0
    moments = measure(activation)
    forward.close()
    return site.name, float(symmetric_kl_nats(source, moments.pixels, site.eps).median())


def _mistakes(images: Tensor, preprocessing: Preprocessing) -> dict[str, Tensor]:
    """The same images [N, C, H, W] under other common preprocessings."""
    shape = (1, -1, 1, 1)
    mean = torch.tensor(preprocessing.mean).view(shape)
    std = torch.tensor(preprocessing.std).view(shape)
    plain = images * std + mean
    others = {
        "values in 0 to 1, not normalized": plain,
        "values in 0 to 255": plain * 255,
        "--mean 0.5 --std 0.5": (plain - 0.5) / 0.5,
        "inverted brightness": (1 - plain - mean) / std,
    }
    if preprocessing.channels == 3:
        imagenet_mean = torch.tensor((0.485, 0.456, 0.406)).view(shape)
        imagenet_std = torch.tensor((0.229, 0.224, 0.225)).view(shape)
        others["ImageNet's --mean and --std"] = (plain - imagenet_mean) / imagenet_std
        others["swapped channels (BGR for RGB)"] = (plain.flip(1) - mean) / std
        gray = plain.mean(1, keepdim=True).expand_as(plain)
        others["gray pictures"] = (gray - mean) / std
    return others
