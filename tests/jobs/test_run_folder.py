"""A run appears whole or not at all, replaces runs only, and is found again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from adabn_cli.errors import InputError, UsageError
from adabn_cli.files import may_write_folder
from adabn_cli.record.run_folder import (
    RECORD,
    name_run,
    newest_run,
    read_record,
    written_whole,
)


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def _write(folder: Path, text: str) -> None:
    with written_whole(folder, force=True) as temporary:
        (temporary / "run.json").write_text(text)


def test_nothing_stays_of_a_run_that_fails():
    def stopped():
        with written_whole(Path("runs/run"), force=True) as temporary:
            (temporary / "run.json").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert not list(Path("runs").iterdir())


def test_a_run_is_replaced_whole_and_stays_where_replacing_fails(monkeypatch):
    _write(Path("run"), "old")
    replace = Path.replace

    def stopped(path, target):
        if path.name.startswith(".run-"):
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stopped)
        with pytest.raises(KeyboardInterrupt):
            _write(Path("run"), "new")
    assert Path("run/run.json").read_text() == "old"
    _write(Path("run"), "new")
    assert Path("run/run.json").read_text() == "new"
    assert [path.name for path in Path().iterdir()] == ["run"]


def test_an_empty_folder_and_a_link_take_a_run():
    Path("empty").mkdir()
    Path("link").symlink_to("empty")
    _write(Path("link"), "new")
    assert Path("link").is_symlink()
    assert Path("empty/run.json").read_text() == "new"


def test_only_runs_give_way_and_only_by_force():
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("years of work")
    _write(Path("run"), "{}")
    Path("file").write_text("")
    for folder, force in (("mine", False), ("mine", True), ("run", False), ("file", True)):
        with pytest.raises(UsageError):
            may_write_folder(Path(folder), force=force, holds=RECORD)
    may_write_folder(Path("run"), force=True, holds=RECORD)
    may_write_folder(Path("new/deep/down"), holds=RECORD)
    with pytest.raises(InputError):
        may_write_folder(Path("file/run"), holds=RECORD)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused_at_once():
    Path("locked").mkdir(mode=0o500)
    with pytest.raises(InputError):
        may_write_folder(Path("locked/run"), holds=RECORD)


def test_runs_are_named_by_date_model_and_target_and_numbered():
    first = name_run(Path("a/net v2.pt"), Path("sättel/../pics"), "2026-11-23T20:00:00")
    assert first == Path("adabn-runs/2026-11-23-net_v2-pics")
    first.mkdir(parents=True)
    second = name_run(Path("a/net v2.pt"), Path("pics"), "2026-11-23T20:00:00")
    assert second.name == "2026-11-23-net_v2-pics-2"


def test_the_newest_run_is_the_one_written_last_and_never_a_half_written_one():
    with pytest.raises(UsageError):
        newest_run()
    for age, name in enumerate((".half-x", "b", "a")):
        folder = Path("adabn-runs", name)
        folder.mkdir(parents=True)
        (folder / "run.json").write_text("{}")
        os.utime(folder / "run.json", (0, 1000 - age))
    assert newest_run() == Path("adabn-runs/b")


def test_a_record_of_schema_1_is_read_from_folder_or_file(record):
    _write(Path("run"), record.as_json())
    assert read_record(Path("run")) == read_record(Path("run/run.json")) == record


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not the record"),
        ("[]", "not the record"),
        ("{}", "not the record"),
        ("\x00\x01", "not the record"),
    ],
)
def test_what_is_no_record_is_refused(text, told):
    Path("run.json").write_text(text)
    with pytest.raises(InputError, match=told):
        read_record(Path("run.json"))


def test_a_record_of_another_schema_says_so(record):
    document = json.loads(record.as_json()) | {"schema_version": 7}
    Path("run.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="schema version 7; this adabn reads version 1"):
        read_record(Path("run.json"))
    for absent in ("absent", "."):
        Path("run.json").unlink(missing_ok=True)
        with pytest.raises(InputError, match="no run to read"):
            read_record(Path(absent))
