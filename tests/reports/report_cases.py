"""Records that every file format renders, and the golden files that they are held against.

`ADABN_UPDATE_GOLDEN=1 pytest tests/renderers` writes them anew; look at the difference.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path

from adabn_cli.record import (
    BaselineChangePart,
    BaselinePart,
    BrokenPicturePart,
    CalibrationPart,
    ChangePart,
    ClassFigurePart,
    ClassPart,
    DivergencesPart,
    EstimatedAccuracyPart,
    EstimatePart,
    FigurePart,
    GatePart,
    HeldOutPart,
    NoticePart,
    ProfilePart,
    Record,
    ResidualPart,
    SampleSizePart,
    ScoresPart,
    ShiftPart,
    SitePart,
    SkippedPicture,
    TaskPart,
    VerdictPart,
)

GOLDEN = Path(__file__).parent / "golden"
#: Markup, quotes, a table's pipe, code's backtick, a mention, colours, and text that turns around.
HOSTILE = (
    "</td><script>alert(1)</script>\"'`|\\| {{7*7}} @all #1 www.evil.example http://evil.example "
    "--> ]]> \x1b[31mred\r\n\u202ekcab\u200f " + "long" * 75
)
GATES = (
    GatePart(expression="collapse", value=0.1, limit=0.5, n=1797, status="passed"),
    GatePart(expression="accuracy_drop>0.5pp", value=0.02, limit=0.005, n=1797, status="failed"),
    GatePart(
        expression="residual>1e-3",
        value=None,
        limit=1e-3,
        n=None,
        status="cannot tell",
        reason="not measured: run with --verify",
    ),
)


def as_it_was(text: str, name: str) -> bool:
    """Whether the text is that of the golden file, which is written where it is asked for."""
    golden = GOLDEN / name
    if os.environ.get("ADABN_UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    return text == golden.read_text(encoding="utf-8")


def labelled(record: Record) -> Record:
    return record


def unlabelled(record: Record) -> Record:
    sentence = "No labels: whether adapting helped cannot be told from this run."
    nothing = {"accuracy": None, "accuracy_interval": None, "correct": None, "top5_accuracy": None}
    return record.model_copy(
        update={
            "target": record.target.model_copy(update={"labels": None, "labeled_images": 0}),
            "before": record.before.model_copy(update=nothing),
            "after": record.after.model_copy(update=nothing),
            "change": ChangePart(agreement=record.change.agreement),
            "classes": (),
            "verdict": VerdictPart(outcome="cannot tell", basis="none", sentence=sentence),
        }
    )


def unscored(record: Record) -> Record:
    """Nothing was scored, and no site was seen."""
    return unlabelled(record).model_copy(
        update={
            "before": ScoresPart(),
            "after": ScoresPart(),
            "change": ChangePart(),
            "kl": DivergencesPart(before=None, after=None),
            "sites": tuple(
                site.model_copy(
                    update={
                        "adapted": False,
                        "reason": "no call of it was seen",
                        "kl_before": None,
                        "kl_after": None,
                        "standard_error_max": None,
                    }
                )
                for site in record.sites
            ),
        }
    )


def _scores(scores: ScoresPart, confidences: Sequence[float], *, sure: float) -> ScoresPart:
    """The scores with all that came later; `confidences` weigh 20 bins, `sure` is by how much more
    than it is right the model is sure."""
    most = sum(confidences)
    histogram = tuple(round(scores.n * weight / most) for weight in confidences)
    middles = [(place + 0.5) / len(histogram) for place in range(len(histogram))]
    right = [
        min(n, max(0, round(n * (middle - sure))))
        for n, middle in zip(histogram, middles, strict=True)
    ]
    sums = tuple(n * middle for n, middle in zip(histogram, middles, strict=True))
    gaps = sum(abs(total - n) for total, n in zip(sums, right, strict=True))
    later = {
        "confidence_histogram": histogram,
        "mutual_information": 1.51 if sure > 0.2 else 1.98,
        "effective_classes": 4.61 if sure > 0.2 else 9.73,
        "top5_accuracy": 0.81 if sure > 0.2 else 0.97,
        "calibration": CalibrationPart(
            error=gaps / sum(histogram),
            counts=histogram,
            correct=tuple(right),
            confidence_sums=sums,
        ),
        "estimated_accuracy": EstimatedAccuracyPart(
            atc=0.463 if sure > 0.2 else 0.801,
            doc=0.512 if sure > 0.2 else 0.834,
            source_images=500,
        ),
    }
    return scores.model_copy(update=later)


def _with_shift(site: SitePart, *, seed: int) -> SitePart:
    """Shifts of its size: the first neuron dead, the last far out."""
    draw = random.Random(seed)
    means = [round(draw.gauss(0.3, 0.6), 4) for _ in range(site.channels)]
    logs = [round(draw.gauss(-0.5, 0.4), 4) for _ in range(site.channels)]
    return site.model_copy(
        update={
            "shift": ShiftPart(
                mean=(None, *means[1:-1], round(3 + 9 * draw.random() ** 2, 4)),
                log_variance_ratio=(None, *logs[1:-1], round(1.6 - draw.random(), 4)),
            )
        }
    )


def _broken(record: Record) -> tuple[BrokenPicturePart, ...]:
    names = record.model.classes or ("?",)
    return tuple(
        BrokenPicturePart(
            path=f"{index % 10}/{1000 + 7 * index}.png",
            label=names[index % len(names)],
            predicted=names[(index + 3) % len(names)],
            confidence_before=0.93 - 0.04 * index,
            confidence_after=0.999 - 0.03 * index,
        )
        for index in range(12)
    )


def whole(record: Record) -> Record:
    """A run with labels and a labelled profile, and every part that a record may hold."""
    before = _scores(record.before, [0.1 + 0.05 * x + (x > 15) for x in range(20)], sure=0.45)
    after = _scores(record.after, [0.02 * x + 3 * (x > 17) for x in range(20)], sure=0.05)
    estimate = EstimatePart(
        teacher="matched",
        images=record.target.images,
        gain=0.412,
        agreement_before=0.431,
        agreement_after=0.872,
    )
    sites = [_with_shift(site, seed=index) for index, site in enumerate(record.sites)]
    return noticed(record).model_copy(
        update={
            "before": before,
            "after": after,
            "sites": tuple(sites),
            "sample_size": SampleSizePart(
                site=record.sites[-1].name,
                tolerance=0.1,
                images=(16, 32, 64, 128, 256, 512, 1024, 1797),
                errors=(0.413, 0.292, 0.206, 0.146, 0.103, 0.0729, 0.0515, 0.039),
                enough=273,
            ),
            "broken": _broken(record),
            "notices": (
                NoticePart(kind="near-duplicates", sentence="610 of 1,797 pictures are alike."),
                NoticePart(kind="collapse", sentence="One class is predicted for 60%."),
            ),
            "verdict": record.verdict.model_copy(update={"estimate": estimate}),
            "method": noticed(record).method.model_copy(
                update={
                    "name": "auto",
                    "aim": "class mix",
                    "class_mix": (0.4, 0.2, *(0.05,) * 8),
                }
            ),
            "baseline": BaselinePart(
                path="adabn-runs/2026-11-20-digits_bn-target",
                started="2026-11-20T08:30:00+00:00",
                changes=(
                    BaselineChangePart(measure="accuracy_after", baseline=0.851, now=0.846),
                    BaselineChangePart(measure="kl_after_p95", baseline=None, now=1.2),
                ),
                differences=("the target has other pictures",),
                varied=("weights",),
            ),
        }
    )


def estimated(record: Record) -> Record:
    """No labels, but a profile, by which adapting harms: the source model was kept."""
    full = whole(record)
    sentence = (
        "Adapting probably harms: an estimated -3.1 points, without labels, by a source profile. "
        "Keep the source model."
    )
    estimate = EstimatePart(
        teacher="auto",
        images=1797,
        gain=-0.031,
        agreement_before=0.812,
        agreement_after=0.781,
    )
    blind = unlabelled(full)
    return blind.model_copy(
        update={
            "before": blind.before.model_copy(update={"calibration": None}),
            "after": blind.after.model_copy(update={"calibration": None}),
            "held_out": None,
            "broken": (),
            "gates": (),
            "baseline": None,
            "warnings": (),
            "verdict": VerdictPart(
                outcome="harm",
                basis="profile",
                sentence=sentence,
                estimate=estimate,
                kept_source=True,
            ),
        }
    )


def noticed(record: Record) -> Record:
    """All that a record may hold beside the story."""
    skipped = tuple(SkippedPicture(path=f"3/{n}.png", reason="cut off") for n in range(1200))
    profile = ProfilePart(path="digits.profile", found="beside the model", images=256, labeled=256)
    last = record.sites[-1].model_copy(
        update={"dead_channels": 3, "adapted": False, "reason": "left out by --layers"}
    )
    return record.model_copy(
        update={
            "model": record.model.model_copy(update={"trusted_pickle": True}),
            "target": record.target.model_copy(
                update={
                    "skipped": skipped,
                    "other_files": 2,
                    "conversions": {"CMYK to RGB": 7},
                    "subsample": {"of": 3000, "seed": 0},
                }
            ),
            "method": record.method.model_copy(update={"prior": "auto", "profile": profile}),
            "held_out": HeldOutPart(
                path="sample_data/held_out",
                images=record.target.images,
                before=record.before,
                after=record.after,
                change=record.change,
            ),
            "kl": record.kl.model_copy(
                update={"histogram_before": record.kl.before, "histogram_after": record.kl.after}
            ),
            "sites": (*record.sites[:-1], last),
            "residual": ResidualPart(max_mean=2.4e-8, max_log_variance=1.2e-7, site="13"),
            "warnings": ("The first site (1) sees a shift of 5.1 nats, but only 0.2 with X.",),
            "gates": GATES,
        }
    )


def segmented(record: Record) -> Record:
    """A model that gives maps, held against masks."""
    record = unlabelled(whole(record))
    figures = (
        FigurePart(name="mean IoU", unit="share", before=0.31, after=0.52, interval=(0.19, 0.23)),
        FigurePart(
            name="pixel accuracy", unit="share", before=0.8, after=0.9, interval=(0.09, 0.11)
        ),
    )
    classes = tuple(
        ClassFigurePart(name=name, n=n, before=before, after=after)
        for name, n, before, after in (("road", 1797, 0.9, 0.95), ("sign", 20, 0.0, None))
    )
    task = TaskPart(
        task="segmentation", truth="masks from masks", n=1797, figures=figures, classes=classes
    )
    verdict = VerdictPart(
        outcome="help", basis="labels", sentence="Adapting helps: mean IoU +21.0 points."
    )
    return record.model_copy(update={"task": task, "verdict": verdict})


def hostile(record: Record) -> Record:
    """Names that try to be something else, wherever a name may stand."""
    record = whole(record)
    site = record.sites[0].model_copy(
        update={"name": HOSTILE, "adapted": False, "reason": HOSTILE, "kind": HOSTILE}
    )
    names = (HOSTILE, "עברית", *(record.model.classes or ())[2:])
    return record.model_copy(
        update={
            "model": record.model.model_copy(
                update={"path": HOSTILE, "architecture": HOSTILE, "classes": names}
            ),
            "target": record.target.model_copy(
                update={
                    "path": "עברית/" + HOSTILE,
                    "labels": HOSTILE,
                    "skipped": (SkippedPicture(path=HOSTILE, reason=HOSTILE),),
                }
            ),
            "classes": (
                record.classes[0].model_copy(update={"name": HOSTILE}),
                *record.classes[1:],
            ),
            "sites": (site, *record.sites[1:]),
            "residual": ResidualPart(max_mean=1e-8, max_log_variance=1e-7, site=HOSTILE),
            "sample_size": record.sample_size.model_copy(update={"site": HOSTILE}),
            "task": TaskPart(
                task="segmentation",
                truth=HOSTILE,
                n=3,
                figures=(FigurePart(name="mean IoU", unit="share", before=0.1, after=0.2),),
                classes=(ClassFigurePart(name=HOSTILE, n=3, before=0.1, after=0.2),),
            ),
            "broken": tuple(
                part.model_copy(update={"path": HOSTILE, "label": HOSTILE, "predicted": "עברית"})
                for part in record.broken
            ),
            "notices": (NoticePart(kind="collapse", sentence=HOSTILE),),
            "baseline": record.baseline.model_copy(
                update={"path": HOSTILE, "differences": (HOSTILE,), "varied": (HOSTILE,)}
            ),
            "verdict": record.verdict.model_copy(update={"sentence": HOSTILE}),
            "warnings": (HOSTILE,),
            "gates": tuple(
                gate.model_copy(update={"expression": HOSTILE, "reason": HOSTILE})
                for gate in record.gates
            ),
            "run": record.run.model_copy(update={"folder": HOSTILE, "host": HOSTILE}),
        }
    )


def large(
    record: Record, *, classes: int = 50, sites: int = 200, channels: int = 16, name: str = ""
) -> Record:
    """A model of many classes and sites, on 20,000 pictures of which as many were skipped."""
    record = whole(record)
    site, first = record.sites[0].model_copy(update={"channels": channels}), record.classes[0]
    kl = site.kl_before
    assert kl is not None
    n = 20_000 // classes or 1
    return record.model_copy(
        update={
            "model": record.model.model_copy(
                update={"classes": tuple(f"class {index}{name}" for index in range(classes))}
            ),
            "before": record.before.model_copy(update={"predicted_histogram": (n,) * classes}),
            "after": record.after.model_copy(update={"predicted_histogram": (n + 1,) * classes}),
            "classes": tuple(
                ClassPart(
                    **first.model_dump()
                    | {"name": f"class {index}{name}", "after": index / classes, "n": n}
                )
                for index in range(classes)
            ),
            "sites": tuple(
                _with_shift(site, seed=index).model_copy(
                    update={
                        "name": f"layer{index // 50 + 1}.{index % 50}.bn1{name}",
                        "kl_before": kl.model_copy(update={"mean": (index * 37 % 200 + 1) / 50}),
                    }
                )
                for index in range(sites)
            ),
            "target": record.target.model_copy(
                update={
                    "skipped": tuple(
                        SkippedPicture(path=f"{index}{name}.png", reason="cut off")
                        for index in range(20_000)
                    )
                }
            ),
        }
    )


CASES = {
    "labelled": labelled,
    "unlabelled": unlabelled,
    "unscored": unscored,
    "noticed": noticed,
    "whole": whole,
    "estimated": estimated,
    "segmented": segmented,
    "hostile": hostile,
}
