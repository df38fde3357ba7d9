"""Models that give no class scores: maps, several labels, numbers. Through the command."""

from __future__ import annotations

import csv
import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_jaccard_index,
    multilabel_average_precision,
)

DIGITS = Path(__file__).with_name("segmented_digits.py")
# Its path is given to --arch too, so it is loaded from there.
_spec = spec_from_file_location("segmented_digits", DIGITS)
segmented_digits = module_from_spec(_spec)
sys.modules["segmented_digits"] = segmented_digits
_spec.loader.exec_module(segmented_digits)


@pytest.fixture(scope="session")
def digits(sample_data, tmp_path_factory):
    return segmented_digits.make(sample_data / "source", tmp_path_factory.mktemp("segmented"))


@pytest.fixture
def adapt(command, digits):
    def adapted(*options, pictures=digits.pictures):
        return command(
            *("adapt", digits.model, "--arch", f"{DIGITS}:DigitMaps", "-t", pictures, "-o", "run"),
            *("--force", *segmented_digits.PREPROCESSING, *options),
        )

    return adapted


def record(folder: str = "run") -> dict:
    return json.loads((Path(folder) / "run.json").read_text())


def logits_of(checkpoint: Path, digits) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps and masks of all pictures by torch and Pillow alone."""
    net = segmented_digits.DigitMaps()
    net.load_state_dict(torch.load(checkpoint, weights_only=True))
    files = sorted(digits.pictures.glob("*/*.png"))
    names = [file.relative_to(digits.pictures) for file in files]
    arrays = [
        np.stack([np.asarray(Image.open(root / name)) for name in names])
        for root in (digits.pictures, digits.masks)
    ]
    images = torch.tensor(arrays[0])[:, None].float() / 255
    with torch.no_grad():
        return net.eval()(images), torch.tensor(arrays[1]).long()


def test_maps_are_held_against_masks(adapt, digits):
    done = adapt("--masks", digits.masks)
    assert done.code == 0
    found = record()
    task = found["task"]
    assert (task["task"], task["n"]) == ("segmentation", 250)
    assert found["target"]["labeled_images"] == 250
    assert found["verdict"]["outcome"] == "help"
    assert found["verdict"]["sentence"] in " ".join(done.out.split())
    assert [part["name"] for part in task["figures"]] == ["mean IoU", "pixel accuracy"]
    for side, checkpoint in (("before", digits.model), ("after", Path("run/model.pt"))):
        logits, masks = logits_of(checkpoint, digits)
        iou = multiclass_jaccard_index(logits, masks, 11, average="macro")
        accuracy = multiclass_accuracy(logits, masks, 11, average="micro")
        assert task["figures"][0][side] == pytest.approx(float(iou), abs=1e-4)
        assert task["figures"][1][side] == pytest.approx(float(accuracy), abs=1e-4)
        each = multiclass_jaccard_index(logits, masks, 11, average="none")
        assert [part[side] for part in task["classes"]] == pytest.approx(each.tolist(), abs=1e-4)
    figure = task["figures"][0]
    low, high = figure["interval"]
    assert low < figure["after"] - figure["before"] < high


def test_every_rendering_tells_the_figures(adapt, digits, command):
    assert adapt("--masks", digits.masks).code == 0
    names = {"html": "r.html", "md": "r.md", "openmetrics": "r.txt", "model-card": "card.md"}
    options = [part for kind, name in names.items() for part in (f"--{kind}", name)]
    assert command("report", "run", *options).code == 0
    for name in names.values():
        assert "mean IoU" in Path(name).read_text(), name
    assert "mean IoU" in command("report", "run").out
    beside = command("report", "run", "run")
    assert "mean IoU" in beside.out


@pytest.mark.parametrize(
    ("gate", "code"),
    [
        ("mean_iou_drop>1pp", 0),
        ("mean_iou_after<0.99", 1),
        ("pixel_accuracy_drop>0.5pp", 0),
        ("mean_average_precision_after<0.5", 4),
        ("accuracy_drop>0.5pp", 4),
    ],
)
def test_gates_on_maps(adapt, digits, command, gate, code):
    assert adapt("--masks", digits.masks).code == 0
    assert command("report", "run", "--fail-on", gate).code == code
    if code != 4:
        assert command("report", "run", "--fail-on", gate, "--confidence", "0.9").code == code


def test_without_masks_maps_give_signals_and_no_verdict(adapt):
    assert adapt().code == 0
    found = record()
    assert (found["verdict"]["outcome"], found["verdict"]["basis"]) == ("cannot tell", "none")
    assert "--masks" in found["verdict"]["sentence"]
    assert found["task"]["figures"] == []
    assert found["after"]["entropy_mean"] < found["before"]["entropy_mean"]
    assert sum(found["after"]["predicted_histogram"]) == 250 * 28 * 28
    assert found["notices"] == []
    with Path("run/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 250
    mean = np.mean([float(row["after_entropy_nats"]) for row in rows])
    assert mean == pytest.approx(found["after"]["entropy_mean"], abs=1e-5)


def test_evaluate_scores_maps(adapt, digits, command):
    assert adapt("--masks", digits.masks).code == 0
    arch = ("--arch", f"{DIGITS}:DigitMaps")
    options = (*arch, "-d", digits.pictures, *segmented_digits.PREPROCESSING)
    pack = ("--pack", "run/pack.safetensors")
    done = command("evaluate", digits.model, *options, *pack, "--masks", digits.masks, "--json")
    assert done.code == 0
    after = json.loads(done.out)["task"]["figures"][0]["after"]
    assert after == pytest.approx(record()["task"]["figures"][0]["after"], abs=1e-6)
    shown = command("evaluate", digits.model, *options, *pack, "--masks", digits.masks)
    assert "mean IoU" in shown.out
    assert command("evaluate", digits.model, *options).code == 4


def spoil(masks: Path, kind: str) -> None:
    first = sorted(masks.glob("*/*.png"))[0]
    pixels = np.asarray(Image.open(first))
    spoiled = {
        "another shape": Image.fromarray(pixels[:14]),
        "colours": Image.fromarray(np.stack([pixels, pixels * 2, pixels], axis=2)),
        "a class too many": Image.fromarray(np.where(pixels > 0, 11, 0).astype(np.uint8)),
        "16 bits": Image.fromarray(pixels.astype(np.uint16) * 300),
    }
    if kind in spoiled:
        spoiled[kind].save(first)
    elif kind == "no picture":
        first.write_bytes(b"no picture")
    else:
        for mask in masks.glob("*/*.png"):
            mask.unlink()


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("another shape", "28 x 14 pixels, the picture 28 x 28"),
        ("colours", "colours (RGB)"),
        ("a class too many", "class 11, and the model has 11 classes"),
        ("16 bits", "values up to"),
        ("no picture", "cannot be read"),
        ("none", "No picture has a mask"),
    ],
)
def test_masks_that_do_not_fit_are_refused(adapt, digits, tmp_path, kind, told):
    masks = tmp_path / "masks"
    for file in digits.masks.glob("*/*.png"):
        (masks / file.parent.name).mkdir(parents=True, exist_ok=True)
        (masks / file.parent.name / file.name).write_bytes(file.read_bytes())
    spoil(masks, kind)
    done = adapt("--masks", masks)
    assert done.code == 3
    assert told in " ".join(done.err.split())
    assert not Path("run").exists()


def test_pictures_without_a_mask_count_for_nothing_and_are_named(adapt, digits, tmp_path):
    masks = tmp_path / "masks"
    (masks / "3").mkdir(parents=True)
    for file in (digits.masks / "3").glob("*.png"):
        (masks / "3" / file.name).write_bytes(file.read_bytes())
    assert adapt("--masks", masks).code == 0
    found = record()
    assert found["task"]["n"] == found["target"]["labeled_images"] == 25
    assert any("225 of 250 pictures have no mask" in text for text in found["warnings"])
    assert [part["name"] for part in found["task"]["classes"]] == ["0", "4"]


def test_masks_of_0_and_255_name_the_foreground_of_two_classes(command, digits, tmp_path):
    masks = tmp_path / "masks"
    for file in digits.masks.glob("*/*.png"):
        (masks / file.parent.name).mkdir(parents=True, exist_ok=True)
        pixels = np.asarray(Image.open(file))
        Image.fromarray(((pixels > 0) * 255).astype(np.uint8)).save(
            masks / file.parent.name / file.name
        )
    torch.manual_seed(0)
    torch.save(segmented_digits.InkMaps().state_dict(), "ink.pt")
    done = command(
        *("adapt", "ink.pt", "--arch", f"{DIGITS}:InkMaps", "-t", digits.pictures, "-o", "run"),
        *("--masks", masks, "--max-images", "40", *segmented_digits.PREPROCESSING),
    )
    assert done.code == 0
    assert any("255 is taken for class 1" in text for text in record()["warnings"])
    assert {part["name"] for part in record()["task"]["classes"]} == {"0", "1"}


def table_of(pictures: Path, file: Path) -> np.ndarray:
    """A column for each digit, 1 for the picture's own."""
    names = sorted(str(path.relative_to(pictures)) for path in pictures.rglob("*.png"))
    truth = np.array([[int(name.split("/")[0] == str(k)) for k in range(10)] for name in names])
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", *(str(k) for k in range(10))])
        writer.writerows([name, *row] for name, row in zip(names, truth.tolist(), strict=True))
    return truth


