"""Baselines: from a folder, a file and git; what changed; what is not compared."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from adabn_cli.errors import CannotTellError, InputError
from adabn_cli.gates.baseline import hold_against, read_baseline, varied
from adabn_cli.gates.comparison import apart, as_document
from adabn_cli.gates.gates import GateRequest, exit_code, judged
from adabn_cli.measures.counts import wilson_interval
from adabn_cli.record import ScoresPart, SkippedPicture

_GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def write(record):
    def written(path="base/run.json", **parts):
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        changed = {
            name: getattr(record, name).model_copy(update=fields) for name, fields in parts.items()
        }
        file.write_text(record.model_copy(update=changed).as_json(), encoding="utf-8")
        return str(path)

    return written


@pytest.fixture
def in_git(write):
    """A repository whose first commit has a run, and whose second has a better one."""
    git = [*_GIT, "-C", "repository"]
    subprocess.run([*_GIT, "init", "-q", "repository"], check=True)
    for accuracy in (0.7, 0.8):
        write("repository/kept/run.json", after={"accuracy": accuracy})
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-qm", "a run"], check=True)
    return Path("repository")


def test_a_folder_and_its_file_are_the_same_baseline(write):
    file = write()
    assert read_baseline("base") == read_baseline(file)


@pytest.mark.parametrize(
    ("name", "accuracy"),
    [
        ("HEAD:kept/run.json", 0.8),
        ("HEAD~1:kept/run.json", 0.7),
        ("HEAD~1:kept", 0.7),
        ("HEAD~1:kept/", 0.7),
        ("HEAD:./kept/run.json", 0.8),
    ],
)
def test_a_revision_of_a_run_is_read_from_git(in_git, monkeypatch, name, accuracy):
    monkeypatch.chdir(in_git)
    assert read_baseline(name).after.accuracy == accuracy


def test_a_file_whose_name_has_a_colon_is_a_file(write):
    assert read_baseline(write("a:b.json")).after.n == 1797


@pytest.mark.parametrize(
    "name",
    [
        *("absent", "absent/run.json", "HEAD:absent/run.json", "nonsense:kept", "HEAD:", ":"),
        *("--output=made:kept", "-x:kept", "HEAD:\nkept", ""),
    ],
)
def test_a_missing_baseline_cannot_tell(record, in_git, monkeypatch, name):
    monkeypatch.chdir(in_git)
    held = judged(record, GateRequest(fail_on=("accuracy_after.change<0",), baseline=name))
    assert [gate.status for gate in held.gates] == ["cannot tell"] * 2
    assert all("no baseline" in gate.reason for gate in held.gates)
    assert held.baseline is None
    assert exit_code(held.gates) == 4
    assert not Path("made").exists()


def test_outside_a_repository_and_without_git_it_cannot_tell(monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(Path.cwd().parent))
    with pytest.raises(CannotTellError, match="git has no"):
        read_baseline("HEAD:run.json")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CannotTellError, match="git cannot be run"):
        read_baseline("HEAD:run.json")


def test_a_folder_without_a_run_is_a_missing_baseline():
    Path("empty").mkdir()
    with pytest.raises(CannotTellError, match="holds no run"):
        read_baseline("empty")


@pytest.mark.parametrize("text", ["", "{}", '{"schema_version": 7}', "version https://lfs\n"])
def test_a_baseline_that_is_no_run_is_an_error(text):
    Path("run.json").write_text(text)
    with pytest.raises(InputError, match=r"run\.json"):
        read_baseline("run.json")


def test_what_changed_is_told_by_measure(record, write):
    file = write(after={"accuracy": 0.80}, target={"skipped": ()})
    part = hold_against(record, file).part
    changes = {change.measure: (change.baseline, change.now) for change in part.changes}
    assert changes["accuracy_after"] == (0.80, record.after.accuracy)
    assert changes["kl_after_mean"] == (record.kl.after.mean, record.kl.after.mean)
    assert "ece_after" not in changes, "neither run has one"
    assert (part.path, part.started, part.differences) == (file, record.run.started, ())


def test_a_change_is_the_value_less_that_of_the_baseline(record, write):
    file = write(after={"accuracy": 0.90, "correct": 1617}, run={"started": "earlier"})
    asked = (
        "accuracy_after.change<-0.5pp",
        "accuracy_after.change<-10pp",
        "kl_after_mean.change>0.1",
    )
    held = judged(record, GateRequest(fail_on=asked, baseline=file))
    baseline, *gates = held.gates
    assert (baseline.expression, baseline.status, baseline.n) == ("baseline", "passed", 1797)
    assert [gate.status for gate in gates] == ["failed", "passed", "passed"]
    assert gates[0].measure == "accuracy_after.change"
    assert gates[0].value == pytest.approx(record.after.accuracy - 0.90)
    assert gates[2].value == 0


def test_with_a_confidence_a_change_is_held_by_both_intervals(record, write):
    correct = record.after.correct + 20
    file = write(after={"accuracy": correct / 1797, "correct": correct})
    asked = ("accuracy_after.change<0pp",)
    plain, sure = (
        judged(record, GateRequest(fail_on=asked, confidence=confidence, baseline=file)).gates[1]
        for confidence in (None, 0.95)
    )
    assert (plain.status, sure.status) == ("failed", "passed")
    (low, _), (_, high) = wilson_interval(1520, 1797), wilson_interval(correct, 1797)
    assert low - high < float(sure.reason.split("interval ")[1].split(" to ")[0]) < plain.value


def test_counts_as_shares_are_subtracted_as_shares(record, write):
    skipped = tuple(SkippedPicture(path=f"{n}.png", reason="cut off") for n in range(203))
    more = record.model_copy(
        update={"target": record.target.model_copy(update={"skipped": skipped})}
    )
    (_, count, share) = judged(
        more,
        GateRequest(
            fail_on=("skipped_images.change>202", "skipped_images.change>11%"), baseline=write()
        ),
    ).gates
    assert (count.status, count.value) == ("failed", 203)
    assert (share.status, share.value) == ("passed", pytest.approx(203 / 2000))


def test_a_change_of_what_the_baseline_lacks_cannot_be_told(record, write):
    file = write(after={"accuracy": None})
    (_, gate) = judged(
        record, GateRequest(fail_on=("accuracy_after.change<0",), baseline=file)
    ).gates
    assert (gate.status, gate.reason) == ("cannot tell", "the baseline has none: no labels")


def test_a_change_without_a_baseline_cannot_be_told(record):
    (gate,) = judged(record, GateRequest(fail_on=("accuracy_after.change<0",))).gates
    assert gate.status == "cannot tell"
    assert "--baseline" in gate.reason


_APART = [
    ({"target": {"fingerprint": "f" * 64, "images": 12}}, "other pictures (1,797, and 12"),
    ({"target": {"fingerprint": None}}, "not known"),
    ({"target": {"labeled_images": 100}}, "other labels (1,797 images, and 100"),
    ({"model": {"classes": tuple("abcdefghij")}}, "other classes"),
    ({"model": {"preprocessing": None}}, "other preprocessing"),
]


@pytest.mark.parametrize(("other", "told"), _APART)
def test_what_cannot_be_compared_is_not_unless_it_is_asked_for(record, write, other, told):
    file, asked = write(**other), ("accuracy_after.change<0",)
    refused = judged(record, GateRequest(fail_on=asked, baseline=file))
    assert [gate.status for gate in refused.gates] == ["cannot tell"] * 2
    assert all("--allow-different" in gate.reason for gate in refused.gates)
    assert refused.baseline.changes == ()
    (difference,) = refused.baseline.differences
    assert told in difference
    allowed = judged(record, GateRequest(fail_on=asked, baseline=file, allow_different=True))
    assert [gate.status for gate in allowed.gates] == ["passed"] * 2
    assert told in allowed.gates[0].reason
    assert allowed.baseline.changes


def test_where_the_input_is_known_from_is_no_difference(record, write):
    source = record.model.preprocessing.model_copy(update={"source": "your options"})
    assert not hold_against(record, write(model={"preprocessing": source})).part.differences


def test_weights_and_methods_are_told_and_compared(record, write):
    file = write(model={"weights": "0" * 64}, method={"engine": "one-pass", "prior": 8.0})
    part = hold_against(record, file).part
    now, prior = record.method.engine, record.method.prior
    assert part.varied == (
        "other weights",
        f"engine {now}, and one-pass in the other run",
        f"prior {prior if prior is not None else 'none'}, and 8 in the other run",
    )
    assert part.changes
    assert varied(record, record) == ()


def test_several_runs_are_one_document(record):
    other = record.model_copy(
        update={"target": record.target.model_copy(update={"fingerprint": "0"})}
    )
    document = as_document([record, record, other])
    assert [run["schema_version"] for run in document["runs"]] == [1, 1, 1]
    (told,) = document["differences"]
    assert told.startswith("run 3, beside run 1: other pictures")
    assert apart([record, record]) == ()


def test_old_runs_without_scores_are_compared_as_far_as_they_go(record, write):
    bare = record.model_copy(update={"before": ScoresPart(), "after": ScoresPart()})
    part = hold_against(bare, write()).part
    assert "other classes" not in part.differences
