from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from adabn_cli.dependence import FREE, settings
from adabn_cli.jobs.adapt.request import AdaptRequest
from adabn_cli.jobs.scored_data import PicturesRequest
from adabn_cli.models.open import ModelRequest


@dataclass(frozen=True)
class MorePictures(PicturesRequest):
    new_option: int = 0
    threads: int = field(default=1, metadata=FREE)


def test_an_option_that_is_added_counts_unless_its_field_says_otherwise() -> None:
    asked = AdaptRequest(
        model=ModelRequest(Path("model.pt")), target=Path("data"), pictures=MorePictures(threads=4)
    )
    found = {setting.option: setting for setting in settings(asked)}
    assert (found["--new-option"].value, found["--new-option"].given) == (0, False)
    assert {"--eval", "--batch-size", "--path-column"} <= found.keys()
    assert not {"--threads", "--folder", "--memory-bytes"} & found.keys()


def test_what_is_not_the_default_was_asked_for() -> None:
    pictures = PicturesRequest(batch_size=8, stride=1, task="segmentation")
    given = {setting.option for setting in settings(pictures) if setting.given}
    assert given == {"--batch-size", "--task"}
