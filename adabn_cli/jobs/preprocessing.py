"""How pictures become this model's input: options first, then what the checkpoint says.

Never guessed: what nobody says is an error that lists the options to give.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from adabn_cli.adaptation.installer import Installer
from adabn_cli.errors import ModelError, UsageError
from adabn_cli.jobs.checks.failed_forward import channel_count
from adabn_cli.jobs.checks.probing import channels_taken
from adabn_cli.measures.divergence import symmetric_kl_nats
from adabn_cli.model import InputSize, Model
from adabn_cli.models.architectures.libraries import shapes_of
from adabn_cli.models.architectures.unknown_weights import not_for_pictures
from adabn_cli.moments import measure
from adabn_cli.preprocessing import Preprocessing, check_preprocessing

#: Mean and std, one number a channel or one for all.
_Normalization = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True, kw_only=True)
class PreprocessingOptions:
    """What the user said; None where nothing."""

    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop_pct: float | None = None
    interpolation: str | None = None
    fast_decode: bool | None = None

    @property
    def given(self) -> dict[str, object]:
        """The options that were given, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def resolve_preprocessing(model: Model, options: PreprocessingOptions) -> Preprocessing:
    """The preprocessing to use, with its source.

    A graph that takes one size alone says so itself. Raises UsageError where size, mean or std are
    known from nowhere, or do not fit the model.
    """
    known, given = model.preprocessing, options.given
    size = _fixed_size(model.input_size, options.size)
    if known is None:
        found = {"size": size, **given} if size else given
        _require_known(found, model)
        source = "options; size: the graph" if size and not options.size else "options"
        known = Preprocessing(**found, source=source)  # type: ignore[arg-type]
    elif given:
        source = f"options ({', '.join(sorted(given))}); the rest: {known.source}"
        known = replace(known, **given, source=source)  # type: ignore[arg-type]
    if size and known.size != size:  # The file says another one than the graph in it takes.
        known = replace(known, size=size, source=f"{known.source}; size: the graph")
    ours = {*given, *(["size"] if size else [])}
    borrowed = tuple(name for name in known.borrowed if name not in ours)
    known = replace(known, borrowed=borrowed)
    check_preprocessing(known)
    return _with_channels(known, model)


def borrowed_note(preprocessing: Preprocessing | None) -> tuple[str, ...]:
    """A sentence on what is that of published weights for other classes; none where nothing is."""
    if preprocessing is None or not preprocessing.borrowed:
        return ()
    names, several = preprocessing.borrowed, len(preprocessing.borrowed) > 1
    listed = f"{', '.join(names[:-1])} and {names[-1]} are" if several else f"{names[0]} is"
    return (
        f"The {listed} from the published weights, and the classes are not theirs. If this model "
        f"was trained otherwise, give {', '.join(_OPTIONS[name] for name in names)}.",
    )


def _fixed_size(fixed: InputSize, asked: tuple[int, int] | None) -> tuple[int, int] | None:
    """The size that a graph fixes; None where a side is free.

    Raises UsageError where another one was asked for.
    """
    height, width = fixed
    if asked is not None and any(own not in (None, n) for own, n in zip(fixed, asked, strict=True)):
        raise UsageError(
            f"--img-size {asked[0]},{asked[1]} is not what the graph takes: its pictures are of "
            f"{height or 'any'} x {width or 'any'} pixels (height, width).",
            hint="Leave out --img-size."
            if height and width
            else f"Give --img-size {height or asked[0]},{width or asked[1]}.",
        )
    return (height, width) if height and width else None


_OPTIONS = {"size": "--img-size", "mean": "--mean", "std": "--std"}
_EXAMPLES = {"size": "224", "mean": "0.485,0.456,0.406", "std": "0.229,0.224,0.225"}


