"""What a run under way has measured, in a folder beside the run's, so that it can go on after a
kill. Knows which passes there are by their order; not what they are for.

Every file appears whole or not at all, by its name; nothing in it is ever run.
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO

from torch import Tensor

from adabn_cli.adaptation.engines.merge_order import Ordered
from adabn_cli.adaptation.engines.passes import Estimate, PassNotes
from adabn_cli.errors import InputError, UsageError
from adabn_cli.files import write_whole
from adabn_cli.jobs.moment_file import MomentFile, Named, read_moments
from adabn_cli.model import Outputs
from adabn_cli.moments import ImageMoments, Moments, SiteMoments
from adabn_cli.text import first_few

# Of the time that a run takes; nothing is written before 0.5 s, which a short run is over in.
_SHARE = 0.02
_FIRST_COST = 0.01
# A name that begins with a dot is of a file that was being written when the process ended.
_OWN = re.compile(r"\.?(lock|request\.json|pass-\d+)(\..*)?")


def beside(folder: Path) -> Path:
    """Where the journal of a run lies, by the run's folder."""
    folder = folder.resolve()
    return folder.with_name(f"{folder.name}.partial")


class Journal:
    """The notes of all passes of one run: an engine's `Notebook`.

    `request` says what the run depends on, by names for people. Where `resume`, notes of the same
    request are gone on from; otherwise those that are there are removed. Raises UsageError where
    they are of another request, or of a run that is still under way.
    """

    def __init__(
        self, folder: Path, request: Mapping[str, str], *, resume: bool, device: str = "cpu"
    ) -> None:
        self.folder, self.device = folder, device
        self._passes: list[_Pass] = []
        self._ended, self._cost = time.perf_counter(), _FIRST_COST
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _require_own(folder)
            self._lock = _locked(folder)
        except OSError as error:
            raise _cannot_be_kept(folder, error) from error
        try:
            self.resumed = self._goes_on(request, resume=resume)
        except BaseException:
            self.close()
            raise

    def _goes_on(self, request: Mapping[str, str], *, resume: bool) -> bool:
        written = self.folder / "request.json"
        if resume and written.is_file():
            _require_same(json.loads(written.read_text(encoding="utf-8")), request, self.folder)
            return True
        try:
            for path in self.folder.glob("pass-*"):
                shutil.rmtree(path)
            write_whole(written, json.dumps(request, sort_keys=True, indent=1).encode())
        except OSError as error:
            raise _cannot_be_kept(self.folder, error) from error
        return False

    def next_pass(self) -> PassNotes:
        """The notes of the pass that begins now."""
        notes = _Pass(self, self.folder / f"pass-{len(self._passes):02}")
        self._passes.append(notes)
        return notes

    def note(self) -> None:
        """Writes what is new, if that takes no more than its share of the time."""
        if time.perf_counter() - self._ended >= self._cost / _SHARE:
            self.keep()

    def keep(self) -> bool:
        """Writes all that is new; whether anything is kept at all."""
        start = time.perf_counter()
        try:
            for one in self._passes:
                one.write()
        except OSError as error:
            raise _cannot_be_kept(self.folder, error) from error
        self._ended = time.perf_counter()
        self._cost = self._ended - start
        return any(self.folder.glob("pass-*/*"))

    def close(self) -> None:
        """Lets go of the folder; what is in it stays."""
        self._lock.close()

    def remove(self) -> None:
        """Removes the folder: the run is written, or nothing was measured."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class _Progressed:
    """How many batches went all the way, and what they showed."""

    done: int
    seen: Mapping[str, Ordered]


class _Pass(PassNotes):
    """One pass in a folder of its own.

    Outputs that are no rows of numbers (maps, boxes) are not kept, as they would be larger than
    the pictures: such a pass is repeated but for the sites that it has met at.
    """

    def __init__(self, journal: Journal, folder: Path) -> None:
        self._journal, self._folder = journal, folder
        self._outputs: dict[int, Tensor | None] = {}
        self._sites: list[tuple[str, SiteMoments]] = []
        self._sites_written = 0
        self._progressed: _Progressed | None = None
        self._estimate: Estimate | None = None
        self._keeps_outputs = True

    def batches_done(self) -> int:
        read = self._read("seen.safetensors")
        return read[1]["done"] if read else 0

    def seen(self) -> dict[str, Ordered]:
        moments, about, _ = self._read("seen.safetensors") or ({}, {"sites": []}, {})
        nodes: dict[str, dict[tuple[int, int], SiteMoments]] = {x: {} for x in about["sites"]}
        for (name, level, place), found in moments.items():
            nodes[name][level, place] = found
        return {name: Ordered(found) for name, found in nodes.items()}

    def outputs(self) -> Iterable[tuple[int, Outputs]]:
        # Those behind the last batch that is done are of a pass that goes on there.
        done = float("inf") if self.estimate() is not None else self.batches_done()
        for file in sorted(self._folder.glob("outputs-*")):
            _, about, tensors = self._read(file.name) or ({}, {"batches": []}, {})
            for batch in about["batches"]:
                if batch < done:
                    yield batch, tensors.get(str(batch))

    def sites(self) -> Sequence[tuple[str, SiteMoments]]:
        files = sorted(self._folder.glob("sites-*"))
        found = [pair for file in files for pair in (self._read(file.name) or ({},))[0].items()]
        self._sites_written = len(found)
        return [(name, moments) for (_, name), moments in found]

    def estimate(self) -> Estimate | None:
        read = self._read("estimate.safetensors")
        if read is None:
            return None
        moments, about, _ = read
        return Estimate(
            {name: moments["installed", name].pixels for name in about["installed"]},
            {name: moments["measured", name] for name in about["measured"]},
            about["forwards"],
        )

    def note_outputs(self, batch: int, outputs: Outputs) -> None:
        rows = isinstance(outputs, Tensor) and outputs.dim() == 2
        if outputs is not None and not rows:
            self._keeps_outputs = False
            self._outputs.clear()
        elif self._keeps_outputs:
            self._outputs[batch] = outputs if isinstance(outputs, Tensor) else None

    def note_batch(self, batch: int, seen: Mapping[str, Ordered]) -> None:
        copies = {name: Ordered(found.nodes) for name, found in seen.items()}
        self._progressed = _Progressed(batch + 1, copies)
        self._journal.note()

    def note_site(self, name: str, moments: SiteMoments) -> None:
        self._sites.append((name, moments))
        self._journal.note()

    def note_estimate(self, estimate: Estimate) -> None:
        self._estimate = estimate
        self._journal.note()

    def write(self) -> None:
        """Writes what is new. Outputs first: the file behind them says that they are all there."""
        if self._sites:
            first = self._sites_written
            met = {(first + i, name): found for i, (name, found) in enumerate(self._sites)}
            self._write(f"sites-{first:05}.safetensors", met, {})
            self._sites_written += len(self._sites)
            self._sites.clear()
        if not self._keeps_outputs:
            return
        if self._outputs and (self._progressed or self._estimate):
            tensors = {str(i): x for i, x in self._outputs.items() if x is not None}
            about = {"batches": sorted(self._outputs)}
            self._write(f"outputs-{min(self._outputs):09}.safetensors", {}, about, tensors)
            self._outputs.clear()
        if self._progressed is not None:
            nodes = {
                (name, *node): found
                for name, sums in self._progressed.seen.items()
                for node, found in sums.nodes.items()
            }
            done, names = self._progressed.done, list(self._progressed.seen)
            self._write("seen.safetensors", nodes, {"done": done, "sites": names})
            self._progressed = None
        if self._estimate is not None:
            self._write_estimate(self._estimate)
            self._estimate = None

    def _write_estimate(self, found: Estimate) -> None:
        installed = {
            ("installed", name): _of_pixels(moments) for name, moments in found.installed.items()
        }
        measured = {("measured", name): moments for name, moments in found.measured.items()}
        about = {
            "installed": list(found.installed),
            "measured": list(found.measured),
            "forwards": found.forwards,
        }
        self._write("estimate.safetensors", {**installed, **measured}, about)

    def _write(
        self,
        name: str,
        moments: Named,
        about: Mapping[str, Any],
        tensors: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> None:
        self._folder.mkdir(exist_ok=True)
        write_whole(self._folder / name, MomentFile(moments, about, tensors).as_bytes())

    def _read(self, name: str) -> MomentFile | None:
        file = self._folder / name
        try:
            return read_moments(file, self._journal.device)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise InputError(
                "What is kept of the run cannot be read.",
                where=f"{file}: {error}",
                hint=f"Remove {self._journal.folder} and start over, without --resume.",
            ) from error


def _of_pixels(moments: Moments) -> SiteMoments:
    return SiteMoments(moments, ImageMoments.empty(len(moments.mean_C)))


def _require_own(folder: Path) -> None:
    """Raises UsageError if there is anything in the folder that no journal has written."""
    others = [name for path in folder.iterdir() if not _OWN.fullmatch(name := path.name)]
    if others:
        raise UsageError(
            "What a run has measured is kept in this folder until it ends, and it holds other "
            f"files: {first_few(sorted(others))}.",
            where=str(folder),
            hint="Rename the folder, or give another one to -o.",
        )


def _locked(folder: Path) -> TextIO:
    lock = (folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise UsageError(
            "Another process is at work on this run.",
            where=str(folder),
            hint="Wait for it, or give another folder to -o.",
        ) from error
    return lock


def _require_same(kept: Mapping[str, str], request: Mapping[str, str], folder: Path) -> None:
    # What an earlier adabn did not know of had no influence then.
    differ = [name for name in request if kept.get(name, request[name]) != request[name]]
    if not differ:
        return
    raise UsageError(
        f"What is kept is of another run: other {', '.join(differ)}.",
        where=str(folder),
        hint="Give the command as it was, with --resume; or start over without it, with another "
        "folder for -o.",
    )


def _cannot_be_kept(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"What was measured cannot be kept: {error.strerror}.",
        where=str(folder),
        hint="Give a folder with room, that can be written to, to -o.",
    )
