"""Wherever a run is stopped, going on gives what it would have given, to the bit."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from learned_statistics import learned
from torch import Tensor, nn

import adabn_cli
from adabn_cli.adaptation.engines import engine
from adabn_cli.adaptation.engines.merge_order import Ordered
from adabn_cli.adaptation.engines.passes import Passes
from adabn_cli.adaptation.engines.waiting import Waiting
from adabn_cli.adaptation.installer import Installer
from adabn_cli.adaptation.methods import Adaptation
from adabn_cli.errors import InputError, UsageError
from adabn_cli.jobs.adapt import journal as journal_module
from adabn_cli.jobs.adapt.adabn import adabn
from adabn_cli.jobs.adapt.journal import Journal
from adabn_cli.jobs.method.outcome import Outcome
from adabn_cli.jobs.moment_file import MomentFile, read_moments
from adabn_cli.jobs.stages import Stages
from adabn_cli.model import Signal
from adabn_cli.models.live.module import EagerModel
from adabn_cli.moments import SiteMoments, measure

REQUEST = {"--engine": "exact"}


@pytest.fixture(autouse=True)
def _write_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "_SHARE", 1e12)


def plain_net() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.BatchNorm2d(6),
        nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 5), nn.BatchNorm1d(5),
    )  # fmt: skip
    return learned(layers)


class Shared(nn.Module):
    """One normalizer used twice, behind itself."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.twice = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(torch.relu(self.first(x)))
        return self.last(torch.relu(self.twice(x))).mean((2, 3))


