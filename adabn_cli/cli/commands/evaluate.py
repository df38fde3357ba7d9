"""`adabn evaluate`: score a model on labeled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from adabn_cli.cli import values
from adabn_cli.cli.option_groups.model import ModelPath, RunningModelOptions
from adabn_cli.cli.option_groups.option import Option
from adabn_cli.cli.option_groups.output import OutputOptions
from adabn_cli.cli.option_groups.pictures import PictureOptions
from adabn_cli.cli.option_groups.preprocessing import InputOptions
from adabn_cli.cli.progress import shown_progress


def evaluate(
    *,
    model: ModelPath,
    data: Annotated[
        str,
        Option(
            "--data",
            "-d",
            said="line",
            metavar="DATA",
            help="The labeled pictures, as --target of adapt.",
        ),
    ],
    pack: Annotated[
        Path | None,
        Option(
            "--pack", said="line", metavar="FILE", help="Put this domain pack in before scoring."
        ),
    ] = None,
    loading: RunningModelOptions,
    preprocessing: InputOptions,
    pictures: PictureOptions,
    tells: OutputOptions,
) -> int:
    """Score a model on labeled pictures, with or without a domain pack."""
    from adabn_cli.jobs.evaluate import EvaluateRequest
    from adabn_cli.jobs.evaluate import evaluate as evaluate_model
    from adabn_cli.reports.terminal.evaluation import render

    request = EvaluateRequest(
        model=loading.request(model),
        data=values.location(data),
        preprocessing=preprocessing.request(),
        pictures=pictures.request(),
        pack=pack,
    )
    with shown_progress(quiet=tells.little) as progress:
        record = evaluate_model(request, progress)
    figure = record.task.figures[0].after if record.task else record.scores.accuracy
    tells.show(record.model_dump_json(), figure, lambda: render(record))
    return 0
