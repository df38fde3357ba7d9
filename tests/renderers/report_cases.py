"""Records that every file format renders, and the golden files that they are held against.

`ADABN_UPDATE_GOLDEN=1 pytest tests/renderers` writes them anew; look at the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

from adabn_cli.record import (
    ChangePart,
    ClassPart,
    DivergencesPart,
    GatePart,
    HeldOutPart,
    ProfilePart,
    Record,
    ResidualPart,
    ScoresPart,
    SkippedPicture,
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
    nothing = {"accuracy": None, "accuracy_interval": None, "correct": None}
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


def hostile(record: Record) -> Record:
    """Names that try to be something else, wherever a name may stand."""
    record = noticed(record)
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
            "verdict": record.verdict.model_copy(update={"sentence": HOSTILE}),
            "warnings": (HOSTILE,),
            "gates": tuple(
                gate.model_copy(update={"expression": HOSTILE, "reason": HOSTILE})
                for gate in record.gates
            ),
            "run": record.run.model_copy(update={"folder": HOSTILE, "host": HOSTILE}),
        }
    )


def large(record: Record, *, classes: int = 50, sites: int = 200, name: str = "") -> Record:
    """A model of many classes and sites, on 20,000 pictures of which as many were skipped."""
    site, first = record.sites[0], record.classes[0]
    kl = site.kl_before
    assert kl is not None
    n = 20_000 // classes or 1
    return noticed(record).model_copy(
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
                site.model_copy(
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
    "hostile": hostile,
}
