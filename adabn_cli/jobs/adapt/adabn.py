"""The main job, top to bottom: adapt one model to one target, prove what that did, write the run.

AdaBN (Li et al. 2016) puts the target's statistics in the place of the source's, site by site.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from adabn_cli.adaptation.engines import Engine
from adabn_cli.adaptation.engines.passes import Passes
from adabn_cli.adaptation.installer import Installer
from adabn_cli.jobs.adapt.held_out import open_held_out, score_held_out, with_believed_labels
from adabn_cli.jobs.adapt.prepare import Job, prepare
from adabn_cli.jobs.adapt.request import AdaptRequest
from adabn_cli.jobs.adapt.resume import kept_while_running
from adabn_cli.jobs.adapt.writing import write_run
from adabn_cli.jobs.checks.adaptable import require_signal
from adabn_cli.jobs.method.class_mix import explaining_aim
from adabn_cli.jobs.method.contest import adapted, contest
from adabn_cli.jobs.method.judging import judge
from adabn_cli.jobs.method.observed import observed
from adabn_cli.jobs.method.outcome import Outcome
from adabn_cli.jobs.method.verifying import as_written, worst_residual
from adabn_cli.jobs.results.record import held_out_part
from adabn_cli.jobs.stages import Stages
from adabn_cli.machine import keeping_freed
from adabn_cli.measures.heads import Head
from adabn_cli.record import Record


@dataclass(frozen=True)
class Run:
    """A finished run: its record, and the folder it was written to."""

    record: Record
    folder: Path


def adapt(request: AdaptRequest, tell: Callable[[str, int, int], None] | None = None) -> Run:
    """Adapts a checkpoint to a folder of pictures and writes the run.

    `tell` gets (stage, done, total). Raises UsageError, ModelError or TargetError with nothing
    written: a run appears whole or not at all.
    """
    return carry_out(prepare(request, tell))


def carry_out(job: Job) -> Run:
    """Adapts, measures and writes what was prepared."""
    with kept_while_running(job) as journal:
        held_out = open_held_out(job)
        held_before = score_held_out(job, None if job.belief.impossible else held_out)
        outcome = adabn(
            job.installer,
            job.passes(journal),
            job.engine,
            job.stages,
            head=job.pictures.head,
            verify=job.request.verify,
        )
        held_after = score_held_out(job, held_out)
        job, held_out = with_believed_labels(job, held_out)
        part = held_out_part(held_out, held_before, held_after) if held_out else None
        return Run(write_run(job, outcome, part), job.folder)


def adabn(
    installer: Installer,
    passes: Passes,
    engine: Engine,
    stages: Stages,
    *,
    head: Head | None = None,
    verify: bool = False,
) -> Outcome:
    """The method. The model is left adapted; it comes back as it was if anything raises.

    A `head` takes the outputs if they are not class scores. Raises ModelError if no selected site
    gave a signal.
    """
    with installer.undone_on_failure(), nullcontext() if passes.waiting.tight else keeping_freed():
        # The source model on the target: every site's moments, every picture's prediction.
        with stages.stage("before") as progress:
            before = observed(installer, passes, head, progress)
        require_signal(installer, before.sites)
        # By AdaBN a site has no aim but the target; matched, it is to show what it shows on source
        # pictures, or on a mix of their classes if that explains the target.
        installer = installer.aimed_at(explaining_aim(installer, installer.aim, before))
        # One forward that waits at every site: measured, replaced, gone on from.
        with stages.stage("adapt") as progress:
            chosen = contest if installer.adaptation.method == "auto" else adapted
            after = chosen(installer, passes, engine, [before.scores], progress)
        # The adapted model as it will be written, against what was installed.
        residual = None
        if verify:
            with stages.stage("verify") as progress:
                seen = as_written(after.installer, passes, progress)
            residual = worst_residual(after.installer, after.estimate, seen)
        elif after.estimate.forwards > 1:  # In a single one, what it saw is what it installed.
            residual = worst_residual(after.installer, after.estimate, after.estimate.measured)
        # What it is worth without labels, by another adapted model.
        with stages.stage("judge") as progress:
            judgement = judge(before, after, passes, engine, progress)
    return Outcome(
        before=before,
        after=after,
        residual=residual,
        judgement=judgement,
        uses=Counter(installer.model.conduct.order),
    )
