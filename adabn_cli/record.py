"""The record of a run: all that is known about it, as plain data. Every rendering is made from it.

Accuracies are fractions, times seconds, divergences nats. Knows no torch and no file.
"""

from __future__ import annotations

from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

SCHEMA_VERSION = 1

#: A figure, None where it is NaN or infinite: JSON has neither.
Finite = Annotated[
    float | None, BeforeValidator(lambda x: x if x is not None and isfinite(x) else None)
]


class _Part(BaseModel):
    """Unknown keys are kept out of a new record and ignored in one of a later version."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class PreprocessingPart(_Part):
    """How pictures became inputs, and where that is known from."""

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float
    interpolation: str
    source: str


class FixedLayerPart(_Part):
    """A normalizer without anything to adapt."""

    name: str
    kind: str
    reason: str


class ModelPart(_Part):
    """What was adapted. `weights` is the fingerprint of all but the statistics."""

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


class SkippedPicture(_Part):
    """A picture that could not be read."""

    path: str
    reason: str


class TargetPart(_Part):
    """What the model was adapted to. `labels` says where labels came from."""

    path: str | None
    kind: str
    images: int
    fingerprint: str | None = None
    skipped: tuple[SkippedPicture, ...] = ()
    other_files: int = 0
    conversions: dict[str, int] = Field(default_factory=dict)
    labels: str | None = None
    labeled_images: int = 0
    subsample: dict[str, int] | None = None


class ProfilePart(_Part):
    """The source profile that the target was held against; `path` is that of its file or folder.

    `found` says how it came to be used: "--profile", "--source" or "beside the model".
    """

    path: str | None
    found: str
    images: int
    labeled: int


class MethodPart(_Part):
    """How it was adapted. `layers` are globs over sites; `chunk_size` is the largest batch."""

    name: Literal["adabn", "matched", "auto"] = "adabn"
    engine: str
    prior: float | str | None
    alpha: float | None
    layers: tuple[str, ...]
    chunk_size: int
    dtype: str
    seed: int
    forwards: int = 1
    profile: ProfilePart | None = None


class ScoresPart(_Part):
    """The model's predictions on `n` images, `labeled` of which have a label to be right about."""

    accuracy: float | None = None
    accuracy_interval: tuple[float, float] | None = None
    correct: int | None = None
    labeled: int = 0
    confidence_mean: float | None = None
    entropy_mean: float | None = None
    predicted_histogram: tuple[int, ...] = ()
    not_finite: int = 0
    n: int = 0


class ChangePart(_Part):
    """After against before, on the same images. Accuracy and interval are differences."""

    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    fixed: int | None = None
    broken: int | None = None
    mcnemar_p: float | None = None
    agreement: float | None = None
    n: int = 0


class ClassPart(_Part):
    """One class: `n` labelled images; the McNemar p is Holm's, None below 30 images."""

    name: str
    n: int
    before: float
    after: float
    fixed: int
    broken: int
    mcnemar_p: float | None


class DivergencePart(_Part):
    """Symmetric KL over the neurons of a site or of the model, dead ones left out.

    A figure is None where it is not finite: a source variance of 0 with an eps of 0, say.
    """

    mean: Finite
    median: Finite
    p95: Finite
    max: Finite
    max_channel: int | None = None
    max_site: str | None = None
    mean_over_sites: float | None = None


class DivergencesPart(_Part):
    """Target against source, before and after; None where no site was visited.

    The histogram figures compare the neurons' histograms on the target with those of the source
    profile, without taking either for Gaussian.
    """

    before: DivergencePart | None
    after: DivergencePart | None
    histogram_before: DivergencePart | None = None
    histogram_after: DivergencePart | None = None


class SitePart(_Part):
    """One site. `standard_error_max` is in standard deviations of its channel."""

    name: str
    kind: str
    channels: int
    adapted: bool
    reason: str | None
    count: int
    dead_channels: int
    kl_before: DivergencePart | None
    kl_after: DivergencePart | None
    standard_error_max: float | None
    histogram_kl_before: DivergencePart | None = None
    histogram_kl_after: DivergencePart | None = None