@pytest.fixture
def outputs(command, sample_model, few_pictures, tmp_path):
    """What the sample net gives for a few pictures, by the Python API."""
    from adabn_cli.data.open import open_target
    from adabn_cli.data.target import TargetRequest
    from adabn_cli.models.open import ModelRequest, open_model

    def of(checkpoint: Path) -> np.ndarray:
        model = open_model(ModelRequest(checkpoint)).model
        target = open_target(TargetRequest(few_pictures, model.preprocessing))
        return np.concatenate([model.forward(batch).numpy() for batch in target.batches()])

    return of


def test_several_labels_are_scored_by_average_precision(
    command, sample_model, few_pictures, tmp_path, outputs
):
    truth = table_of(few_pictures, tmp_path / "labels.csv")
    done = command(
        *("adapt", sample_model, "-t", few_pictures, "-o", "run", "--task", "multi-label"),
        *("--labels", tmp_path / "labels.csv"),
    )
    assert done.code == 0
    figure = record()["task"]["figures"][0]
    assert figure["name"] == "mean average precision"
    for side, checkpoint in (("before", sample_model), ("after", Path("run/model.pt"))):
        expected = multilabel_average_precision(
            torch.tensor(outputs(checkpoint)).sigmoid().double(), torch.tensor(truth), num_labels=10
        )
        assert figure[side] == pytest.approx(float(expected), abs=1e-4)
    gates = ("--fail-on", "mean_average_precision_after<0.01")
    assert command("report", "run", *gates).code == 0


