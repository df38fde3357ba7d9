"""How many pictures are enough: drawn in rounds until every mean is known within a tolerance.

Knows how many to draw next; not how a run is carried out. Draws with one seed are nested, so every
round holds the pictures of the one before, and decodes the others alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from math import ceil, isfinite

from adabn_cli.adaptation.engines import engine
from adabn_cli.data.open import Draws
from adabn_cli.errors import UsageError
from adabn_cli.jobs.adapt.prepare import Begun, Job, begin, with_pictures
from adabn_cli.jobs.adapt.request import AdaptRequest
from adabn_cli.jobs.method.class_mix import explaining_aim
from adabn_cli.jobs.method.observed import observed
from adabn_cli.jobs.results.sample_size import Search
from adabn_cli.jobs.results.sections import worst_error
from adabn_cli.jobs.scored_data import target_request
from adabn_cli.model import no_output
from adabn_cli.record import RoundPart

#: Pictures of the first round. From 64 a standard error is known to 9% (1 / sqrt(2 * 63)), enough
#: for a forecast.
FIRST_ROUND = 64
# That error counts twice in the forecast, which goes by its square.
_MARGIN = 1.2
# A smaller step would pay a whole round for a few pictures more.
_LEAST_GROWTH = 1.5
# In standard deviations. float32 tells values apart by 6e-8 of them: nothing below can be reached.
_LEAST_TOLERANCE = 1e-6
_UNKNOWN = "How well its means are known cannot be told from one picture: give more of them."

Tell = Callable[[str, int, int], None]


def prepare_first(request: AdaptRequest, tolerance: float, tell: Tell | None = None) -> Job:
    """The first round, prepared; nothing is measured, so how many will do is not known."""
    _check(request, tolerance)
    return replace(_drawn(begin(request, tell), FIRST_ROUND), search=Search(tolerance))


def prepare_enough(request: AdaptRequest, tolerance: float, tell: Tell | None = None) -> Job:
    """A job of so many pictures that the worst adapted site's means are known within `tolerance`.

    `tolerance` is in standard deviations. It is the job that `prepare` makes with that number as
    `max_images`; where no number will do, with all pictures there are. Raises UsageError for a
    tolerance that is none and for what does not go by rounds; else what `prepare` raises.
    """
    _check(request, tolerance)
    since, draw, rounds = time.perf_counter(), FIRST_ROUND, list[RoundPart]()
    asked = request.pictures.max_images
    begun = begin(request, tell)
    with closing(_draws(begun)) as draws:
        job = _drawn(begun, draw, draws)
        while (most := _most(job, asked)) > draw:
            error = _worst_error(job)
            if error is not None and error <= tolerance:
                break
            rounds.append(RoundPart(images=job.pictures.images, error=error))
            draw = _next_draw(draw, most, error, tolerance)
            del job  # Its pictures would stay in memory beside the copy that has room for more.
            job = _drawn(begun, draw, draws)
    seconds = begun.stages.seconds
    others = sum(taken for name, taken in seconds.items() if name != "search")
    seconds["search"] = time.perf_counter() - since - others
    search = Search(tolerance, tuple(rounds))
    doubts = (_UNKNOWN,) if job.pictures.images < 2 else ()
    return replace(job, search=search, warnings=(*job.warnings, *doubts))


def _check(request: AdaptRequest, tolerance: float) -> None:
    if not (isfinite(tolerance) and tolerance >= _LEAST_TOLERANCE):
        raise UsageError(
            f"--until-converged {tolerance:g} is not a tolerance that can be reached.",
            hint=f"Give standard deviations, {_LEAST_TOLERANCE:g} or more, as 0.05.",
        )
    if request.pictures.ranks.size > 1:
        raise UsageError(
            "--until-converged draws pictures in one process.",
            hint="Leave torchrun out, or say how many with --max-images.",
        )
    method = request.adaptation.method
    exact = engine(request.engine).side_by_side
    other = f"--method {method}" if exact else f"--engine {request.engine}"
    if not exact or method == "auto":
        raise UsageError(
            f"--until-converged needs the exact statistics of one method, not {other}.",
            hint=f"Leave {other} out, or say how many pictures with --max-images.",
        )


def _draws(begun: Begun) -> Draws:
    request = begun.request
    with begun.stages.stage("read"):
        return Draws(target_request(request.target, begun.preprocessing, request.pictures))


def _drawn(begun: Begun, draw: int, draws: Draws | None = None) -> Job:
    """The job of so many pictures, or of `--max-images` where these are fewer."""
    pictures = begun.request.pictures
    draw = min(draw, pictures.max_images or draw)
    request = replace(begun.request, pictures=replace(pictures, max_images=draw))
    return with_pictures(replace(begun, request=request), draws)


def _most(job: Job, asked: int | None) -> int:
    """How many pictures may be drawn: those there are, that fit, or that were asked for."""
    listed = len(job.pictures.target.listing.pictures)
    return min(listed, job.memory.draw or listed, asked or listed)


def _next_draw(draw: int, most: int, error: float | None, tolerance: float) -> int:
    """So many as the root law forecasts, half as many again at least, and no more than there are.

    Where no error is known, as of fewer than two pictures, nothing is forecast.
    """
    forecast = _MARGIN * (error / tolerance) ** 2 if error is not None else 0.0
    return min(most, ceil(draw * max(_LEAST_GROWTH, forecast)))


def _worst_error(job: Job) -> float | None:
    """The largest standard error of a mean at the adapted sites; the model is left as it was.

    It is the figure that the run itself comes to. None where none is known.
    """
    installer, passes = job.installer, job.passes()
    try:
        with job.stages.stage("search") as progress:
            if installer.aim.expected:  # The mix of classes to match is seen on the source model.
                before = observed(installer, passes, job.pictures.head, progress)
                installer = installer.aimed_at(explaining_aim(installer, installer.aim, before))
            found = job.engine.estimate(installer, passes, no_output, progress)
    finally:
        installer.undo()
    return worst_error(installer, {name: found.measured[name] for name in found.installed})
