"""The record of a run: all that is known about it, as plain data. Every rendering is made from it.

Accuracies are fractions, times seconds, divergences nats. Knows no torch, and only the files of a
run (`run_folder`).
"""

from __future__ import annotations

from adabn_cli.record.documents import (
    SCHEMA_VERSION,
    CollectRecord,
    EvaluationRecord,
    InspectedSite,
    Inspection,
    MergeRecord,
    ProfileRecord,
    Record,
)
from adabn_cli.record.figures import (
    BrokenPicturePart,
    CalibrationPart,
    ChangePart,
    ClassAccuracyPart,
    ClassFigurePart,
    ClassPart,
    DivergencePart,
    DivergencesPart,
    EstimatedAccuracyPart,
    FigureName,
    FigurePart,
    HeldOutPart,
    ResidualPart,
    RoundPart,
    SampleSizePart,
    ScoresPart,
    ShiftPart,
    SitePart,
    TaskPart,
)
from adabn_cli.record.judgement import (
    BaselineChangePart,
    BaselinePart,
    EstimatePart,
    GatePart,
    NoticePart,
    VerdictPart,
)
from adabn_cli.record.part import Finite
from adabn_cli.record.subject import (
    FixedLayerPart,
    MethodPart,
    ModelPart,
    PreprocessingPart,
    ProfilePart,
    RunPart,
    SkippedPicture,
    TargetPart,
)

__all__ = [
    "SCHEMA_VERSION",
    "BaselineChangePart",
    "BaselinePart",
    "BrokenPicturePart",
    "CalibrationPart",
    "ChangePart",
    "ClassAccuracyPart",
    "ClassFigurePart",
    "ClassPart",
    "CollectRecord",
    "DivergencePart",
    "DivergencesPart",
    "EstimatePart",
    "EstimatedAccuracyPart",
    "EvaluationRecord",
    "FigureName",
    "FigurePart",
    "Finite",
    "FixedLayerPart",
    "GatePart",
    "HeldOutPart",
    "InspectedSite",
    "Inspection",
    "MergeRecord",
    "MethodPart",
    "ModelPart",
    "NoticePart",
    "PreprocessingPart",
    "ProfilePart",
    "ProfileRecord",
    "Record",
    "ResidualPart",
    "RoundPart",
    "RunPart",
    "SampleSizePart",
    "ScoresPart",
    "ShiftPart",
    "SitePart",
    "SkippedPicture",
    "TargetPart",
    "TaskPart",
    "VerdictPart",
]
