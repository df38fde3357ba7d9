"""Where an output may go, and how a file is written: whole or not at all. Knows no format.

No input is ever overwritten, with or without --force: every command says here what it reads, as
soon as it knows, and where it wants to write.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from adabn_cli.errors import InputError, UsageError
from adabn_cli.text import valid_text

#: Files of settings in the current folder; they are inputs of every command.
SETTINGS = ("adabn.toml", "pyproject.toml")

#: How the system tells files apart, whatever they are called: device and number.
_Identity = tuple[int, int]


def may_write(
    out: Path,
    *,
    inputs: Iterable[Path] = (),
    force: bool = False,
    option: str = "-o",
    in_new_folder: bool = False,
    is_earlier: Callable[[Path], bool] | None = None,
) -> None:
    """Raises UsageError if the file `out` may not be written, before any work was done for it.

    `inputs` are files and folders that are read; they and what lies in them never give way. Another
    file does with `force`; if `is_earlier` is given, only one that the same option wrote does. Its
    folder has to be there, or can be made if `in_new_folder`. Raises InputError if that cannot be
    written to.
    """
    require_apart(out, inputs, option)
    require_reachable(out, option)
    if out.is_dir():
        raise UsageError(
            "The output is a folder.", where=f"{option} {out}", hint=f"Give a file to {option}."
        )
    _require_folder(out, option, may_be_new=in_new_folder)
    if not out.exists():
        return
    if not out.is_file():  # Written by a rename, which would put a file in place of a device.
        raise UsageError(
            "The output is neither a file nor a folder.",
            where=f"{option} {out}",
            hint=f"Give a file to {option}.",
        )
    if is_earlier is not None and not is_earlier(out):
        raise UsageError(
            "The output file exists, and is not an earlier one of its kind.",
            where=f"{option} {out}",
            hint=f"Give another file to {option}, or remove this one.",
        )
    if is_earlier is None and not force:
        raise UsageError(
            "The output file exists.",
            where=f"{option} {out}",
            hint=f"Give another file to {option}, or replace this one with --force.",
        )


def may_write_folder(
    folder: Path,
    *,
    inputs: Iterable[Path] = (),
    force: bool = False,
    holds: str | None = None,
    option: str = "-o",
) -> None:
    """The same of a folder that is written whole: what is in it gives way as a whole.

    One with anything in it does with `force` alone, and if it `holds` a file of that name; if that
    is None it never does. Folders above it are made.
    """
    require_apart(folder, inputs, option)
    require_reachable(folder, option)
    where = f"{option} {folder}"
    if folder.exists() and not folder.is_dir():
        raise UsageError("The output is a file.", where=where, hint=f"Give a folder to {option}.")
    _require_folder(folder, option, may_be_new=True)
    if not folder.exists() or not any(folder.iterdir()):
        return
    if holds is None:
        raise UsageError(
            "The output folder is not empty.", where=where, hint=f"Give a new one to {option}."
        )
    if not force:
        raise UsageError(
            "The output folder is not empty.",
            where=where,
            hint=f"Give another one to {option}, or replace the run in it with --force.",
        )
    if not (folder / holds).is_file():
        raise UsageError(
            f"--force replaces runs only, and this folder holds no {holds}.",
            where=where,
            hint=f"Give another one to {option}.",
        )


def require_apart(out: Path, inputs: Iterable[Path], option: str = "-o") -> None:
    """Raises UsageError if writing `out` would replace or remove an input.

    That is one of them, a file in a folder that is one, or a folder that one lies in: under any
    name, as the system sees it.
    """
    here = _identity(out)
    if here is None:
        return  # Nothing is there that could be lost.
    replaced = {here} if out.is_dir() else _with_folders_above(out)
    above: dict[Path, set[_Identity]] = {}  # Many pictures lie in few folders.
    for given in (*inputs, *(Path(name) for name in SETTINGS if Path(name).is_file())):
        if given.parent not in above:
            above[given.parent] = _with_folders_above(given.parent)
        same = _identity(given)
        if same in replaced or here in above[given.parent] | _target_of(given):
            within = ", and this lies in it" if given.is_dir() and same != here else ""
            raise UsageError(
                f"An input is never overwritten: {valid_text(given)} is one{within}.",
                where=f"{option} {valid_text(out)}",
                hint=f"Give another path to {option}; --force does not allow this one either.",
            )


def require_distinct(outputs: Iterable[tuple[str, Path]]) -> None:
    """Raises UsageError if two options, each with its path, name one file."""
    seen: dict[object, str] = {}
    for option, path in outputs:
        other = seen.setdefault(_identity(path) or path.resolve(), option)
        if other != option:
            raise UsageError(
                f"{option} {path} is the file of {other} too.", hint="Give each its own file."
            )


@contextmanager
def appearing(file: Path, option: str = "-o") -> Iterator[Path]:
    """A temporary file next to `file` that takes its place, on disk, when the block ends well.

    What a link points to is replaced, not the link. Raises InputError if it cannot be written.
    """
    file = file.resolve()
    temporary = file.with_name(f".{file.name[:100]}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(file)
    except OSError as error:
        raise cannot_be_written(file, error, option) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(file: Path, content: bytes) -> None:
    """Writes a file that appears whole or not at all. Raises InputError if it cannot be."""
    with appearing(file) as temporary:
        temporary.write_bytes(content)


def full_suffix(path: Path) -> str:
    """The last suffix, and `.pth.tar` whole: so training scripts call files that are no tar."""
    inner = Path(path.stem).suffix
    return inner + path.suffix if path.suffix == ".tar" and inner[1:].isalpha() else path.suffix


def cannot_be_written(path: Path, error: OSError, option: str = "-o") -> InputError:
    """The error for a file or folder that the system does not let us write."""
    return InputError(
        f"The output cannot be written: {error.strerror or error}.",
        where=f"{option} {valid_text(path)}",
        hint=f"Give a path on a disk with room, that can be written to, to {option}.",
    )


def require_reachable(out: Path, option: str) -> None:
    """Raises InputError if the system does not say whether `out` is there.

    So of a folder that may not be entered, and of a name that is too long.
    """
    try:
        out.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise cannot_be_written(out, error, option) from error


def _require_folder(out: Path, option: str, *, may_be_new: bool) -> None:
    """Raises unless the folder of `out` takes files: better now than after the work."""
    parents = out.absolute().parents
    folder = next(path for path in parents if path.exists())
    if folder.is_dir() and folder != parents[0] and not may_be_new:
        raise UsageError(
            f"There is no folder {valid_text(parents[0])}.",
            where=f"{option} {valid_text(out)}",
            hint=f"Make it, or give a file in a folder that is there to {option}.",
        )
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise InputError(
            f"The output cannot be written: {valid_text(folder)} is not a folder that takes files.",
            where=f"{option} {valid_text(out)}",
            hint=f"Give a path in a folder that can be written to to {option}.",
        )


def _identity(path: Path) -> _Identity | None:
    """What the system knows a file by, through links; None if nothing is there."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a zero byte in a path out of a list.
        return None
    return status.st_dev, status.st_ino


def _with_folders_above(path: Path) -> set[_Identity]:
    """A path and every folder above it, as it was written and through its links."""
    written, real = Path(os.path.abspath(path)), Path(os.path.realpath(path))  # noqa: PTH100
    places = {written, *written.parents, real, *real.parents}
    return {found for place in places if (found := _identity(place)) is not None}


def _target_of(path: Path) -> set[_Identity]:
    """For a link, and a folder: itself and all above it. A plain file lies in its folder."""
    return _with_folders_above(path) if path.is_symlink() or path.is_dir() else set()
