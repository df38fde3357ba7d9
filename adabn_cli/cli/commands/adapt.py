"""`adabn adapt`: the main job."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, cast

from adabn_cli.cli import consoles, values
from adabn_cli.cli.option_groups.method import MethodOptions, SiteOptions
from adabn_cli.cli.option_groups.model import ModelPath, RunningModelOptions
from adabn_cli.cli.option_groups.option import Option
from adabn_cli.cli.option_groups.output import OutputOptions
from adabn_cli.cli.option_groups.pictures import PictureOptions
from adabn_cli.cli.option_groups.preprocessing import InputOptions
from adabn_cli.cli.option_groups.run import RunOptions
from adabn_cli.cli.progress import shown_progress
from adabn_cli.cli.shown_runs import show, show_plan
from adabn_cli.errors import UsageError
from adabn_cli.ranks import several, speaks
from adabn_cli.text import count

if TYPE_CHECKING:
    from adabn_cli.jobs.adapt.prepare import Job
    from adabn_cli.jobs.adapt.request import OnHarm
    from adabn_cli.record import Record


def adapt(
    *,
    model: ModelPath,
    target: Annotated[
        str,
        Option(
            "--target",
            "-t",
            said="line",
            metavar="DATA",
            help="The pictures to adapt to: a folder, a manifest of path,label (.csv, .tsv, "
            ".parquet), tar shards, a list of paths (.txt, or - for stdin), a quoted pattern, "
            "a video, a URL.",
        ),
    ],
    target_format: Annotated[
        str | None,
        Option(
            "--target-format",
            metavar="KIND",
            rich_help_panel="Pictures",
            help="What --target is, if its path does not tell: folder, imagefolder, list, "
            "glob, csv, tsv, parquet, tar, video, remote.",
        ),
    ] = None,
    held_out: Annotated[
        str | None,
        Option(
            "--eval",
            said="settings",
            metavar="DATA",
            rich_help_panel="Pictures",
            help="Labelled pictures to score that are not adapted to.",
        ),
    ] = None,
    loading: RunningModelOptions,
    preprocessing: InputOptions,
    pictures: PictureOptions,
    until_converged: Annotated[
        float | None,
        Option(
            "--until-converged",
            metavar="TOL",
            rich_help_panel="Pictures",
            help="Draw as many pictures as are needed, with --seed, to know the means of the worst "
            "adapted site within TOL standard deviations, e.g. 0.05.",
        ),
    ] = None,
    how: MethodOptions,
    sites: SiteOptions,
    run: RunOptions,
    tells: OutputOptions,
) -> int:
    """Score the model on a folder of pictures, re-estimate its statistics there, score it again.

    Writes a run: run.json, the adapted model in the format it came in,
    pack.safetensors and predictions.csv. The input file is never touched.
    """
    from adabn_cli.cli.ranks import among_ranks
    from adabn_cli.jobs.adapt.adabn import carry_out
    from adabn_cli.jobs.adapt.converged import prepare_enough, prepare_first
    from adabn_cli.jobs.adapt.plan import plan_of
    from adabn_cli.jobs.adapt.prepare import prepare
    from adabn_cli.jobs.adapt.request import AdaptRequest

    if several() and run.resume is not None:
        raise UsageError(
            "Several processes keep no notes of what they measure, so none can go on.",
            hint="Leave out --resume, or run in one process.",
        )
    request = AdaptRequest(
        model=replace(loading.request(model), reference=how.reference),
        target=values.location(target),
        preprocessing=preprocessing.request(),
        pictures=replace(pictures.request(), kind=target_format),
        adaptation=sites.request(method=how.method, momentum=how.momentum),
        engine=how.engine,
        profile=how.profile,
        source=values.location(how.source) if how.source else None,
        verify=run.verify,
        held_out=values.location(held_out) if held_out else None,
        on_harm=cast("OnHarm", run.on_harm),
        folder=run.folder,
        force=run.force,
        limits=run.limits,
        resume=run.resume is not None,
        dry_run=run.dry_run,
    )
    tells_little = tells.little or not speaks()
    with among_ranks(request) as request, shown_progress(quiet=tells_little) as progress:
        if until_converged is None:
            job = prepare(request, progress)
        else:
            in_rounds = prepare_first if run.dry_run else prepare_enough
            job = in_rounds(request, until_converged, progress)
        if not run.dry_run:
            if speaks():
                _tell_cost(job, quiet=tells.little)
            record = carry_out(job).record
    if not speaks():
        return 0 if run.dry_run else _exit_code(record, run.on_harm)
    if run.dry_run:
        show_plan(plan_of(job), json=tells.json)
        return 0
    show(record, json=tells.json, quiet=tells.quiet)
    return _mind_harm(record, run.on_harm)


def _tell_cost(job: Job, *, quiet: bool) -> None:
    """Says beforehand what the run takes, and where that is more than the usual two forwards."""
    from adabn_cli.jobs.adapt.plan import resources_of
    from adabn_cli.jobs.adapt.resume import is_kept
    from adabn_cli.jobs.method.judging import forwards_to_come
    from adabn_cli.reports.terminal.plan import resources_line

    if not quiet:
        target = job.pictures.target
        consoles.tell(f"Target: {count(job.pictures.images, 'picture')} from {target.kind}.")
        consoles.tell(resources_line(resources_of(job)))
    if job.request.resume and not is_kept(job.folder):
        consoles.tell(f"Nothing is kept of {job.folder}: it starts over.")
    forwards = 1 + forwards_to_come(job.installer)
    if forwards > 2:
        consoles.tell(
            f"--method {job.installer.adaptation.method} with this profile takes up to {forwards} "
            f"forwards over {count(job.pictures.images, 'picture')}."
        )


def _mind_harm(record: Record, on_harm: str) -> int:
    """The exit code; harm is told on stderr whatever stdout is for."""
    if record.verdict.outcome != "harm":
        return 0
    if record.verdict.kept_source:
        consoles.tell("warning: Adapting harms: the run holds the source model.", style="yellow")
        return 0
    consoles.tell(
        "warning: Adapting harms. --on-harm keep writes the source model instead.", style="yellow"
    )
    return _exit_code(record, on_harm)


def _exit_code(record: Record, on_harm: str) -> int:
    return 1 if record.verdict.outcome == "harm" and on_harm == "fail" else 0
