"""Verdicts, class mixes and --on-harm on real digits: a net of MNIST, targets of UCI's."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from adabn_cli.adaptation.methods import Adaptation
from adabn_cli.errors import UsageError
from adabn_cli.jobs.adapt.adabn import Run, adapt
from adabn_cli.jobs.adapt.request import AdaptRequest
from adabn_cli.jobs.apply import apply
from adabn_cli.jobs.profile import ProfileRequest, profile
from adabn_cli.jobs.scored_data import PicturesRequest
from adabn_cli.models.open import ModelRequest
from adabn_cli.record import Record

SAMPLES = Path(__file__).resolve().parents[2] / "sample_data"
MODEL = SAMPLES / "digits_bn.pt"


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("profile") / "digits.profile"
    profile(ProfileRequest(model=ModelRequest(MODEL), source=SAMPLES / "source", out=out))
    return out


@pytest.fixture(scope="module")
def one_class(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty source digits, all threes: no shift, and nothing else than a class."""
    folder = tmp_path_factory.mktemp("one") / "threes"
    (folder / "3").mkdir(parents=True)
    rest = sorted((SAMPLES / "source" / "3").iterdir())
    for index in range(60):
        picture = rest[index % len(rest)]
        shutil.copy(picture, folder / "3" / f"{index}{picture.suffix}")
    return folder


def run(folder: Path, target: Path, known: Path | None, *, labels: str = "none", **more: object):
    method = more.pop("method", None)
    request = AdaptRequest(
        model=ModelRequest(MODEL),
        target=target,
        pictures=PicturesRequest(labels=labels),
        adaptation=Adaptation(method=method),  # type: ignore[arg-type]
        profile=known,
        folder=folder,
        **more,  # type: ignore[arg-type]
    )
    return adapt(request)


def right(adapted: Run, label: str, column: str = "after") -> float:
    with (adapted.folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    return sum(row[column] == label for row in rows) / len(rows)


def test_no_estimate_says_help_on_one_class(tmp_path: Path, known: Path) -> None:
    done = run(tmp_path / "run", SAMPLES / "target" / "8", known, method="adabn")
    verdict = done.record.verdict
    assert verdict.estimate is not None
    assert verdict.estimate.gain > 0.01
    assert right(done, "8") < right(done, "8", "before") - 0.5
    assert verdict.outcome == "cannot tell"
    assert "one class" in verdict.sentence


def test_adabn_on_one_class_is_seen_to_harm_without_a_label(
    tmp_path: Path, known: Path, one_class: Path
) -> None:
    done = run(tmp_path / "run", one_class, known, method="adabn")
    verdict = done.record.verdict
    assert (verdict.outcome, verdict.basis) == ("harm", "profile")
    assert "without labels" in verdict.sentence
    assert verdict.estimate is not None
    assert not verdict.estimate.own
    true = right(done, "3") - right(done, "3", "before")
    assert verdict.estimate.gain == pytest.approx(true, abs=0.15)
    assert true < -0.3


def test_matched_holds_one_class_against_that_class(
    tmp_path: Path, known: Path, one_class: Path
) -> None:
    done = run(tmp_path / "run", one_class, known)
    assert done.record.method.aim == "class mix"
    assert done.record.method.class_mix is not None
    assert max(done.record.method.class_mix) == done.record.method.class_mix[3]
    assert right(done, "3") > 0.95
    assert done.record.verdict.outcome == "cannot tell"


def test_an_ordinary_target_is_held_against_the_profile_as_it_is(
    tmp_path: Path, known: Path
) -> None:
    record = run(tmp_path / "run", SAMPLES / "target", known).record
    assert (record.method.aim, record.method.class_mix) == ("profile", None)
    assert record.verdict.outcome == "help"
    assert record.verdict.estimate is not None
    assert record.verdict.estimate.own


def test_labels_come_before_the_estimate_which_stands_beside_them(
    tmp_path: Path, known: Path
) -> None:
    record = run(tmp_path / "run", SAMPLES / "target", known, labels="auto").record
    assert record.verdict.basis == "labels"
    assert record.verdict.estimate is not None


def test_few_images_give_no_verdict(tmp_path: Path, known: Path) -> None:
    request = AdaptRequest(
        model=ModelRequest(MODEL),
        target=SAMPLES / "target",
        pictures=PicturesRequest(labels="none", max_images=20),
        adaptation=Adaptation(method="adabn"),
        profile=known,
        folder=tmp_path / "run",
    )
    verdict = adapt(request).record.verdict
    assert (verdict.outcome, verdict.estimate.images) == ("cannot tell", 20)
    assert "too few" in verdict.sentence


def test_without_labels_or_a_profile_nothing_is_told_but_a_sign(
    tmp_path: Path, one_class: Path
) -> None:
    verdict = run(tmp_path / "run", one_class, None).record.verdict
    assert (verdict.outcome, verdict.basis, verdict.estimate) == ("cannot tell", "none", None)
    assert "weak sign of harm (low confidence)" in verdict.sentence


def test_keep_writes_the_source_model_and_a_pack_that_changes_nothing(
    tmp_path: Path, known: Path, one_class: Path
) -> None:
    done = run(tmp_path / "run", one_class, known, method="adabn", on_harm="keep")
    assert done.record.verdict.kept_source
    assert (done.folder / "model.pt").read_bytes() == MODEL.read_bytes()
    pack, out = done.folder / "pack.safetensors", tmp_path / "applied.pt"
    apply(ModelRequest(MODEL), pack, out, revert=False, force=False)
    assert out.read_bytes() == MODEL.read_bytes()
    read = Record.model_validate_json((done.folder / "run.json").read_text())
    assert read.verdict.kept_source
    # The evidence stays: what adapting would have done.
    assert right(done, "3") < right(done, "3", "before")


def test_keep_leaves_an_adapted_model_that_does_not_harm(tmp_path: Path, known: Path) -> None:
    done = run(tmp_path / "run", SAMPLES / "target", known, on_harm="keep")
    assert not done.record.verdict.kept_source
    assert (done.folder / "model.pt").read_bytes() != MODEL.read_bytes()


def test_an_unknown_setting_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--on-harm perhaps"):
        run(tmp_path / "run", SAMPLES / "target", None, on_harm="perhaps")
    assert not (tmp_path / "run").exists()


def test_the_model_holds_the_winner_of_a_contest_and_verify_agrees(
    tmp_path: Path, known: Path
) -> None:
    done = run(tmp_path / "run", SAMPLES / "target", known, method="auto", verify=True)
    assert done.record.method.forwards == 6
    assert done.record.residual is not None
    assert (done.record.residual.max_mean or 0) < 1e-6
    assert (done.record.residual.max_log_variance or 0) < 1e-6


def test_the_teachers_contest_leaves_plain_adabn_as_it_is(tmp_path: Path, known: Path) -> None:
    with_profile = run(tmp_path / "a", SAMPLES / "target", known, method="adabn")
    without = run(tmp_path / "b", SAMPLES / "target", None, method="adabn")
    one, other = (x.folder / "model.pt" for x in (with_profile, without))
    assert one.read_bytes() == other.read_bytes()
    assert with_profile.record.residual == without.record.residual
