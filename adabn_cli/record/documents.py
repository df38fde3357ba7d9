"""The records themselves, each a JSON document of its own."""

from __future__ import annotations

from typing import Any, Literal

from adabn_cli.record.figures import (
    BrokenPicturePart,
    ChangePart,
    ClassAccuracyPart,
    ClassPart,
    DivergencePart,
    DivergencesPart,
    HeldOutPart,
    ResidualPart,
    SampleSizePart,
    ScoresPart,
    SitePart,
    TaskPart,
)
from adabn_cli.record.judgement import BaselinePart, GatePart, NoticePart, VerdictPart
from adabn_cli.record.part import Finite, Part
from adabn_cli.record.subject import (
    FixedLayerPart,
    MethodPart,
    ModelPart,
    PreprocessingPart,
    RunPart,
    SkippedPicture,
    TargetPart,
)

SCHEMA_VERSION = 1


class Record(Part):
    """A run, whole."""

    schema_version: Literal[1] = 1
    model: ModelPart
    target: TargetPart
    method: MethodPart
    before: ScoresPart
    after: ScoresPart
    change: ChangePart
    task: TaskPart | None = None
    classes: tuple[ClassPart, ...] = ()
    held_out: HeldOutPart | None = None
    kl: DivergencesPart
    sites: tuple[SitePart, ...]
    sample_size: SampleSizePart | None = None
    broken: tuple[BrokenPicturePart, ...] = ()
    notices: tuple[NoticePart, ...] = ()
    residual: ResidualPart | None
    verdict: VerdictPart
    gates: tuple[GatePart, ...] = ()
    baseline: BaselinePart | None = None
    warnings: tuple[str, ...] = ()
    run: RunPart

    def with_kept_source(self) -> Record:
        """The same of a run that holds the source model, as adapting harms."""
        verdict = self.verdict.model_copy(update={"kept_source": True})
        return self.model_copy(update={"verdict": verdict})

    def as_json(self, **changes: Any) -> str:
        """The record as indented JSON, keys in the order of the schema."""
        record = self.model_copy(update=changes) if changes else self
        return record.model_dump_json(indent=2) + "\n"


class EvaluationRecord(Part):
    """One scoring of a model on labelled pictures, with or without a pack."""

    schema_version: Literal[1] = 1
    model: ModelPart
    data: TargetPart
    pack: str | None
    scores: ScoresPart
    task: TaskPart | None = None
    classes: tuple[ClassAccuracyPart, ...]
    warnings: tuple[str, ...] = ()


class ProfileRecord(Part):
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


class CollectRecord(Part):
    """What was measured on one shard, and the file it was written to. `shard` counts from 1."""

    schema_version: Literal[1] = 1
    path: str
    bytes: int
    shard: int
    shards: int
    images: int
    skipped: tuple[SkippedPicture, ...]
    target: TargetPart | None = None
    scores: ScoresPart
    warnings: tuple[str, ...] = ()


class MergeRecord(Part):
    """The pack that was made of all shards, and the source model on all their pictures.

    `standard_error_max` is that of the worst site's mean, in standard deviations of its channel.
    """

    schema_version: Literal[1] = 1
    path: str
    model: ModelPart
    shards: int
    images: int
    skipped: int
    sites: int
    before: ScoresPart
    kl_before: DivergencePart | None
    standard_error_max: Finite = None
    warnings: tuple[str, ...] = ()


class InspectedSite(Part):
    """A site in a file; eps is None where only the names of the entries are known."""

    name: str
    kind: str
    channels: int
    eps: float | None
    rule: str = ""


class Inspection(Part):
    """What is in a model file, as far as it can be told without running what it names.

    `input_size` is height and width where a graph takes no other. `broken_entries` are phrases on
    weights and statistics that are not numbers, or that no data gives; `unlearned_sites` hold
    statistics that were never learned.
    """

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
    input_size: tuple[int, int] | None = None
    preprocessing: PreprocessingPart | None = None
    classes: tuple[str, ...] | None = None
    classes_source: str | None = None
    unsafe_imports: tuple[str, ...] = ()
    broken_entries: tuple[str, ...] = ()
    unlearned_sites: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
