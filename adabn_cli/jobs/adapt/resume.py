"""A run that goes on where an earlier process was stopped: with the same request only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from adabn_cli.adaptation.engines.spill_file import SpillError
from adabn_cli.dependence import settings
from adabn_cli.errors import StoppedError, UsageError
from adabn_cli.jobs.adapt.journal import Journal, beside
from adabn_cli.machine import MemoryShortError
from adabn_cli.version import __version__

if TYPE_CHECKING:
    from adabn_cli.jobs.adapt.prepare import Job

_CTRL_C, _TERMINATED = 130, 143


def require_resumable(folder: Path, *, force: bool) -> None:
    """Raises UsageError where the run is finished, so that there is nothing to go on with."""
    # With --force a run is replaced, and what is there may be the one before.
    if (folder / "run.json").is_file() and not (force and is_kept(folder)):
        raise UsageError(
            "This run is finished.", where=str(folder), hint=f"Show it: adabn report {folder}"
        )


def is_kept(folder: Path) -> bool:
    """Whether there is anything to go on from, by the run's folder."""
    return beside(folder).is_dir()


@contextmanager
def kept_while_running(job: Job) -> Iterator[Journal | None]:
    """The journal of a job; it is removed at the end, and stays where the job is stopped.

    It stays too where memory or disk have run short, which another --memory or --spill-dir mends.
    Raises StoppedError in place of KeyboardInterrupt and the like where anything was kept. Several
    ranks keep none.
    """
    if job.request.pictures.ranks.size > 1:
        yield None
        return
    folder = beside(job.folder)
    resume, device = job.request.resume, job.opened.model.device
    journal = Journal(folder, _depends_on(job), resume=resume, device=device)
    try:
        yield journal
    except Exception as error:
        if isinstance(error, MemoryShortError | SpillError) and journal.keep():
            error.hint += f" With --resume {job.folder} it goes on from what is measured."
            journal.close()
        else:
            journal.remove()
        raise
    except BaseException as stop:
        if not journal.keep():
            journal.remove()
            raise
        journal.close()
        code = _CTRL_C if isinstance(stop, KeyboardInterrupt) else _TERMINATED
        raise StoppedError(job.folder, code) from stop
    journal.remove()


def _depends_on(job: Job) -> dict[str, str]:
    """All that the result depends on, by names for people: what was found, and asked for."""
    request, pictures, profile = job.request, job.pictures, job.installer.profile
    checkpoint, options = job.opened.checkpoint, asdict(request.model)
    # Found in the files themselves, wherever these lie now.
    del options["path"]
    digest = hashlib.sha256(profile.as_bytes()).hexdigest() if profile else None
    found = {
        "model": [checkpoint.sha256, job.opened.model.architecture],
        "pictures": pictures.target.fingerprint,
        "options of the model": options,
        "preprocessing": asdict(job.preprocessing),
        "method": asdict(job.installer.adaptation),
        "profile": digest,
        "--device": job.opened.model.device,
        "--labels": [request.pictures.labels, request.pictures.class_map, request.pictures.masks],
        "versions": [__version__, version("torch")],
        **{asked.option: asked.value for asked in settings(request)},
    }
    return {name: json.dumps(value, default=str, sort_keys=True) for name, value in found.items()}
