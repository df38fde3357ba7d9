"""predictions.csv: a row an image, whatever its name is; no row where nothing is scored."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from adabn_cli.jobs.predictions import write_predictions
from adabn_cli.measures.scores import Scores


def _scores(*logits_NK):
    scores = Scores()
    if logits_NK:
        scores(0, torch.tensor(logits_NK))
    return scores


@pytest.mark.parametrize(
    ("classes", "labels_N", "rows"),
    [
        (("cat", "dog"), (1, -1), [("dog", "cat", "dog"), ("", "dog", "dog")]),
        (None, (1, 0), [("1", "0", "1"), ("0", "1", "1")]),
        (("cat",), None, [("", "cat", "1"), ("", "1", "1")]),
    ],
)
def test_a_row_an_image(tmp_path: Path, classes, labels_N, rows):
    before, after = _scores([4.0, 0.0], [0.0, 2.0]), _scores([0.0, 1.0], [0.0, 9.0])
    names = ['a, "b".png', "ü\\n.png"]
    labels = np.array(labels_N) if labels_N else None
    write_predictions(tmp_path / "p.csv", names, before, after, labels, classes)
    found = list(csv.DictReader((tmp_path / "p.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["path"] for row in found] == names
    assert [(row["label"], row["before"], row["after"]) for row in found] == rows
    assert float(found[0]["before_confidence"]) == pytest.approx(1 / (1 + np.exp(-4)), abs=1e-6)


def test_no_row_where_the_outputs_cannot_be_scored(tmp_path: Path):
    write_predictions(tmp_path / "p.csv", ["a.png"], _scores(), _scores(), None, None)
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 1
