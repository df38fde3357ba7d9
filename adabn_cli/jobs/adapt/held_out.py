"""Pictures of `--eval`: they are scored before and after, and not adapted to."""

from __future__ import annotations

from dataclasses import replace

from adabn_cli.jobs.adapt.prepare import Job, require_run_apart
from adabn_cli.jobs.scored_data import ScoredPictures, open_pictures, require_used
from adabn_cli.jobs.scoring import score
from adabn_cli.measures.scores import Scores
from adabn_cli.ranks import ALONE


def open_held_out(job: Job) -> ScoredPictures | None:
    """The pictures that the request names, if it names any."""
    if job.request.held_out is None:
        return None
    request = job.request.pictures
    # A file of labels is of the target's pictures, and so are masks.
    labels = request.labels if request.labels in ("auto", "none") else "auto"
    request = replace(request, labels=labels, masks=None, kind=None, ranks=ALONE)
    with job.stages.stage("held out") as progress:
        held_out = open_pictures(
            job.request.held_out, job.opened.model, job.preprocessing, request, progress
        )
    require_run_apart(job.folder, held_out.files)
    if job.request.source is None:
        require_used(request, job.pictures, held_out)
    return held_out


def score_held_out(job: Job, held_out: ScoredPictures | None) -> Scores:
    """What the model as it is now says of them; empty scores if there are none."""
    if held_out is None:
        return Scores()
    with job.stages.stage("held out") as progress:
        return score(job.opened.model, held_out.target.batches(), progress, held_out.head)


def with_believed_labels(
    job: Job, held_out: ScoredPictures | None
) -> tuple[Job, ScoredPictures | None]:
    """Both without labels that the adapted model contradicts, which the warnings tell."""
    pictures, doubts = job.pictures.believed()
    if held_out is not None:
        held_out, more = held_out.believed()
        notes = (f"Of the held-out pictures: {note}" for note in held_out.picture_notes)
        doubts = (*doubts, *more, *notes)
    return replace(job, pictures=pictures, warnings=(*job.warnings, *doubts)), held_out
