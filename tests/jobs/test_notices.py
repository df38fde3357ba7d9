"""Odd targets are noticed on real digits, end to end, and ordinary ones are not."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adabn_cli.adaptation.methods import Adaptation
from adabn_cli.jobs.adapt.adabn import adapt
from adabn_cli.jobs.adapt.request import AdaptRequest
from adabn_cli.jobs.preprocessing import PreprocessingOptions
from adabn_cli.jobs.results.notices import FEW_PICTURES, Seen, notice_parts
from adabn_cli.jobs.scored_data import PicturesRequest
from adabn_cli.measures.counts import effective_classes
from adabn_cli.models.open import ModelRequest
from adabn_cli.record import Record, SampleSizePart, ScoresPart

Run = Callable[..., Record]


@pytest.fixture
def run(sample_data: Path, tmp_path: Path) -> Run:
    """Adapts the sample net to a folder."""

    def run(target: Path, *, labels: str = "auto", source: Path | None = None) -> Record:
        request = AdaptRequest(
            model=ModelRequest(sample_data / "digits_bn.pt"),
            target=target,
            pictures=PicturesRequest(labels=labels, workers=1),
            adaptation=Adaptation(method="matched" if source else None),
            source=source,
            folder=tmp_path / "run",
            force=True,
        )
        return adapt(request).record

    return run


def kinds(record: Record) -> list[str]:
    return [notice.kind for notice in record.notices]


def only(record: Record, kind: str) -> str:
    (sentence,) = [notice.sentence for notice in record.notices if notice.kind == kind]
    return sentence


def some(source: Path, folder: Path, n: int) -> Path:
    """So many pictures of class folders, spread over them."""
    files = sorted(source.glob("*/*.png"))
    for index in np.linspace(0, len(files) - 1, n).round().astype(int):
        (folder / files[index].parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(files[index], folder / files[index].parent.name)
    return folder


@pytest.mark.parametrize(("target", "labels"), [("mnist_1000", "none"), ("optdigits_1797", "auto")])
def test_ordinary_digits_are_nothing_to_notice(
    run: Run, shared_data: Path, target: str, labels: str
) -> None:
    record = run(shared_data / "digits" / target, labels=labels)
    assert record.notices == ()


def test_an_ordinary_target_is_nothing_to_notice_for_a_net_of_other_people(
    shared_data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ccexam", reason="its architecture: pip install --no-deps ccexam")
    request = AdaptRequest(
        model=ModelRequest(
            shared_data / "checkpoints" / "ccexam_usps.pth",
            arch="ccexam.models:USPSNet",
            arch_args={"input_size": 16},
        ),
        target=shared_data / "digits" / "mnist_1000",
        preprocessing=PreprocessingOptions(size=(16, 16), mean=(0.2471,), std=(0.2994,)),
        folder=tmp_path / "run",
    )
    record = adapt(request).record
    assert record.notices == ()
    assert len(record.broken) == min(20, record.change.broken or 0)
    folder = shared_data / "digits" / "mnist_1000"
    assert all((folder / picture.path).is_file() for picture in record.broken)
    assert all(picture.path.startswith(f"{picture.label}/") for picture in record.broken)
    confidences = [picture.confidence_after for picture in record.broken]
    assert confidences == sorted(confidences, reverse=True)


def test_as_many_pictures_as_are_no_longer_few_are_nothing_to_notice(
    run: Run, shared_data: Path, tmp_path: Path
) -> None:
    folder = some(shared_data / "digits" / "mnist_1000", tmp_path / "some", FEW_PICTURES)
    assert run(folder).notices == ()


def test_a_single_class_is_noticed_with_labels_and_without(
    run: Run, shared_data: Path, tmp_path: Path
) -> None:
    shutil.copytree(shared_data / "digits" / "mnist_1000" / "7", tmp_path / "one" / "7")
    labelled = run(tmp_path / "one")
    assert kinds(labelled) == ["single class"]
    assert '"7" is the label of 100% of 100' in only(labelled, "single class")
    unlabelled = run(tmp_path / "one", labels="none")
    assert kinds(unlabelled) == ["single class"]
    assert 'The source model says "7" of 9' in only(unlabelled, "single class")


@pytest.mark.parametrize("n", [1, 8, FEW_PICTURES - 1])
def test_a_handful_of_pictures_is_noticed(
    run: Run, shared_data: Path, tmp_path: Path, n: int
) -> None:
    record = run(some(shared_data / "digits" / "mnist_1000", tmp_path / "few", n))
    assert kinds(record) == ["few pictures"]
    sentence = only(record, "few pictures")
    assert sentence.startswith("1 picture is few" if n == 1 else f"{n} pictures are few")
    assert ("standard deviations" in sentence) == (n > 1)


@pytest.mark.parametrize("source", ["mnist_1000", "optdigits_1797"])
def test_one_scene_repeated_is_noticed(
    run: Run, shared_data: Path, tmp_path: Path, source: str
) -> None:
    digit = Image.open(sorted((shared_data / "digits" / source / "4").iterdir())[5]).convert("L")
    rng, (width, height) = np.random.default_rng(0), digit.size
    (tmp_path / "scene").mkdir()
    for index in range(48):
        zoom = 1 - rng.uniform(0, 0.15)
        left, top = (
            size * (1 - zoom) / 2 + rng.uniform(-0.06, 0.06) * size for size in (width, height)
        )
        moved = digit.transform(
            (2 * width, 2 * height),
            Image.Transform.AFFINE,
            (zoom / 2, 0, left, 0, zoom / 2, top),
            Image.Resampling.BILINEAR,
        )
        levels = np.asarray(moved, float) * rng.uniform(0.8, 1.2) + rng.normal(0, 10, moved.size)
        Image.fromarray(levels.clip(0, 255).astype(np.uint8)).save(
            tmp_path / "scene" / f"{index:02}.png"
        )
    assert "as if they showed one scene" in only(run(tmp_path / "scene"), "near-duplicates")


def test_the_collapse_that_a_profile_of_one_class_brings_is_noticed(
    run: Run, shared_data: Path, sample_data: Path, tmp_path: Path
) -> None:
    shutil.copytree(sample_data / "source" / "7", tmp_path / "source" / "7")
    target = shared_data / "digits" / "mnist_1000"
    record = run(target, labels="none", source=tmp_path / "source")
    assert kinds(record) == ["collapse"]
    assert "worth 1.0 classes after adapting, 10.0 before" in only(record, "collapse")


def seen(
    before: Sequence[int],
    after: Sequence[int],
    labels: Sequence[int] = (),
    names: Sequence[str] | None = None,
    sample_size: SampleSizePart | None = None,
) -> Seen:
    sides = [
        ScoresPart(predicted_histogram=tuple(x), effective_classes=effective_classes(x) or None)
        for x in (before, after)
    ]
    known = np.repeat(np.arange(len(labels)), labels) if labels else None
    return Seen(
        images=100,
        before=sides[0],
        after=sides[1],
        labels_N=known,
        names=names,
        sample_size=sample_size,
        sample_nCHW=None,
    )


@pytest.mark.parametrize(
    ("before", "after", "labels", "expected"),
    [
        ([50, 50], [50, 50], [50, 50], []),
        ([100, 0], [100, 0], [50, 50], []),
        ([91, 9], [80, 20], [], ["single class"]),
        ([89, 11], [80, 20], [], []),
        ([80, 20], [91, 9], [], ["single class"]),
        ([50, 50], [50, 50], [91, 9], ["single class"]),
        ([50, 50], [50, 50], [5, 0], []),
        ([4, 0], [4, 0], [], []),
        ([25, 25, 25, 25], [45, 50, 5, 0], [], []),
        ([25, 25, 25, 25], [40, 60, 0, 0], [], ["collapse"]),
        ([25, 25, 25, 25], [2, 98, 0, 0], [], ["collapse"]),
        ([25, 25, 25, 25], [40, 60, 0, 0], [25, 25, 25, 25], ["collapse"]),
        ([25, 25, 25, 25], [2, 98, 0, 0], [0, 100], ["single class"]),
        ([0, 0], [0, 0], [], []),
    ],
)
def test_where_notices_begin(
    before: list[int], after: list[int], labels: list[int], expected: list[str]
) -> None:
    assert [notice.kind for notice in notice_parts(seen(before, after, labels))] == expected


def test_a_class_name_stands_on_one_line_and_is_not_long() -> None:
    names = ["cat\n\x1b[31m" + "x" * 300, "dog"]
    (notice,) = notice_parts(seen([99, 1], [99, 1], names=names))
    assert "\n" not in notice.sentence
    assert "\x1b" not in notice.sentence
    assert len(notice.sentence) < 500
