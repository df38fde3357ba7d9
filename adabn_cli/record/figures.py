"""What a run measured. Accuracies are fractions, divergences nats."""

from __future__ import annotations

from typing import Literal

from adabn_cli.record.part import Finite, Part


class CalibrationPart(Part):
    """Confidence held against accuracy in bins of equal width from 0 to 1, over labelled images.

    Counts and sums, so that two of them can be added; `error` is the expected calibration error.
    """

    error: float
    counts: tuple[int, ...]
    correct: tuple[int, ...]
    confidence_sums: tuple[float, ...]


class EstimatedAccuracyPart(Part):
    """Accuracy as it follows from confidences, by a profile of labelled source pictures.

    Estimates, no measurements. `atc`: average thresholded confidence (Garg et al. 2022); `doc`:
    difference of confidences (Guillory et al. 2021).
    """

    atc: float
    doc: float
    source_images: int


class ScoresPart(Part):
    """The model's predictions on `n` images, `labeled` of which have a label to be right about.

    `mutual_information` is that of image and predicted class, in nats; `effective_classes` how
    many classes, predicted equally often, would be as diverse as those that were predicted.
    `confidence_histogram` counts images in 20 bins of equal width from 0 to 1.
    """

    accuracy: float | None = None
    accuracy_interval: tuple[float, float] | None = None
    correct: int | None = None
    labeled: int = 0
    confidence_mean: float | None = None
    entropy_mean: float | None = None
    predicted_histogram: tuple[int, ...] = ()
    confidence_histogram: tuple[int, ...] = ()
    mutual_information: float | None = None
    effective_classes: float | None = None
    top5_accuracy: float | None = None
    calibration: CalibrationPart | None = None
    estimated_accuracy: EstimatedAccuracyPart | None = None
    not_finite: int = 0
    n: int = 0


FigureName = Literal[
    "mean IoU",
    "pixel accuracy",
    "mean average precision",
    "mean absolute error",
    "root mean square error",
    "boxes a picture",
]


class FigurePart(Part):
    """A figure of a task. `unit` "share": a fraction, of which more is better; "error": less is.

    `interval` is the 95% bootstrap interval of the difference, over images, after less before.
    "count" is held against nothing. Of a single scoring there is no `before`.
    """

    name: FigureName
    unit: Literal["share", "error", "count"]
    before: Finite = None
    after: Finite = None
    interval: tuple[float, float] | None = None


class ClassFigurePart(Part):
    """One class, label or number: `n` images have it; the task's first figure of it alone."""

    name: str
    n: int
    before: Finite = None
    after: Finite = None


class TaskPart(Part):
    """What a model's outputs are for where they are no class scores, and how good they are.

    `truth` says what they were held against, for `n` images; None without any. The first figure is
    what the verdict rests on.
    """

    task: Literal["segmentation", "multi-label", "regression", "detection"]
    truth: str | None = None
    n: int = 0
    figures: tuple[FigurePart, ...] = ()
    classes: tuple[ClassFigurePart, ...] = ()


class ChangePart(Part):
    """After against before, on the same images. Accuracy and interval are differences."""

    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    fixed: int | None = None
    broken: int | None = None
    mcnemar_p: float | None = None
    agreement: float | None = None
    n: int = 0


class ClassPart(Part):
    """One class: `n` labelled images; the McNemar p is Holm's, None below 30 images."""

    name: str
    n: int
    before: float
    after: float
    fixed: int
    broken: int
    mcnemar_p: float | None


class ClassAccuracyPart(Part):
    """One class of a single scoring: `n` labelled images."""

    name: str
    n: int
    correct: int
    accuracy: float
    interval: tuple[float, float]


class DivergencePart(Part):
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


class DivergencesPart(Part):
    """Target against source, before and after; None where no site was visited.

    The histogram figures compare the neurons' histograms on the target with those of the source
    profile, without taking either for Gaussian.
    """

    before: DivergencePart | None
    after: DivergencePart | None
    histogram_before: DivergencePart | None = None
    histogram_after: DivergencePart | None = None


class ShiftPart(Part):
    """Where every channel's target lies beside its source, in order of the channels.

    `mean` in standard deviations of the source, `log_variance_ratio` as log(target / source); None
    where a channel is dead. Rounded to four digits.
    """

    mean: tuple[float | None, ...]
    log_variance_ratio: tuple[float | None, ...]


class SitePart(Part):
    """One site. `standard_error_max` is in standard deviations of its channel.

    `uses` is how often one forward comes to it; what they see is pooled.
    """

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
    shift: ShiftPart | None = None
    uses: int | None = None


class RoundPart(Part):
    """One round of a search: the worst site's standard error, measured over so many images."""

    images: int
    error: Finite


class SampleSizePart(Part):
    """Whether the images are enough to know every site's means.

    `errors` are the standard errors of the worst site, in standard deviations of its channel, over
    as many of the images as `images` says; they follow from the spread between images. `enough` is
    the number of images from which the worst is under `tolerance`. `rounds` were measured, the last
    of them in the run itself, where `tolerance` was asked for by --until-converged.
    """

    site: str
    tolerance: float
    images: tuple[int, ...]
    errors: tuple[float, ...]
    enough: int
    rounds: tuple[RoundPart, ...] = ()


class BrokenPicturePart(Part):
    """A picture that the source model had right and the adapted one has wrong."""

    path: str
    label: str
    predicted: str
    confidence_before: float
    confidence_after: float


class ResidualPart(Part):
    """What an independent eval pass of the adapted model finds beside its stored statistics."""

    max_mean: Finite
    max_log_variance: Finite
    site: str


class HeldOutPart(Part):
    """The same comparison on pictures that were not adapted to."""

    path: str
    images: int
    before: ScoresPart
    after: ScoresPart
    change: ChangePart