def test_numbers_are_scored_by_their_errors(command, sample_model, few_pictures, tmp_path, outputs):
    truth = table_of(few_pictures, tmp_path / "values.csv")
    done = command(
        *("adapt", sample_model, "-t", few_pictures, "-o", "run", "--task", "regression"),
        *("--labels", tmp_path / "values.csv"),
    )
    assert done.code == 0
    absolute, square = record()["task"]["figures"]
    for side, checkpoint in (("before", sample_model), ("after", Path("run/model.pt"))):
        error = outputs(checkpoint).astype(np.float64) - truth
        assert absolute[side] == pytest.approx(np.abs(error).mean(), rel=1e-5)
        assert square[side] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-5)
    better = absolute["after"] < absolute["before"]
    low, high = absolute["interval"]
    expected = "cannot tell" if low <= 0 <= high else "help" if better else "harm"
    assert record()["verdict"]["outcome"] == expected
    assert command("report", "run", "--fail-on", "mean_absolute_error_rise>100").code == 0


def test_numbers_that_are_predicted_count_from_nowhere(
    command, sample_model, few_pictures, tmp_path, outputs
):
    names = sorted(str(path.relative_to(few_pictures)) for path in few_pictures.rglob("*.png"))
    columns = [f"c{number}" for number in range(10)]
    rows = [",".join([name, *"0123456789"]) for name in names]
    (tmp_path / "numbers.csv").write_text("\n".join([",".join(["path", *columns]), *rows]))
    done = command(
        *("adapt", sample_model, "-t", few_pictures, "-o", "run", "--task", "regression"),
        *("--labels", tmp_path / "numbers.csv", "--label-offset", 7),
    )
    assert (done.code, "--label-offset is for labels that are numbers" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("path,a,b\n0/x.png,1,0\n", "labels no picture"),
        ("a,b\n1,0\n", "no column path"),
        ("path,a\n{0},maybe\n", "line 2: 'maybe' is not a number"),
        ("path,a\n{0},2\n", "line 2: 2 is not 0 or 1"),
        ("path,a\n{0},1\n{0},0\n", "line 3"),
        ("path,a\n{0},1\n", "no labels of the model: a"),
        ("path,a,a\n{0},1,1\n", "two columns"),
    ],
)
def test_tables_that_do_not_fit_are_refused(
    command, sample_model, few_pictures, tmp_path, text, told
):
    first = min(str(path.relative_to(few_pictures)) for path in few_pictures.rglob("*.png"))
    (tmp_path / "labels.csv").write_text(text.format(first))
    done = command(
        *("adapt", sample_model, "-t", few_pictures, "-o", "run", "--task", "multi-label"),
        *("--labels", tmp_path / "labels.csv"),
    )
    assert done.code == 3
    assert told in " ".join(done.err.split())


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (("--task", "captions"), 2, "--task captions is unknown"),
        (("--task", "segmentation"), 3, "no maps"),
        (("--task", "detection"), 3, "no boxes"),
        (("--masks", "."), 2, "--masks are for maps"),
    ],
)
def test_a_task_that_does_not_fit_the_outputs_is_refused(
    command, sample_model, few_pictures, options, code, told
):
    done = command("adapt", sample_model, "-t", few_pictures, "-o", "run", *options)
    assert done.code == code
    assert told in " ".join(done.err.split())


