"""Pictures are drawn until the worst site's means are known, and the model is as it was."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from adabn_cli.adaptation.methods import Adaptation
from adabn_cli.errors import UsageError
from adabn_cli.jobs.adapt import converged
from adabn_cli.jobs.adapt.adabn import carry_out
from adabn_cli.jobs.adapt.converged import prepare_enough, prepare_first
from adabn_cli.jobs.adapt.prepare import prepare
from adabn_cli.jobs.adapt.request import AdaptRequest
from adabn_cli.jobs.scored_data import PicturesRequest
from adabn_cli.models.open import ModelRequest


class TwoRanks:
    index, size = 0, 2

    def gather(self, item: object) -> list[object]:
        return [item, item]


@pytest.fixture
def request_(sample_data: Path, tmp_path: Path) -> AdaptRequest:
    return AdaptRequest(
        model=ModelRequest(sample_data / "digits_bn.pt"),
        target=str(sample_data / "target"),
        folder=tmp_path / "run",
    )


def test_rounds_grow_until_the_tolerance_is_met(request_: AdaptRequest) -> None:
    job = prepare_enough(request_, 0.06)
    assert job.search is not None
    first, *others = job.search.rounds
    images = [one.images for one in (first, *others)] + [job.pictures.images]
    assert images[0] == converged.FIRST_ROUND
    assert all(b >= 1.5 * a for a, b in pairwise(images))
    assert all(one.error is not None and one.error > 0.06 for one in job.search.rounds)
    assert job.pictures.images < 1797


def test_rounds_leave_the_model_as_it_was(request_: AdaptRequest) -> None:
    plain = prepare(replace(request_, pictures=PicturesRequest(max_images=100)))
    before = {key: value.clone() for key, value in plain.opened.model.state().items()}
    assert converged._worst_error(plain) is not None
    after = plain.opened.model.state()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


@pytest.mark.parametrize("matched", [False, True])
def test_a_round_tells_the_figure_that_the_run_comes_to(
    request_: AdaptRequest, sample_data: Path, matched: bool
) -> None:
    source = str(sample_data / "source") if matched else None
    few = PicturesRequest(max_images=100)
    job = prepare(replace(request_, source=source, pictures=few))
    told, aim = converged._worst_error(job), job.installer.aim
    record = carry_out(replace(job, search=converged.Search(0.5))).record
    assert record.sample_size is not None
    assert [(one.images, one.error) for one in record.sample_size.rounds] == [(100, told)]
    assert record.method.name == ("matched" if matched else "adabn")
    assert bool(aim.expected) == matched


def test_the_next_draw_is_what_the_root_law_asks_for() -> None:
    assert converged._next_draw(64, 10_000, 0.2, 0.1) == 308  # 64 * 4 * 1.2
    assert converged._next_draw(64, 10_000, 0.1001, 0.1) == 96
    assert converged._next_draw(64, 200, 0.2, 0.1) == 200
    assert converged._next_draw(64, 200, None, 0.1) == 96


@pytest.mark.parametrize("tolerance", [0.0, -0.1, float("nan"), float("inf"), 1e-9])
def test_a_tolerance_that_is_none_is_refused(request_: AdaptRequest, tolerance: float) -> None:
    for starts in (prepare_first, prepare_enough):
        with pytest.raises(UsageError, match="tolerance"):
            starts(request_, tolerance)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"engine": "one-pass"}, "--engine one-pass"),
        ({"engine": "online"}, "--engine online"),
        ({"adaptation": Adaptation(method="auto")}, "--method auto"),
        ({"pictures": PicturesRequest(ranks=TwoRanks())}, "one process"),
    ],
)
def test_what_does_not_go_by_rounds_is_refused(
    request_: AdaptRequest, changes: dict[str, object], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        prepare_enough(replace(request_, **changes), 0.1)