class ResidualPart(_Part):
    """What an independent eval pass of the adapted model finds beside its stored statistics."""

    max_mean: Finite
    max_log_variance: Finite
    site: str


class VerdictPart(_Part):
    """Whether adapting helped, and what that rests on.

    "labels" are those of the pictures that were adapted to (transductive); held-out ones, where
    there are any, say more and come first.
    """

    outcome: Literal["help", "harm", "cannot tell"]
    basis: Literal["labels", "held-out labels", "none"]
    sentence: str


class GatePart(_Part):
    """One gate: what was asked, what was found."""

    expression: str
    value: float | None
    limit: float | None
    n: int | None
    status: Literal["passed", "failed", "cannot tell"]
    reason: str | None = None


class ClassAccuracyPart(_Part):
    """One class of a single scoring: `n` labelled images."""

    name: str
    n: int
    correct: int
    accuracy: float
    interval: tuple[float, float]


class HeldOutPart(_Part):
    """The same comparison on pictures that were not adapted to."""

    path: str
    images: int
    before: ScoresPart
    after: ScoresPart
    change: ChangePart


class RunPart(_Part):
    """All that differs between two runs of the same work."""

    started: str
    seconds: float
    seconds_by_stage: dict[str, float]
    host: str
    device: str
    versions: dict[str, str]
    peak_memory_bytes: int
    folder: str | None


class Record(_Part):
    """A run, whole."""

    schema_version: Literal[1] = 1
    model: ModelPart
    target: TargetPart
    method: MethodPart
    before: ScoresPart
    after: ScoresPart
    change: ChangePart
    classes: tuple[ClassPart, ...] = ()
    held_out: HeldOutPart | None = None
    kl: DivergencesPart
    sites: tuple[SitePart, ...]
    residual: ResidualPart | None
    verdict: VerdictPart
    gates: tuple[GatePart, ...] = ()
    warnings: tuple[str, ...] = ()
    run: RunPart

    def as_json(self, **changes: Any) -> str:
        """The record as indented JSON, keys in the order of the schema."""
        record = self.model_copy(update=changes) if changes else self
        return record.model_dump_json(indent=2) + "\n"


class EvaluationRecord(_Part):
    """One scoring of a model on labelled pictures, with or without a pack."""

    schema_version: Literal[1] = 1
    model: ModelPart
    data: TargetPart
    pack: str | None
    scores: ScoresPart
    classes: tuple[ClassAccuracyPart, ...]
    warnings: tuple[str, ...] = ()


class ProfileRecord(_Part):
    """What a source profile holds, and what the model scores on its pictures.

    `classes` counts the classes with moments of their own, 0 without labels.
    """

    schema_version: Literal[1] = 1
    path: str
    bytes: int
    model: ModelPart
    source: TargetPart
    sites: int
    neurons: int
    classes: int
    scores: ScoresPart
    warnings: tuple[str, ...] = ()


class InspectedSite(_Part):
    """A site in a file; eps is None where only the names of the entries are known."""

    name: str
    kind: str
    channels: int
    eps: float | None
    rule: str = ""


class Inspection(_Part):
    """What is in a model file, as far as it can be told without running what it names."""

    schema_version: Literal[1] = 1
    path: str
    format: str
    bytes: int
    sha256: str | None = None
    weights: str = ""
    tensors: int = 0
    parameters: int = 0
    architecture: str | None = None
    architecture_source: str | None = None
    architecture_problem: str | None = None
    sites: tuple[InspectedSite, ...] = ()
    fixed_layers: tuple[FixedLayerPart, ...] = ()
    input_channels: int | None = None
    preprocessing: PreprocessingPart | None = None
    classes: tuple[str, ...] | None = None
    classes_source: str | None = None
    unsafe_imports: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
