"""The folder a run is written to: whole or not at all. Knows records; no model and no target."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from adabn_cli.errors import InputError, UsageError
from adabn_cli.files import cannot_be_written, full_suffix, may_write_folder
from adabn_cli.record import SCHEMA_VERSION, Record

RUNS = Path("adabn-runs")
#: The file that makes a folder a run.
RECORD = "run.json"


def name_run(model: Path, target: str | Path, started: str) -> Path:
    """`adabn-runs/<date>-<model>-<target>`, with a number where that is taken."""
    data = "stdin" if target == "-" else Path(target).resolve().name
    stem = "-".join((started[:10], _word(model.name.removesuffix(full_suffix(model))), _word(data)))
    folder, number = RUNS / stem, 2
    # A run that was stopped keeps its name, and what it has measured beside it.
    while folder.exists() or folder.with_name(f"{folder.name}.partial").exists():
        folder, number = RUNS / f"{stem}-{number}", number + 1
    return folder


def model_in(run: Path, model: Path) -> Path:
    """Where the run of a model holds the adapted one: `model`, ending as it did."""
    return run / ("model" if model.is_dir() else f"model{full_suffix(model)}")


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "_", text)[:60] or "unnamed"


@contextmanager
def written_whole(folder: Path, *, force: bool) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its name when all is written.

    On an exception nothing stays, and a run that was there before is as it was. Raises UsageError
    where another run took the name meanwhile and is not to be replaced.
    """
    folder = folder.resolve()  # "." and links have no name of their own to write beside.
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise cannot_be_written(folder, error) from error
    try:
        yield temporary
        may_write_folder(folder, force=force, holds=RECORD)
        temporary.chmod(0o777 & ~_umask())
        _replace(temporary, folder)
    except OSError as error:
        raise cannot_be_written(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace(new: Path, folder: Path) -> None:
    if not folder.exists() or not any(folder.iterdir()):
        new.replace(folder)  # An empty folder gives way to a rename.
        return
    with tempfile.TemporaryDirectory(prefix=".adabn-old-", dir=folder.parent) as beside:
        old = folder.replace(Path(beside) / "run")
        try:
            new.replace(folder)
        except BaseException:
            old.replace(folder)
            raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def files_of_run(run: Path, record: Record) -> tuple[Path, ...]:
    """What no report may replace: the files of the run, and those that it was made from."""
    folder = run if run.is_dir() else run.parent
    given = record.model.path, record.method.profile and record.method.profile.path
    model, profile = (Path(path) if path else None for path in given)
    own = [folder / name for name in (RECORD, "pack.safetensors", "predictions.csv")]
    adapted = model_in(folder, model) if model is not None else None
    named = None if run.is_dir() else run
    return tuple(path for path in (named, *own, adapted, model, profile) if path is not None)


def newest_run(beneath: Path = Path()) -> Path:
    """The run folder written last under `adabn-runs/`. Raises UsageError where there is none."""
    # Hidden folders are runs that are being written, or were when the machine stopped.
    found = (beneath / RUNS).glob(f"*/{RECORD}")
    runs = [file.parent for file in found if file.parent.name[0] != "."]
    if not runs:
        raise UsageError(
            "There is no run here yet.",
            where=str(beneath / RUNS),
            hint="Make one: adabn adapt MODEL --target DIR. Or name a run's folder.",
        )
    return max(runs, key=lambda run: (run / RECORD).stat().st_mtime)


def read_record(path: Path) -> Record:
    """The record in a run folder or a `run.json`. Raises InputError where there is none."""
    file = path / RECORD if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "There is no run to read.",
            where=f"{file}: {error}",
            hint="Give the folder that `adabn adapt` wrote.",
        ) from error
    return parsed_record(text, str(file))


def parsed_record(text: str, where: str) -> Record:
    """The record that a `run.json` holds. Raises InputError, naming `where`, where it is none."""
    try:
        return Record.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        if place == "schema_version":
            raise InputError(
                f"The run is of schema version {first['input']}; "
                f"this adabn reads version {SCHEMA_VERSION}.",
                where=where,
                hint="Read it with the adabn that wrote it, or run `adabn adapt` again.",
            ) from error
        raise InputError(
            "This is not the record of a run.",
            where=f"{where}: {place or 'JSON'}: {first['msg']}",
            hint="Give the run.json that `adabn adapt` wrote.",
        ) from error
