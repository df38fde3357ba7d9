"""Makes one domain pack of what shards have shown. Needs no picture and no forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from adabn_cli.adaptation.engines.merge_order import Ordered
from adabn_cli.adaptation.engines.observe import merged
from adabn_cli.adaptation.engines.one_pass import install_seen
from adabn_cli.adaptation.installer import Installer
from adabn_cli.adaptation.methods import Adaptation
from adabn_cli.errors import ModelError, UsageError
from adabn_cli.files import may_write, require_apart, write_whole
from adabn_cli.jobs.checks.believing import believe_scored
from adabn_cli.jobs.checks.broken_outputs import not_finite_notes
from adabn_cli.jobs.packing import empty_pack, filled
from adabn_cli.jobs.preprocessing import borrowed_note
from adabn_cli.jobs.results.record import model_part
from adabn_cli.jobs.results.sections import scores_part, worst_error
from adabn_cli.jobs.shards.collect import weights_of
from adabn_cli.jobs.shards.collected import Collected, read_collected
from adabn_cli.measures.divergence import model_divergence, symmetric_kl_nats
from adabn_cli.measures.scores import Scores
from adabn_cli.models.open import ModelRequest, open_model
from adabn_cli.moments import SiteMoments
from adabn_cli.preprocessing import Preprocessing
from adabn_cli.ranks import Shard
from adabn_cli.record import DivergencePart, MergeRecord, ScoresPart
from adabn_cli.text import first_few


@dataclass(frozen=True, kw_only=True)
class MergeRequest:
    """The model, the files of all its shards in any order, and the pack to write."""

    model: ModelRequest
    shards: tuple[Path, ...]
    out: Path
    force: bool = False


def merge(request: MergeRequest) -> MergeRecord:
    """Writes the pack that one process would have made of all shards with `--engine one-pass`.

    Raises UsageError where a shard is missing or there twice, or shards do not belong together;
    InputError for a file that is no shard, ModelError where they are of another model.
    """
    inputs = (*request.model.files, *request.shards)
    may_write(request.out, inputs=inputs, force=request.force)
    shards = _all_shards(request.shards)
    common = shards[0].depends_on
    opened = open_model(request.model)
    require_apart(request.out, opened.files)
    model = opened.model
    if weights_of(model) != common["model"]:
        raise ModelError(
            "The shards were collected with another model, or with other statistics in it.",
            where=f"{request.model.path}; {request.shards[0]}",
            hint="Give the model that was given to adabn collect.",
        )
    adaptation = Adaptation(
        layers=tuple(common["--layers"]), prior=common["--prior"], alpha=common["--alpha"]
    )
    belief = believe_scored(model, request.model.path)
    images = sum(shard.images for shard in shards)
    installer = Installer.of(model, adaptation, images)
    before, seen = (
        _totals([getattr(shard, kind) for shard in shards]) for kind in ("before", "train_mode")
    )
    sites = tuple(install_seen(installer, seen))
    pack = filled(empty_pack(model), installer, sites, images)
    write_whole(request.out, pack.as_bytes())
    skipped = sum(shard.skipped for shard in shards)
    scored, preprocessing = _scores_part(shards), Preprocessing(**common["preprocessing"])
    unseen = [name for name in installer.sites if name in installer.selected - set(sites)]
    return MergeRecord(
        path=str(request.out),
        model=model_part(opened, preprocessing, belief),
        shards=len(shards),
        images=images,
        skipped=skipped,
        sites=len(sites),
        before=scored,
        kl_before=_divergence_part(installer, before),
        standard_error_max=worst_error(installer, {name: seen[name] for name in sites}),
        warnings=(
            *opened.notes,
            *belief.warnings,
            *borrowed_note(preprocessing),
            *not_finite_notes(scored),
            *([_CUT_OTHERWISE] if skipped else []),
            *([f"No picture reached {first_few(unseen, 5)}: left as they were."] if unseen else []),
        ),
    )


_CUT_OTHERWISE = (
    "Batches are of the pictures that their shard could read. One process fills up a batch with "
    "unreadable ones from the next shard, which moves one-pass statistics a little."
)


def _all_shards(files: Sequence[Path]) -> list[Collected]:
    """What is in the files, in the order of the shards; all of them, and each once."""
    found: dict[Shard, tuple[Path, Collected]] = {}
    for file in files:
        shard = read_collected(file)
        first_file, first = next(iter(found.values()), (file, shard))
        differ = [
            name
            for name in {**first.depends_on, **shard.depends_on}
            if first.depends_on.get(name) != shard.depends_on.get(name)
        ]
        if first.shard.size != shard.shard.size:
            differ.append("number of shards")
        if differ:
            raise UsageError(
                f"These shards do not belong together: other {', '.join(differ)}.",
                where=f"{first_file}; {file}",
                hint="Collect all shards with the same command but for --shard.",
            )
        if shard.shard in found:
            raise UsageError(
                f"Shard {shard.shard} is there twice.",
                where=f"{found[shard.shard][0]}; {file}",
                hint="Give each shard once.",
            )
        found[shard.shard] = file, shard
    size = next(iter(found)).size
    missing = [str(Shard(i, size)) for i in range(size) if Shard(i, size) not in found]
    if missing:
        raise UsageError(
            f"{len(missing)} of {size} shards are missing: {first_few(missing, 5)}.",
            hint=f"Collect them, adabn collect MODEL --target DATA --shard {missing[0]}, and give "
            "all files.",
        )
    return [found[Shard(i, size)][1] for i in range(size)]


def _totals(parts: Sequence[dict[str, Ordered]]) -> dict[str, SiteMoments]:
    return {name: sums.total() for name, sums in merged(parts).items()}


def _scores_part(shards: Sequence[Collected]) -> ScoresPart:
    """What the source model does on the pictures of all shards, as a run tells it."""
    if not all(shard.scores for shard in shards):
        return ScoresPart()
    scores = Scores()
    for shard in shards:
        scores.include(shard.scores)
    labels_N = np.concatenate([shard.labels_N for shard in shards])
    return scores_part(scores, labels_N if (labels_N >= 0).any() else None)


def _divergence_part(installer: Installer, before: dict[str, SiteMoments]) -> DivergencePart | None:
    """How far the pictures are from the source, over all neurons, as a run tells it."""
    source = installer.comparable
    known = {name: before[name].pixels for name in before if name in source}
    kl = {
        name: symmetric_kl_nats(source[name], pixels, installer.sites[name].eps)
        for name, pixels in known.items()
    }
    found = model_divergence(kl, {name: pixels.dead_C for name, pixels in known.items()})
    return None if found.mean is None else DivergencePart(**asdict(found))
