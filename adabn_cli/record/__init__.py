"""The record of a run: all that is known about it, as plain data. Every rendering is made from it.

Accuracies are fractions, times seconds, divergences nats. Knows no torch and no file.
"""

from __future__ import annotations

from adabn_cli.record.documents import (
    SCHEMA_VERSION,
    EvaluationRecord,
    InspectedSite,
    Inspection,
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
    "MethodPart",
    "ModelPart",
    "NoticePart",
    "PreprocessingPart",
    "ProfilePart",
    "ProfileRecord",
    "Record",
    "ResidualPart",
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
