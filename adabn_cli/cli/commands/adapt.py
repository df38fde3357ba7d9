"""`adabn adapt`: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from adabn_cli.cli import consoles, values
from adabn_cli.cli.commands.run_report import show, show_plan
from adabn_cli.cli.option_groups import data as data_options
from adabn_cli.cli.option_groups import labels as label_options
from adabn_cli.cli.option_groups import shared as options
from adabn_cli.cli.progress import shown_progress
from adabn_cli.errors import UsageError
from adabn_cli.ranks import several, speaks
from adabn_cli.text import count

if TYPE_CHECKING:
    from adabn_cli.adaptation.methods import Method
    from adabn_cli.jobs.adapt.prepare import Job
    from adabn_cli.jobs.adapt.request import OnHarm
    from adabn_cli.record import Record

_METHOD = "Method"


def adapt(
    model: options.ModelPath,
    target: Annotated[
        str,
        typer.Option(
            "--target",
            "-t",
            metavar="DATA",
            help="The pictures to adapt to: a folder, a manifest of path,label (.csv, .tsv, "
            ".parquet), tar shards, a list of paths (.txt, or - for stdin), a quoted pattern, "
            "a video, a URL.",
        ),
    ],
    target_format: Annotated[
        str | None,
        typer.Option(
            "--target-format",
            metavar="KIND",
            envvar="ADABN_TARGET_FORMAT",
            rich_help_panel="Pictures",
            help="What --target is, where its path does not tell: folder, imagefolder, list, "
            "glob, csv, tsv, parquet, tar, video, remote.",
        ),
    ] = None,
    held_out: Annotated[
        str | None,
        typer.Option(
            "--eval",
            metavar="DATA",
            rich_help_panel="Pictures",
            help="Labelled pictures to score that are not adapted to.",
        ),
    ] = None,
    arch: options.Arch = None,
    arch_args: options.ArchArgs = "",
    weights: options.Weights = None,
    output: options.OutputKey = None,
    input_name: options.InputName = None,
    trust_pickle: options.TrustPickle = False,
    device: options.Device = "auto",
    bf16: options.Bf16 = False,
    img_size: options.ImgSize = None,
    mean: options.Mean = None,
    std: options.Std = None,
    crop_pct: options.CropPct = None,
    interpolation: options.Interpolation = None,
    fast_decode: options.FastDecode = False,
    labels: options.LabelsFrom = "auto",
    class_map: label_options.ClassMap = None,
    label_offset: label_options.LabelOffset = None,
    class_order: label_options.ClassOrder = None,
    path_column: data_options.PathColumn = None,
    label_column: data_options.LabelColumn = None,
    path_suffix: data_options.PathSuffix = None,
    task: options.TaskName = "auto",
    masks: options.MasksFrom = None,
    batch_size: options.BatchSize = 32,
    workers: options.Workers = None,
    max_images: options.MaxImages = None,
    max_bad: options.MaxBad = "5%",
    stride: options.Stride = 1,
    value_range: options.ValueRange = None,
    max_pixels: data_options.MaxPixels = None,
    seed: options.Seed = 0,
    until_converged: Annotated[
        float | None,
        typer.Option(
            "--until-converged",
            metavar="TOL",
            envvar="ADABN_UNTIL_CONVERGED",
            rich_help_panel="Pictures",
            help="Draw as many pictures as it takes, with --seed, to know the means of the worst "
            "adapted site within TOL standard deviations, as 0.05.",
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            metavar="exact|one-pass|online",
            envvar="ADABN_ENGINE",
            rich_help_panel=_METHOD,
            help="exact: self-consistent, whatever the order and batch size. one-pass: train-mode "
            "statistics as other tools compute them, for comparison. online: running statistics, "
            "for streams; depends on the order.",
        ),
    ] = "exact",
    momentum: Annotated[
        float | None,
        typer.Option(
            "--momentum",
            metavar="M",
            envvar="ADABN_MOMENTUM",
            rich_help_panel=_METHOD,
            help="With --engine online: the weight in 0 to 1 of each new batch, from the source "
            "on. Without it every picture counts alike.",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            metavar="adabn|matched|auto",
            envvar="ADABN_METHOD",
            rich_help_panel=_METHOD,
            help="adabn: the target's statistics, the default without a profile. matched: held "
            "against a source profile and trusted by sample size, the default with one. auto: "
            "the surest of these and of a corrected mix of classes, in up to six forwards.",
        ),
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(
            "--profile",
            metavar="FILE",
            rich_help_panel=_METHOD,
            help="What `adabn profile` measured on source pictures; MODEL.profile beside the model "
            "is found by itself.",
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            metavar="DATA",
            rich_help_panel=_METHOD,
            help="Source pictures to profile first, 256 of them.",
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference",
            metavar="MODEL",
            rich_help_panel=_METHOD,
            help="The checkpoint that an ONNX graph was exported from, where the export has folded "
            "its BatchNorm layers away.",
        ),
    ] = None,
    layers: options.Layers = None,
    prior: options.Prior = None,
    alpha: options.Alpha = None,
    adapt_initial: options.AdaptInitial = False,
    on_harm: Annotated[
        str,
        typer.Option(
            "--on-harm",
            metavar="keep|warn|fail",
            envvar="ADABN_ON_HARM",
            rich_help_panel=_METHOD,
            help="Where the verdict is harm: warn, or keep the source model in the run, or exit 1.",
        ),
    ] = "warn",
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            envvar="ADABN_VERIFY",
            rich_help_panel=_METHOD,
            help="Measure the residual by one more, independent pass.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            rich_help_panel="Output",
            help="The run's folder; by default adabn-runs/DATE-MODEL-TARGET.",
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", rich_help_panel="Output", help="Replace the run that is there."),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", rich_help_panel="Output", help="Say what would be done."),
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            metavar="RUN",
            rich_help_panel="Output",
            help="Go on with a run that was stopped; with the command as it was otherwise.",
        ),
    ] = None,
    memory: options.Memory = None,
    spill_dir: options.SpillDir = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Score the model on a folder of pictures, re-estimate its statistics there, score it again.

    Writes a run: run.json, the adapted model in the format it came in,
    pack.safetensors and predictions.csv. The input file is never touched.
    """
    from adabn_cli.adaptation.methods import Adaptation
    from adabn_cli.cli.ranks import among_ranks
    from adabn_cli.jobs.adapt.adabn import carry_out
    from adabn_cli.jobs.adapt.converged import prepare_enough, prepare_first
    from adabn_cli.jobs.adapt.memory_plan import Limits
    from adabn_cli.jobs.adapt.plan import plan_of
    from adabn_cli.jobs.adapt.prepare import prepare
    from adabn_cli.jobs.adapt.request import AdaptRequest
    from adabn_cli.jobs.scored_data import PicturesRequest
    from adabn_cli.models.architectures.build import parse_arch_args
    from adabn_cli.models.open import ModelRequest

    if several() and resume is not None:
        raise UsageError(
            "Several processes keep no notes of what they measure, so none can go on.",
            hint="Leave out --resume, or run in one process.",
        )
    request = AdaptRequest(
        model=ModelRequest(
            model,
            arch=arch,
            arch_args=parse_arch_args(arch_args),
            weights=weights,
            output=output,
            trust_pickle=trust_pickle,
            device=device,
            input_name=input_name,
            bf16=bf16,
            reference=reference,
        ),
        target=values.location(target),
        preprocessing=values.preprocessing_options(
            img_size, mean, std, crop_pct, interpolation, fast_decode=fast_decode
        ),
        pictures=PicturesRequest(
            *(batch_size, workers, max_images, values.max_bad(max_bad), seed, labels, class_map),
            kind=target_format,
            stride=stride,
            value_range=values.value_range(value_range),
            label_offset=label_offset,
            class_order=values.class_order(class_order),
            columns=values.columns(path_column, label_column, path_suffix),
            max_pixels=values.pixels(max_pixels),
            task=task,
            masks=masks,
        ),
        adaptation=Adaptation(
            layers=values.layers(layers),
            prior=values.prior(prior),
            alpha=alpha,
            method=cast("Method | None", method),
            momentum=momentum,
            adapt_initial=adapt_initial,
        ),
        engine=engine,
        profile=profile,
        source=values.location(source) if source else None,
        verify=verify,
        held_out=values.location(held_out) if held_out else None,
        on_harm=cast("OnHarm", on_harm),
        folder=values.run_folder(out, resume),
        force=force,
        limits=Limits(values.memory(memory), spill_dir),
        resume=resume is not None,
        dry_run=dry_run,
    )
    tells_little = quiet or json_ or not speaks()
    with among_ranks(request) as request, shown_progress(quiet=tells_little) as progress:
        if until_converged is None:
            job = prepare(request, progress)
        else:
            in_rounds = prepare_first if dry_run else prepare_enough
            job = in_rounds(request, until_converged, progress)
        if not dry_run:
            if speaks():
                _tell_cost(job, quiet=quiet or json_)
            record = carry_out(job).record
    if not speaks():
        return 0 if dry_run else _exit_code(record, on_harm)
    if dry_run:
        show_plan(plan_of(job), json=json_)
        return 0
    show(record, json=json_, quiet=quiet)
    return _mind_harm(record, on_harm)


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