def _require_known(found: Mapping[str, object], model: Model) -> None:
    """Raises UsageError where size, mean or std is not among what was found.

    Raises ModelError where the model takes no pictures, by the look of its convolutions.
    """
    if missing := [name for name in _OPTIONS if name not in found]:
        if unlike := not_for_pictures(shapes_of(model.state()), vectors=False):
            raise ModelError(unlike[0], where=model.architecture, hint=unlike[1])
        example = " ".join(f"{_OPTIONS[name]} {_EXAMPLES[name]}" for name in missing)
        raise UsageError(
            "Nothing in the checkpoint says how pictures become its input.",
            where=f"Unknown: {', '.join(missing)}",
            hint=f"Give {' '.join(_OPTIONS[name] for name in missing)} as in training, e.g. "
            f"{example}.",
        )


def _with_channels(preprocessing: Preprocessing, model: Model) -> Preprocessing:
    """The same for as many channels as the model takes. Raises UsageError where they do not fit."""
    given, channels = preprocessing.channels, model.input_channels
    if given != channels or given not in (1, 3):  # The definition alone may be wrong: it is run.
        channels = channels_taken(model, preprocessing.size, given)
    if channels is None or channels == given:
        if given not in (1, 3):
            raise UsageError(
                f"Pictures have 1 (gray) or 3 (RGB) channels, not {given}.",
                where=f"Preprocessing from {preprocessing.source}",
                hint="Give one or three numbers to --mean and --std.",
            )
        return preprocessing
    if given == 1 and channels == 3:
        # One number for all three channels, as with the common --mean 0.5 --std 0.5.
        return replace(preprocessing, mean=preprocessing.mean * 3, std=preprocessing.std * 3)
    raise UsageError(
        f"The model takes {channel_count(channels)}; mean and std are given for {given}.",
        where=f"Preprocessing from {preprocessing.source}",
        hint=f"Give {channels} number{'s' * (channels > 1)} to --mean and --std."
        if channels in (1, 3)
        else "Only models of gray or RGB pictures can be adapted.",
    )


# Measured on nets for MNIST, USPS, SVHN and CIFAR-10 with digits and 13 sets of photographs. Where
# the preprocessing is right, every other one leaves a fifth of a large shift or more: 0.21 of it
# for MNIST through the SVHN net, 0.5 and more elsewhere. Where pictures are not normalized, a right
# one leaves 0.002 to 0.19: 18 of 20 are found. Swapped channels show only where colours are
# lopsided: photographs shift the CIFAR-10 net by 0.32 nats, and by 0.36 as BGR.
_LARGE_SHIFT_NATS = 0.5
_EXPLAINED = 0.15
# Undoing a normalization gives 0 to 1 up to rounding; a wrong one leaves more.
_OUTSIDE = 1e-3


def suspect_preprocessing(
    model: Model, images: Tensor, installer: Installer, preprocessing: Preprocessing
) -> str | None:
    """A warning where the first site would see hardly any shift under another preprocessing.

    A wrong normalization looks like domain shift to AdaBN. So the first site is measured on some
    images under the mistakes people make; one that explains nearly all of a large shift is named.
    """
    return _suspicion(model, images, installer, _others(images, preprocessing, model.preprocessing))


def suspect_tensors(model: Model, images: Tensor, installer: Installer) -> str | None:
    """The same of images [N, C, H, W] that came as tensors: nobody says how they were normalized.

    What they were is told by their values: in 0 to 1, in 0 to 255, or normalized in one of the
    common ways, where undoing that gives values in 0 to 1.
    """
    if images.dim() != 4 or images.shape[1] not in _COMMON or not images.is_floating_point():
        return None
    common = [*_COMMON[images.shape[1]].values(), ((0.5,), (0.5,))]
    plain = [((0.0,), (1.0,))] if images.max() <= 1 else [((0.0,), (1 / 255,))]
    others: dict[str, Tensor] = {}
    for mean, std in plain if images.min() >= 0 else common:
        pixels = images.cpu() * _channelwise(std) + _channelwise(mean)
        if pixels.min() >= -_OUTSIDE and pixels.max() <= 1 + _OUTSIDE:
            others |= {
                f"the images as {what}": (pixels - _channelwise(new_mean)) / _channelwise(new_std)
                for what, (new_mean, new_std) in _as_tensors(images.shape[1]).items()
            }
            others |= _mistaken(pixels, mean, std)
    return _suspicion(model, images, installer, others)


