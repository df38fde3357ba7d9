"""What a run is about: the model, the target, the method, the machine. Times are seconds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adabn_cli.record.part import Part


class PreprocessingPart(Part):
    """How pictures became inputs, and where that is known from.

    `borrowed` names what of size, mean and std was taken from published weights for other classes.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float
    interpolation: str
    source: str
    fast_decode: bool = False
    borrowed: tuple[str, ...] = ()


class FixedLayerPart(Part):
    """A normalizer without anything to adapt."""

    name: str
    kind: str
    reason: str


class ModelPart(Part):
    """What was adapted. `weights` is the fingerprint of all but the statistics.

    `unlearned_sites` hold statistics that were never learned; `impossible_statistics` says which
    no data gives: the source model is no measurement then. `random`: two forwards of the same
    pictures differ.
    """

    path: str | None
    format: str
    sha256: str | None
    architecture: str
    architecture_source: str
    weights: str
    trusted_pickle: bool = False
    classes: tuple[str, ...] | None = None
    classes_source: str | None = None
    preprocessing: PreprocessingPart | None = None
    fixed_layers: tuple[FixedLayerPart, ...] = ()
    unlearned_sites: tuple[str, ...] = ()
    impossible_statistics: tuple[str, ...] = ()
    random: bool = False


class SkippedPicture(Part):
    """A picture that could not be read."""

    path: str
    reason: str


class TargetPart(Part):
    """What the model was adapted to. `labels` says where labels came from.

    `other_files` were left out, `left_out` counts them by suffix ("" for none). `frames_left_out`
    are pages and frames behind the first of their file.
    """

    path: str | None
    kind: str
    images: int
    fingerprint: str | None = None
    skipped: tuple[SkippedPicture, ...] = ()
    other_files: int = 0
    left_out: dict[str, int] = Field(default_factory=dict)
    frames_left_out: int = 0
    conversions: dict[str, int] = Field(default_factory=dict)
    labels: str | None = None
    labeled_images: int = 0
    subsample: dict[str, int] | None = None


class ProfilePart(Part):
    """The source profile that the target was held against; `path` is that of its file or folder.

    `found` says how it came to be used: "--profile", "--source" or "beside the model".
    """

    path: str | None
    found: str
    images: int
    labeled: int


class MethodPart(Part):
    """How it was adapted. `layers` are globs over sites; `chunk_size` is the largest batch.

    `aim` is what the sites were brought to: their target statistics, those of the profile's
    pictures, or of these in another mix of classes, `class_mix`; None in older records. `momentum`
    is the online engine's, None where it counts pictures alike.
    """

    name: Literal["adabn", "matched", "auto"] = "adabn"
    engine: str
    prior: float | str | None
    alpha: float | None
    momentum: float | None = None
    layers: tuple[str, ...]
    chunk_size: int
    dtype: str
    seed: int
    forwards: int = 1
    aim: Literal["adabn", "profile", "class mix"] | None = None
    class_mix: tuple[float, ...] | None = None
    profile: ProfilePart | None = None


class RunPart(Part):
    """All that differs between two runs of the same work."""

    started: str
    seconds: float
    seconds_by_stage: dict[str, float]
    host: str
    device: str
    versions: dict[str, str]
    peak_memory_bytes: int
    folder: str | None
