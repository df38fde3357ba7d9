"""The source profile a run is held against: given, found beside the model, or measured first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from adabn_cli.adaptation.profiles import Profile, read_profile, require_profile_of
from adabn_cli.data.listing import Location
from adabn_cli.errors import UsageError
from adabn_cli.jobs.profile import (
    SOURCE_IMAGES,
    beside_model,
    coverage_warning,
    profile_of,
)
from adabn_cli.jobs.scored_data import PicturesRequest, ScoredPictures, open_pictures
from adabn_cli.jobs.stages import Stages
from adabn_cli.model import Model
from adabn_cli.models.open import ModelRequest
from adabn_cli.preprocessing import Preprocessing
from adabn_cli.ranks import ALONE
from adabn_cli.record import ProfilePart
from adabn_cli.text import valid_text


@dataclass(frozen=True)
class KnownProfile:
    """A profile, what the record says of it, and what is wrong with it, if anything is."""

    profile: Profile | None = None
    part: ProfilePart | None = None
    warnings: tuple[str, ...] = ()


def find_profile(given: Path | None, source: Location | None, model: ModelRequest) -> Path | None:
    """The given profile, or else one that is called like the model and lies beside it.

    A reference says what the source is, as a profile does. Raises UsageError where more than one of
    profile, source pictures and reference is given.
    """
    if model.reference is not None:
        if given is not None or source is not None:
            raise UsageError(
                "--reference says what the source is, and so does --profile or --source.",
                hint="Leave one of them out.",
            )
        return None
    if given is not None and source is not None:
        raise UsageError(
            "--profile and --source both say what the source domain is.",
            hint="Leave one of them out.",
        )
    beside = beside_model(model.path)
    if given is None and source is None and beside.is_file():
        return beside
    return given


def read_known_profile(path: Path, given: Path | None, model: Model) -> KnownProfile:
    """The profile in a file. Raises InputError or ModelError where it is none of this model's."""
    profile = read_profile(path)
    require_profile_of(profile, model)
    return _known(profile, path, "beside the model" if given is None else "--profile")


def open_source(
    source: Location,
    model: Model,
    preprocessing: Preprocessing,
    request: PicturesRequest,
    stages: Stages,
) -> ScoredPictures:
    """256 source pictures, drawn with the run's seed."""
    request = replace(
        request, max_images=SOURCE_IMAGES, labels="auto", masks=None, kind=None, ranks=ALONE
    )
    with stages.stage("source") as progress:
        return open_pictures(source, model, preprocessing, request, progress)


def measure_source(pictures: ScoredPictures, stages: Stages) -> KnownProfile:
    """The profile of source pictures."""
    batches = pictures.target.batches()
    profile, _ = profile_of(pictures.model, batches, pictures.labels_N, stages)
    known = _known(profile, pictures.target.path, "--source")
    notes = (f"Of the source: {note}" for note in pictures.picture_notes)
    return replace(known, warnings=(*known.warnings, *notes))


def _known(profile: Profile, path: Location, found: str) -> KnownProfile:
    uneven = coverage_warning(profile)
    warnings = () if uneven is None else (uneven,)
    return KnownProfile(profile, profile_part(profile, path, found), warnings)


def profile_part(profile: Profile, path: Location | None, found: str) -> ProfilePart:
    """What a record says of the profile that it rests on."""
    predictions = profile.predictions
    return ProfilePart(
        path=valid_text(str(path)) if path else None,
        found=found,
        images=profile.images,
        labeled=0 if predictions is None else int((predictions.class_N >= 0).sum()),
    )
