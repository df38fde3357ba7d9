"""Puts a domain pack into a model file, or takes it out again, to the byte."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from adabn_cli.adaptation.packs import put_in, read_pack, take_out
from adabn_cli.files import may_write, may_write_folder, require_apart
from adabn_cli.models.open import ModelRequest, open_model


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What was written, how many sites of it are the pack's, and on how many images they rest.

    `notes` are what is to be said of the model.
    """

    path: Path
    architecture: str
    sites: int
    images: int
    notes: tuple[str, ...] = ()


def apply(request: ModelRequest, pack: Path, out: Path, *, revert: bool, force: bool) -> Applied:
    """Writes the model with the pack's statistics, or with the source's where `revert`.

    Raises UsageError where `out` is an input, or exists and not `force`; ModelError where the pack
    belongs to another model or, on the way back, is not in this one.
    """
    if request.path.is_dir():
        may_write_folder(out, inputs=(*request.files, pack))
    else:
        may_write(out, inputs=(*request.files, pack), force=force)
    opened, read = open_model(request), read_pack(pack)
    require_apart(out, opened.files)
    for beside in opened.checkpoint.beside(out):
        may_write(beside, inputs=(*opened.files, pack), force=force)
    (take_out if revert else put_in)(read, opened.model)
    opened.model.save(out)
    sites = {site for site, _ in read.target}
    return Applied(
        path=out,
        architecture=opened.model.architecture,
        sites=len(sites),
        images=read.images,
        notes=opened.notes,
    )