def test_a_source_needs_no_masks_and_a_profile_of_maps_matches(adapt, digits, command):
    with_source = adapt("--masks", digits.masks, "--source", digits.pictures)
    assert with_source.code == 0
    assert record()["method"]["name"] == "matched"
    # A target that is its own source has nothing to adapt.
    figure = record()["task"]["figures"][0]
    assert figure["after"] == pytest.approx(figure["before"], abs=1e-3)
    done = command(
        *("profile", digits.model, "--arch", f"{DIGITS}:DigitMaps", "--source", digits.pictures),
        *("-o", "maps.profile", *segmented_digits.PREPROCESSING),
    )
    assert done.code == 0
    assert "--masks" not in done.out + done.err


def test_a_picture_without_a_mask_is_not_all_foreground(command, digits, tmp_path):
    masks = tmp_path / "masks"
    for place, file in enumerate(sorted(digits.masks.glob("*/*.png"))):
        (masks / file.parent.name).mkdir(parents=True, exist_ok=True)
        ink = (np.asarray(Image.open(file)) > 0) * 255
        if place % 2:
            Image.fromarray(ink.astype(np.uint8)).save(masks / file.parent.name / file.name)
    some = tmp_path / "some"
    for file in masks.glob("*/*.png"):
        (some / file.parent.name).mkdir(parents=True, exist_ok=True)
        picture = digits.pictures / file.parent.name / file.name
        (some / file.parent.name / file.name).write_bytes(picture.read_bytes())
    torch.manual_seed(0)
    torch.save(segmented_digits.InkMaps().state_dict(), "ink.pt")
    figures = []
    for pictures in (digits.pictures, some):
        done = command(
            *("evaluate", "ink.pt", "--arch", f"{DIGITS}:InkMaps", "-d", pictures, "--json"),
            *("--masks", masks, *segmented_digits.PREPROCESSING),
        )
        figures.append([part["after"] for part in json.loads(done.out)["task"]["figures"]])
    assert figures[0] == pytest.approx(figures[1])


def test_a_mask_of_another_picture_is_not_taken(command, digits, tmp_path):
    names = [file.relative_to(digits.pictures) for file in digits.pictures.glob("*/*.png")]
    pictures, masks = tmp_path / "pictures", tmp_path / "masks"
    for folder in ("a", "b"):
        (pictures / folder).mkdir(parents=True)
        (pictures / folder / "1.png").write_bytes((digits.pictures / names[0]).read_bytes())
    (masks / "b").mkdir(parents=True)
    (masks / "b" / "1.png").write_bytes((digits.masks / names[0]).read_bytes())
    done = command(
        *("evaluate", digits.model, "--arch", f"{DIGITS}:DigitMaps", "-d", pictures, "--json"),
        *("--masks", masks, *segmented_digits.PREPROCESSING),
    )
    assert json.loads(done.out)["task"]["n"] == 1


def test_few_masks_give_no_interval_and_no_verdict(adapt, digits):
    assert adapt("--masks", digits.masks, "--max-images", "3").code == 0
    found = record()
    assert found["task"]["figures"][0]["interval"] is None
    assert found["verdict"]["outcome"] == "cannot tell"
    assert "too few" in found["verdict"]["sentence"]
