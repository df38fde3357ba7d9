"""The same 300 real pictures from every source, through the command: the same pack to the byte."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adabn_cli.cli.boundary import run

PICTURES = 300


@pytest.fixture(scope="module")
def digits(sample_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """300 of the sample target's digits in class folders, the folder that commands run in."""
    folder = tmp_path_factory.mktemp("digits")
    files = sorted((sample_data / "target").rglob("*.png"))[:: 1797 // PICTURES]
    for file in files[:PICTURES]:
        copy = folder / "pictures" / file.parent.name / file.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def adapted(digits: Path, sample_data: Path) -> Callable[[str], tuple[bytes, dict]]:
    """The pack and the record that `adabn adapt` writes for a target."""

    def adapted(target: str, *options: str) -> tuple[bytes, dict]:
        model = str(sample_data / "digits_bn.pt")
        assert run(["adapt", model, "-t", target, "-o", "run", "--force", "-q", *options]) == 0
        record = json.loads(Path("run/run.json").read_text(encoding="utf-8"))
        return Path("run/pack.safetensors").read_bytes(), record

    return adapted


@pytest.fixture(scope="module")
def of_the_folder(adapted) -> tuple[bytes, dict]:
    return adapted("pictures")


def names(digits: Path) -> list[str]:
    return [str(file.relative_to(digits)) for file in digits.glob("pictures/*/*.png")]


def table(digits: Path, separator: str) -> str:
    rows = [f"{name}{separator}{Path(name).parent.name}" for name in names(digits)]
    return "\n".join([f"path{separator}label", *reversed(rows)])


def check(same: tuple[bytes, dict], other: tuple[bytes, dict], kind: str) -> None:
    (pack, record), (other_pack, other_record) = same, other
    assert other_pack == pack
    assert other_record["target"]["kind"] == kind
    assert other_record["target"]["images"] == PICTURES
    for part in ("before", "after", "change", "kl", "sites", "classes"):
        assert other_record[part] == record[part], part


@pytest.mark.parametrize(("suffix", "separator"), [("csv", ","), ("tsv", "\t")])
def test_a_manifest_gives_the_folders_pack(digits, adapted, of_the_folder, suffix, separator):
    (digits / f"x.{suffix}").write_text(table(digits, separator))
    check(of_the_folder, adapted(f"x.{suffix}"), f"{suffix.upper()} manifest")


def test_parquet_gives_the_folders_pack(digits, adapted, of_the_folder):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    paths = names(digits)
    columns = {"path": paths, "label": [int(Path(path).parent.name) for path in paths]}
    write_table(arrow.table(columns), digits / "x.parquet")
    check(of_the_folder, adapted("x.parquet"), "Parquet manifest")


def test_a_list_on_stdin_gives_the_folders_pack(digits, adapted, of_the_folder, monkeypatch):
    text = io.BytesIO("\n".join(names(digits)).encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(text))
    found = adapted("-")
    check(of_the_folder, found, "list on stdin")
    assert found[1]["target"]["path"] == "-"


def test_a_pattern_gives_the_folders_pack(adapted, of_the_folder):
    check(of_the_folder, adapted("pictures/**/*.png"), "pattern")


def test_predictions_name_the_pictures_as_their_source_does(digits, adapted):
    (digits / "y.txt").write_text("\n".join(names(digits)))
    adapted("y.txt")
    rows = (digits / "run" / "predictions.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == sorted(names(digits))


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_tar_shards_give_the_folders_pack(digits, adapted, of_the_folder, suffix):
    import tarfile

    (digits / suffix).mkdir()
    for shard in range(3):
        path = digits / suffix / f"digits-{shard:03}.{suffix}"
        with tarfile.open(path, "w:gz" if suffix == "tar.gz" else "w") as tar:
            for name in names(digits)[shard::3]:
                tar.add(name)
                label = tarfile.TarInfo(str(Path(name).with_suffix(".cls")))
                label.size = 1
                tar.addfile(label, io.BytesIO(Path(name).parent.name.encode()))
    check(of_the_folder, adapted(suffix), "3 tar shards")
    check(of_the_folder, adapted(f"{suffix}/digits-{{000..002}}.{suffix}"), "3 tar shards")