def _suspicion(
    model: Model, images: Tensor, installer: Installer, others: Mapping[str, Tensor]
) -> str | None:
    """What to say where one of the others explains a large shift of the images; None else."""
    site, given_kl = _first_site_kl(model, images, installer)
    if not others or site is None or not given_kl >= _LARGE_SHIFT_NATS:  # Nor where it is NaN.
        return None
    shifts = {name: _first_site_kl(model, other, installer)[1] for name, other in others.items()}
    name, least = min(shifts.items(), key=lambda item: item[1])
    if not least <= given_kl * _EXPLAINED:
        return None
    return (
        f"The first site ({site}) sees a shift of {given_kl:.3g} nats, but only {least:.2g} with "
        f"{name}. Check the preprocessing before you trust this run."
    )


def _first_site_kl(model: Model, images: Tensor, installer: Installer) -> tuple[str | None, float]:
    """The first site's name and its mean KL over neurons, before anything is adapted."""
    with closing(model.suspended(images)) as forward:
        try:
            site, activation, _ = next(forward)
        except StopIteration:
            return None, 0.0
        source, moments = installer.comparable.get(site.name), measure(activation)
    if source is None:
        return None, 0.0
    return site.name, float(symmetric_kl_nats(source, moments.pixels, site.eps).mean())


# The normalizations in common use, for gray and for RGB pictures.
_COMMON: dict[int, dict[str, _Normalization]] = {
    1: {"MNIST's --mean 0.1307 --std 0.3081": ((0.1307,), (0.3081,))},
    3: {"ImageNet's --mean and --std": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))},
}


def _others(images: Tensor, given: Preprocessing, own: Preprocessing | None) -> dict[str, Tensor]:
    """The same images [N, C, H, W] under other preprocessings; `own` is the checkpoint's."""
    plain = images * _channelwise(given.std) + _channelwise(given.mean)
    normalizations: dict[str, _Normalization] = {
        "values in 0 to 1 (--mean 0 --std 1)": ((0.0,), (1.0,)),
        "values in 0 to 255 (--mean 0 --std 0.00392)": ((0.0,), (1 / 255,)),
        "--mean 0.5 --std 0.5": ((0.5,), (0.5,)),
        **_COMMON[given.channels],
    }
    if own is not None and own.channels == given.channels:
        normalizations[f"--mean and --std from {own.source}"] = (own.mean, own.std)
    others = {
        name: (plain - _channelwise(mean)) / _channelwise(std)
        for name, (mean, std) in normalizations.items()
    }
    return others | _mistaken(plain, given.mean, given.std)


def _mistaken(plain: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> dict[str, Tensor]:
    """Images of values in 0 to 1 under what people mistake beside the normalization."""
    mistaken = {"inverted brightness": 1 - plain}
    if plain.shape[1] == 3:
        mistaken["swapped channels (BGR for RGB)"] = plain.flip(1)
    return {
        name: (pixels - _channelwise(mean)) / _channelwise(std) for name, pixels in mistaken.items()
    }


def _as_tensors(channels: int) -> dict[str, _Normalization]:
    """The normalizations in common use, in the words of Python code."""
    return {
        "values in 0 to 1": ((0.0,), (1.0,)),
        "values in 0 to 255": ((0.0,), (1 / 255,)),
        "(x - 0.5) / 0.5 of x in 0 to 1": ((0.5,), (0.5,)),
        **{
            f"x in 0 to 1 normalized by mean {mean} and std {std}": (mean, std)
            for mean, std in _COMMON[channels].values()
        },
    }


def _channelwise(numbers: tuple[float, ...]) -> Tensor:
    return torch.tensor(numbers).view(1, -1, 1, 1)
