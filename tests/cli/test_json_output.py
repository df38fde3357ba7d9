"""With --json stdout is one JSON document, whatever happens; a run's record has stable keys."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

_KEYS = {
    "": "schema_version model target method before after change kl sites residual verdict gates "
    "run",
    "model": "path format sha256 architecture architecture_source preprocessing",
    "target": "path kind images skipped labels subsample",
    "method": "engine prior alpha layers chunk_size dtype seed",
    "before": "accuracy accuracy_interval confidence_mean entropy_mean predicted_histogram n",
    "after": "accuracy accuracy_interval confidence_mean entropy_mean predicted_histogram n",
    "change": "accuracy interval fixed broken mcnemar_p agreement",
    "residual": "max_mean max_log_variance site",
}
_SITE_KEYS = (
    "name kind channels adapted reason count dead_channels kl_before kl_after standard_error_max"
)


@pytest.fixture
def record(command, sample_run):
    return json.loads(command("report", sample_run, "--json").out)


def test_the_record_has_the_keys_that_scripts_rely_on(record):
    for part, keys in _KEYS.items():
        assert set(keys.split()) <= set(record[part] if part else record), part
    assert set(_SITE_KEYS.split()) <= set(record["sites"][0])
    for side in ("before", "after"):
        assert {"mean", "median", "p95", "max"} <= set(record["kl"][side])
    assert record["schema_version"] == 1


def test_the_sample_run_helps_and_is_self_consistent(record):
    assert record["before"]["accuracy"] == pytest.approx(0.3907, abs=0.005)
    assert record["after"]["accuracy"] > 0.83
    assert record["verdict"]["outcome"] == "help"
    assert max(record["residual"]["max_mean"], record["residual"]["max_log_variance"]) < 1e-6
    first = record["sites"][0]
    assert first["kl_before"] == first["kl_after"]


def test_two_runs_of_the_same_work_are_equal_but_for_run(command, sample_model, few_pictures):
    files = {}
    for out in ("one", "two"):
        done = command("adapt", sample_model, "-t", few_pictures, "-o", out, "--json")
        record = json.loads(done.out)
        assert record == json.loads(Path(out, "run.json").read_text())
        del record["run"]
        names = ("pack.safetensors", "predictions.csv", "model.pt")
        files[out] = [record, *(Path(out, name).read_bytes() for name in names)]
    assert files["one"] == files["two"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["adapt", "--json"], 2),
        (["adapt", "MODEL", "--json", "-t", "PICTURES", "--alpha", "7"], 2),
        (["adapt", "absent.pt", "-t", "PICTURES", "--json"], 3),
        (["adapt", "MODEL", "-t", "absent", "--json"], 3),
        (["report", "--json"], 2),
        (["report", "absent", "--json"], 3),
        (["report", "--no-such-option", "--json"], 2),
        (["evaluate", "MODEL", "-d", "PICTURES", "--labels", "none", "--json"], 4),
        (["inspect", "absent.pt", "--json"], 3),
        (["apply", "MODEL", "absent.safetensors", "-o", "out.pt", "--json"], 3),
        (["nothing", "--json"], 2),
    ],
)
def test_a_failure_is_one_json_document_too(command, sample_model, few_pictures, arguments, code):
    names = {"MODEL": sample_model, "PICTURES": few_pictures}
    done = command(*(names.get(word, word) for word in arguments))
    error = json.loads(done.out)["error"]
    assert (done.code, error["exit_code"]) == (code, code)
    assert error["what"]
    assert error["hint"]


def test_a_bug_is_one_json_document_too(command, sample_run, monkeypatch):
    monkeypatch.setattr("adabn_cli.record.run_folder.read_record", lambda path: 1 / 0)
    done = command("report", sample_run, "--json")
    assert (done.code, json.loads(done.out)["error"]["exit_code"]) == (70, 70)


def test_every_other_command_gives_one_document(command, sample_model, few_pictures, sample_run):
    assert json.loads(command("inspect", sample_model, "--json").out)["format"] == "torch-zip"
    scored = command("evaluate", sample_model, "-d", few_pictures, "--json")
    assert json.loads(scored.out)["scores"]["n"] == 40
    planned = command("adapt", sample_model, "-t", few_pictures, "--dry-run", "--json")
    assert json.loads(planned.out)["plan"]["images"] == 40
    assert not list(Path().iterdir()), "a dry run writes nothing"
    pack = sample_run / "pack.safetensors"
    put = command("apply", sample_model, pack, "-o", "out.pt", "--json")
    assert json.loads(put.out)["sites"] == 4


def test_predictions_have_a_row_an_image(sample_run, record):
    text = (sample_run / "predictions.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == 1797
    right = sum(row["after"] == row["label"] for row in rows)
    assert right / 1797 == pytest.approx(record["after"]["accuracy"])
    assert sum(row["before"] != row["after"] for row in rows) == 1797 - round(
        1797 * record["change"]["agreement"]
    )
