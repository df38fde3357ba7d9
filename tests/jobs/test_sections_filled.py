"""The parts of a record that scripts and renderers rely on, held against direct computations."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adabn_cli.adaptation.profiles import Predictions, Profile
from adabn_cli.jobs.live.module import adapt, profile
from adabn_cli.jobs.results.broken_pictures import broken_parts
from adabn_cli.jobs.results.sample_size import sample_size_part
from adabn_cli.jobs.results.sections import scores_part
from adabn_cli.measures.scores import Scores
from adabn_cli.record import Record, SitePart


def net(seed: int = 0, classes: int = 8) -> nn.Sequential:
    """Two BatchNorm layers with statistics that are not those of anything."""
    torch.manual_seed(seed)
    layers = nn.Sequential(
        nn.Conv2d(1, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 36, 5),
        nn.BatchNorm1d(5),
        nn.Linear(5, classes),
    )
    for layer in layers:
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.running_mean = torch.randn(layer.num_features)
            layer.running_var = torch.rand(layer.num_features) + 0.5
    return layers.eval()


def images(n: int = 90, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, 8, 8, generator=generator) + torch.randn(
        n, 1, 1, 1, generator=generator
    )


def labels(n: int = 90, classes: int = 8) -> Tensor:
    return torch.randint(-1, classes, (n,), generator=torch.Generator().manual_seed(2))


def scored(logits: Tensor) -> Scores:
    scores = Scores()
    scores(0, logits)
    return scores


def predictions(n: int = 200, classes: int = 8) -> Predictions:
    generator = torch.Generator().manual_seed(3)
    return Predictions(
        predicted_N=torch.randint(0, classes, (n,), generator=generator),
        confidence_N=torch.rand(n, generator=generator, dtype=torch.float64),
        entropy_N=torch.zeros(n),
        class_N=torch.randint(-1, 2, (n,), generator=generator),
        classes=classes,
    )


def with_predictions(found: Predictions | None) -> Profile:
    return cast(Profile, SimpleNamespace(predictions=found))


def test_a_run_with_labels_fills_every_figure_of_both_sides() -> None:
    source = profile(net(), [(images(seed=5), labels())])
    record = adapt(net(), [(images(), labels())], profile=source, method="adabn")
    for side in (record.before, record.after):
        assert side.calibration is not None
        assert sum(side.calibration.counts) == side.labeled == int((labels() >= 0).sum())
        assert sum(side.calibration.correct) == side.correct
        assert sum(side.confidence_histogram) == side.n == 90
        assert side.mutual_information is not None
        assert side.effective_classes is not None
        assert side.top5_accuracy is not None
        assert side.accuracy is not None
        assert side.top5_accuracy >= side.accuracy
        assert side.estimated_accuracy is not None
        assert side.estimated_accuracy.source_images == side.labeled
    assert record.sample_size is not None
    assert Record.model_validate_json(record.as_json()) == record


def test_a_run_without_labels_or_profile_has_what_needs_neither() -> None:
    side = adapt(net(), [images()]).before
    assert (side.calibration, side.top5_accuracy, side.estimated_accuracy) == (None, None, None)
    assert side.mutual_information is not None
    assert sum(side.confidence_histogram) == 90


def test_outputs_that_are_no_class_scores_leave_all_of_it_out() -> None:
    side = scores_part(scored(torch.zeros(3, 2, 4, 4)), None)
    assert (side.n, side.confidence_histogram, side.effective_classes) == (0, (), None)


def test_predictions_that_are_all_nan_have_no_figure() -> None:
    side = scores_part(scored(torch.full((4, 7), torch.nan)), np.zeros(4, np.int64))
    assert (side.mutual_information, side.effective_classes, side.calibration) == (None,) * 3
    assert (side.top5_accuracy, side.accuracy, side.confidence_histogram) == (None, None, ())
    assert (side.not_finite, side.n) == (4, 4)


@pytest.mark.parametrize(("classes", "known"), [(2, False), (5, False), (6, True)])
def test_five_of_five_classes_are_no_measure(classes: int, known: bool) -> None:
    logits = torch.randn(20, classes, generator=torch.Generator().manual_seed(0))
    side = scores_part(scored(logits), np.zeros(20, np.int64))
    assert (side.top5_accuracy is not None) == known


def test_estimates_go_by_the_labelled_source_images_alone() -> None:
    scores, known = scored(torch.randn(50, 8) * 3), predictions()
    found = scores_part(scores, None, with_predictions(known)).estimated_accuracy
    assert found is not None
    labelled = (known.class_N >= 0).numpy()
    confidence = known.confidence_N.numpy()[labelled]
    error = (known.predicted_N != known.class_N).numpy()[labelled].mean()
    assert found.source_images == labelled.sum()
    expected = (1 - error) + scores.confidence_N.mean() - confidence.mean()
    assert found.doc == pytest.approx(expected)
    threshold = np.quantile(confidence, error, method="higher")
    assert found.atc == pytest.approx((scores.confidence_N >= threshold).mean(), abs=0.021)


def test_without_labelled_source_images_there_are_no_estimates() -> None:
    known = predictions()
    unlabelled = replace(known, class_N=-torch.ones(200))
    for found in (None, unlabelled):
        side = scores_part(scored(torch.randn(5, 8)), None, with_predictions(found))
        assert side.estimated_accuracy is None


def test_shifts_are_the_target_in_standard_deviations_of_the_source() -> None:
    module, x = net(), images()
    with torch.no_grad():
        activation = module[0](x).double().transpose(0, 1).flatten(1)
    layer = cast(nn.BatchNorm2d, module[1])
    mean, var = cast(Tensor, layer.running_mean).clone(), cast(Tensor, layer.running_var).clone()
    shift = adapt(module, x.split(32)).sites[0].shift
    assert shift is not None
    spread = (var.double() + layer.eps).sqrt()
    expected = ((activation.mean(1) - mean.double()) / spread).tolist()
    assert shift.mean == pytest.approx(expected, abs=6e-5)
    ratio = (activation.var(1, correction=0) + layer.eps).log() - 2 * spread.log()
    assert shift.log_variance_ratio == pytest.approx(ratio.tolist(), abs=6e-5)
    assert all(round(value, 4) == value for value in shift.mean if value is not None)


def test_dead_channels_have_no_shift_and_no_standard_error() -> None:
    module = net()
    cast(nn.Conv2d, module[0]).weight.data[2] = 0
    first = adapt(module, [images()]).sites[0]
    assert first.shift is not None
    assert [i for i, value in enumerate(first.shift.mean) if value is None] == [2]
    assert [i for i, value in enumerate(first.shift.log_variance_ratio) if value is None] == [2]
    cast(nn.Conv2d, module[0]).weight.data[:] = 0
    assert adapt(module, [images()]).sites[0].standard_error_max is None


def site(name: str, error: float | None, *, adapted: bool = True) -> SitePart:
    return SitePart(
        name=name,
        kind="batch_norm",
        channels=1,
        adapted=adapted,
        reason=None,
        count=1,
        dead_channels=0,
        kl_before=None,
        kl_after=None,
        standard_error_max=error,
    )


def test_the_sample_size_goes_by_the_worst_adapted_site() -> None:
    sites = [site("a", 0.02), site("b", 0.05), site("c", None), site("d", 0.9, adapted=False)]
    part = sample_size_part(sites, 400)
    assert part is not None
    assert (part.site, part.images) == ("b", (12, 25, 50, 100, 200, 400, 800, 1600))
    assert part.errors == pytest.approx([0.05 * (400 / n) ** 0.5 for n in part.images])
    assert part.enough == 100
    assert part.tolerance == 0.1


def test_so_many_images_as_are_enough_come_within_the_tolerance() -> None:
    part = sample_size_part([site("a", 0.3)], 11)
    assert part is not None
    assert part.images == (2, 3, 6, 11, 22, 44)  # Two at least
    errors = [0.3 * (11 / n) ** 0.5 for n in (part.enough - 1, part.enough)]
    assert errors[0] > part.tolerance >= errors[1]


def test_one_image_tells_no_sample_size() -> None:
    assert sample_size_part([site("a", None)], 1) is None
    assert adapt(net(), [torch.randn(1, 1, 8, 8)]).sample_size is None


def test_standard_errors_predict_how_means_scatter() -> None:
    part = adapt(net(), images(4000).split(500)).sample_size
    assert part is not None
    with torch.no_grad():
        activation = net()[0](images(4000)).mean((2, 3))
        spread = net()[0](images(4000)).std((0, 2, 3))
    assert 500 in part.images
    means = activation.reshape(-1, 500, 6).mean(1)
    first = adapt(net(), images(4000).split(500)).sites[0].standard_error_max
    assert first is not None
    assert float((means.std(0) / spread).max()) == pytest.approx(first * 8**0.5, rel=0.5)


def test_the_surest_errors_among_the_broken_come_first() -> None:
    before = scored(torch.tensor([[9.0, 0], [9, 0], [9, 0], [0, 9], [9, 0], [9, 0]]))
    after = scored(torch.tensor([[0.0, 2], [0, 5], [9, 0], [0, 9], [torch.nan, 0], [0, 4]]))
    known = np.array([0, 0, 0, 0, 0, -1])
    names, paths = ["cat", "dog"], [f"{index}.png" for index in range(6)]
    first, second = broken_parts(before, after, known, paths, names)
    assert (first.path, first.label, first.predicted) == ("1.png", "cat", "dog")
    assert first.confidence_before == pytest.approx(1 / (1 + np.exp(-9.0)))
    assert first.confidence_after == pytest.approx(1 / (1 + np.exp(-5.0)))
    assert second.path == "0.png"
    assert broken_parts(before, after, known, paths, None)[0].label == "0"
    assert broken_parts(before, after, None, paths, names) == ()
    assert broken_parts(before, after, known, None, names) == ()


def test_at_most_twenty_broken_pictures_are_named_and_any_file_name_can_be_written() -> None:
    before, after = scored(torch.tensor([[9.0, 0]] * 30)), scored(torch.tensor([[0.0, 9]] * 30))
    paths = ["\udcff<script>.png", *(f"{index}.png" for index in range(29))]
    parts = broken_parts(before, after, np.zeros(30, np.int64), paths, None)
    assert [part.path for part in parts[1:]] == paths[1:20]
    assert parts[0].path == "\\xff<script>.png"


def test_an_old_record_without_the_new_parts_still_loads(record: Record) -> None:
    assert record.sample_size is None
    assert record.before.calibration is None
    assert (record.broken, record.notices, record.sites[0].shift) == ((), (), None)


def test_twenty_thousand_images_are_summed_up_within_a_second() -> None:
    generator = torch.Generator().manual_seed(0)
    before, after = Scores(), Scores()
    for index in range(40):
        before(index, torch.randn(500, 50, generator=generator) * 3)
        after(index, torch.randn(500, 50, generator=generator) * 3)
    known = torch.randint(0, 50, (20_000,), generator=generator).numpy()
    start = time.perf_counter()
    part = with_predictions(predictions(20_000, 50))
    scores_part(before, known, part)
    scores_part(after, known, part)
    broken_parts(before, after, known, [f"{index}.png" for index in range(20_000)], None)
    assert time.perf_counter() - start < 1