class Maps(nn.Module):
    """Outputs that are too large to keep."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3))
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layers(x))


@pytest.fixture(scope="module")
def batches() -> Sequence[Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(35, 3, 10, 10, generator=generator)
    return (images + torch.linspace(-2, 2, 35).view(-1, 1, 1, 1)).split(8)


class Stopping(Installer):
    """Is stopped when that many signals have been measured, whatever it is aimed at meanwhile."""

    signals, stop = 0, -1

    def measure(self, signal: Signal, batch: int) -> SiteMoments:
        if Stopping.signals == Stopping.stop:
            raise KeyboardInterrupt
        Stopping.signals += 1
        return super().measure(signal, batch)


def run(
    net: nn.Module,
    batches: Sequence[Tensor],
    notebook: Journal | None,
    stop: int = -1,
    **options: object,
) -> tuple[Mapping[str, Tensor], Outcome, int]:
    options = {"engine": "exact", "method": None, "profile": None, "waiting": None, **options}
    adaptation = Adaptation(method=options["method"], momentum=options.get("momentum"))
    count = sum(map(len, batches))
    installer = Stopping.of(EagerModel(net), adaptation, count, options["profile"])
    Stopping.signals, Stopping.stop = 0, stop
    waiting = options["waiting"] or Waiting(len(batches))
    passes = Passes(batches=batches, waiting=waiting, notebook=notebook)
    outcome = adabn(installer, passes, engine(options["engine"]), Stages(), verify=True)
    return net.state_dict(), outcome, Stopping.signals


def same(one: Outcome, other: Outcome) -> bool:
    def moments(seen: Mapping[str, SiteMoments]) -> Iterator[Tensor]:
        for found in seen.values():
            yield from (found.pixels.mean_C, found.pixels.m2_C, found.images.square_m2_C)

    pairs = [
        (one.before.sites, other.before.sites),
        (one.after.estimate.measured, other.after.estimate.measured),
    ]
    for a, b in pairs:
        assert list(a) == list(b)
        assert all(map(torch.equal, moments(a), moments(b)))
    for a, b in (
        (one.before.scores, other.before.scores),
        (one.after.scores, other.after.scores),
    ):
        assert np.array_equal(a.confidence_N, b.confidence_N)
        assert np.array_equal(a.entropy_N, b.entropy_N)
    return one.residual == other.residual and one.judgement == other.judgement


CASES = {
    "exact": (plain_net, {}),
    "one-pass": (plain_net, {"engine": "one-pass"}),
    "online": (plain_net, {"engine": "online"}),
    "online with momentum": (plain_net, {"engine": "online", "momentum": 0.3}),
    "a site used twice": (Shared, {}),
    "maps": (Maps, {}),
    "run again and on disk": (plain_net, {"waiting": Waiting(2, on_disk=2, rerun=1)}),
    "auto": (plain_net, {"method": "auto", "profile": True}),
    "judged by a contest": (plain_net, {"method": "adabn", "profile": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_stopped_anywhere_goes_on_to_the_same_result(
    case: str, batches: Sequence[Tensor], tmp_path: Path
) -> None:
    make, options = CASES[case]
    if options.get("profile"):
        options = {**options, "profile": adabn_cli.profile(make(), [x * 1.5 for x in batches])}
    if waiting := options.get("waiting"):
        options["waiting"] = Waiting(2, waiting.on_disk, waiting.rerun, tmp_path)
    state, outcome, signals = run(make(), batches, None, **options)
    points = random.Random(0).sample(range(signals), min(3, signals))
    for stop in [0, *points, signals - 1]:
        folder = tmp_path / f"{stop}.partial"
        first = Journal(folder, REQUEST, resume=False)
        with pytest.raises(KeyboardInterrupt):
            run(make(), batches, first, stop, **options)
        first.close()  # Nothing more is written, as after a kill.
        second = Journal(folder, REQUEST, resume=True)
        # And once more, a little further on.
        with pytest.raises(KeyboardInterrupt):
            run(make(), batches, second, 2, **options) if signals - stop > 9 else interrupt()
        second.close()
        third = Journal(folder, REQUEST, resume=True)
        gone_on, found, left = run(make(), batches, third, **options)
        third.remove()
        assert all(torch.equal(state[key], gone_on[key]) for key in state), stop
        assert same(outcome, found), stop
        assert left <= signals


def interrupt() -> None:
    raise KeyboardInterrupt


def test_what_is_kept_is_not_measured_again(batches: Sequence[Tensor], tmp_path: Path) -> None:
    _, _, signals = run(plain_net(), batches, None)
    first = Journal(tmp_path / "x.partial", REQUEST, resume=False)
    with pytest.raises(KeyboardInterrupt):
        run(plain_net(), batches, first, signals - 1)
    first.close()
    second = Journal(tmp_path / "x.partial", REQUEST, resume=True)
    _, _, left = run(plain_net(), batches, second)
    second.close()
    # All but the last batch of the last pass, which is one of three sites.
    assert left == 3


def test_notes_of_another_request_are_refused(tmp_path: Path) -> None:
    Journal(tmp_path, {"--engine": "exact", "model": "a"}, resume=False).close()
    with pytest.raises(UsageError, match="of another run: other model"):
        Journal(tmp_path, {"--engine": "exact", "model": "b"}, resume=True)


def test_one_process_at_a_time_works_on_a_run(tmp_path: Path) -> None:
    first = Journal(tmp_path, REQUEST, resume=False)
    with pytest.raises(UsageError, match="Another process is at work"):
        Journal(tmp_path, REQUEST, resume=False)
    first.close()


def test_a_damaged_file_is_refused(batches: Sequence[Tensor], tmp_path: Path) -> None:
    first = Journal(tmp_path, REQUEST, resume=False)
    run(plain_net(), batches, first)
    first.keep()
    first.close()
    for file in tmp_path.glob("pass-*/*.safetensors"):
        file.write_bytes(file.read_bytes()[:-9])
    second = Journal(tmp_path, REQUEST, resume=True)
    with pytest.raises(InputError, match="cannot be read"):
        run(plain_net(), batches, second)
    second.close()


def test_moments_come_back_from_a_file_to_the_bit(tmp_path: Path) -> None:
    found = measure(torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0)))
    written = MomentFile({("a/b", 1): found}, {"n": 2}, {"x": torch.ones(2)})
    (tmp_path / "moments").write_bytes(written.as_bytes())
    moments, about, tensors = read_moments(tmp_path / "moments")
    assert about == {"n": 2}
    assert tensors["x"].tolist() == [1, 1]
    back = moments["a/b", 1]
    assert (back.pixels.count, back.images.count) == (75, 3)
    assert torch.equal(back.pixels.m2_C, found.pixels.m2_C)
    assert torch.equal(back.images.cross_C, found.images.cross_C)


def test_any_split_of_the_batches_merges_to_the_same_bits() -> None:
    generator = torch.Generator().manual_seed(0)
    found = [measure(torch.randn(3, 4, 5, 5, generator=generator)) for _ in range(23)]

    def total(order: Sequence[int], cuts: Sequence[int]) -> Tensor:
        whole = Ordered()
        for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True):
            part = Ordered()
            for batch in order[start:end]:
                part.add(batch, found[batch])
            whole.include(part)
        return whole.total().pixels.m2_C

    first = total(range(23), ())
    shuffled = random.Random(0).sample(range(23), 23)
    for order, cuts in ((range(23), (5,)), (range(23), (1, 2, 19)), (shuffled, (7, 11))):
        assert torch.equal(first, total(order, cuts))
