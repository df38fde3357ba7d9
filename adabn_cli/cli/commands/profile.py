"""`adabn profile`: measure the source domain once, so that no source picture is needed later."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from adabn_cli.cli import values
from adabn_cli.cli.option_groups.model import ModelPath, RunningModelOptions
from adabn_cli.cli.option_groups.option import Option
from adabn_cli.cli.option_groups.output import Force, OutputOptions
from adabn_cli.cli.option_groups.pictures import MaxImages, PictureOptions
from adabn_cli.cli.option_groups.preprocessing import InputOptions
from adabn_cli.cli.option_groups.spread import Without
from adabn_cli.cli.progress import shown_progress


class SourcePictureOptions(PictureOptions):
    """Those of the source, of which a few are enough."""

    max_images: MaxImages = 256


def profile(
    *,
    model: ModelPath,
    source: Annotated[
        str,
        Option(
            "--source",
            "-s",
            said="line",
            metavar="DATA",
            help="Pictures of the kind that the model was trained on, of all its classes, as "
            "--target of adapt.",
        ),
    ],
    out: Annotated[
        Path | None,
        Option(
            "--out",
            "-o",
            said="line",
            metavar="FILE",
            help="The profile to write; by default MODEL with the suffix .profile, where adapt "
            "finds it.",
        ),
    ] = None,
    force: Force = False,
    loading: Annotated[RunningModelOptions, Without("bf16")],
    preprocessing: InputOptions,
    pictures: Annotated[SourcePictureOptions, Without("task", "masks")],
    tells: OutputOptions,
) -> int:
    """Measure what a model's layers show on source pictures, into a small file.

    `adapt --profile FILE` holds the target against it. Models that store no
    statistics (Weight Normalization, BatchNorm folded away) adapt only so.
    """
    from adabn_cli.jobs.profile import ProfileRequest
    from adabn_cli.jobs.profile import profile as profile_model
    from adabn_cli.reports.terminal.profile import render

    request = ProfileRequest(
        model=loading.request(model),
        source=values.location(source),
        preprocessing=preprocessing.request(),
        pictures=pictures.request(),
        out=out,
        force=force,
    )
    with shown_progress(quiet=tells.little) as progress:
        record = profile_model(request, progress)
    tells.show(record.model_dump_json(), record.path, lambda: render(record))
    return 0
