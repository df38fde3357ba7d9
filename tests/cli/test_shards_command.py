"""`adabn collect` on every shard and `adabn merge`: the pack of one process, or a clear refusal."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from PIL import Image

from adabn_cli.adaptation.methods import Adaptation
from adabn_cli.jobs.scored_data import PicturesRequest
from adabn_cli.jobs.shards.collect import CollectRequest, collect
from adabn_cli.models.open import ModelRequest
from adabn_cli.ranks import Shard

#: Its one output goes from below 0 to above 1 with the brightness.
NET = """
import torch
from torch import nn


class Net(nn.Sequential):
    def __init__(self):
        layers = nn.BatchNorm2d(1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 1)
        super().__init__(*layers)
        torch.nn.init.constant_(self[0].running_mean, 0.001)
        torch.nn.init.constant_(self[3].weight, 1.0)
        torch.nn.init.constant_(self[3].bias, 0.4)
"""

DOCS = Path(__file__).resolve().parents[2] / "docs" / "map-reduce.md"


@pytest.fixture(scope="module")
def shards(sample_model, few_pictures, tmp_path_factory) -> list[Path]:
    """All four pictures of each digit, batches of 6, in three shards."""
    folder = tmp_path_factory.mktemp("shards")
    return [collected(sample_model, few_pictures, folder, index, 3) for index in range(3)]


def collected(model: Path, target: Path, folder: Path, index: int, size: int, **options) -> Path:
    out = folder / f"shard-{index}"
    pictures = PicturesRequest(batch_size=options.pop("batch_size", 6), **options)
    collect(
        CollectRequest(
            model=ModelRequest(model),
            target=target,
            shard=Shard(index, size),
            pictures=pictures,
            out=out,
        )
    )
    return out


@pytest.mark.parametrize("size", [1, 3, 4, 7])
def test_shards_give_the_pack_of_one_process(command, sample_model, few_pictures, tmp_path, size):
    same = ("-t", few_pictures, "-b", "6", "--alpha", "0.7", "--layers", "!1")
    whole = command("adapt", sample_model, *same, "--engine", "one-pass", "-o", "run", "--json")
    for index in range(size):
        done = command("collect", sample_model, *same, "--shard", f"{index + 1}/{size}", "-q")
        assert (done.code, done.out) == (0, f"shard-{index + 1}-of-{size}.safetensors\n")
    files = sorted(tmp_path.glob("shard-*"))
    random.Random(0).shuffle(files)
    done = command("merge", sample_model, *files, "--json")
    assert done.code == 0
    merged, record = json.loads(done.out), json.loads(whole.out)
    pack = Path("run/pack.safetensors").read_bytes()
    assert Path("pack.safetensors").read_bytes() == pack
    assert merged["images"] == 40
    assert merged["before"] == record["before"]
    assert merged["kl_before"] == record["kl"]["before"]
    assert 0 < merged["standard_error_max"] < 1


def test_the_pack_goes_into_the_model(command, sample_model, shards):
    told = command("merge", sample_model, *shards)
    assert told.code == 0
    assert f"adabn apply {sample_model} pack.safetensors" in told.out.replace("\n", " ")
    assert command("apply", sample_model, "pack.safetensors", "-o", "adapted.pt").code == 0


def test_collecting_leaves_the_statistics_as_they_were(sample_model, few_pictures, tmp_path):
    first = collected(sample_model, few_pictures, tmp_path, 0, 2).read_bytes()
    (tmp_path / "again").mkdir()
    assert collected(sample_model, few_pictures, tmp_path / "again", 0, 2).read_bytes() == first


def refused(done, code: int, *words: str) -> None:
    assert (done.code, done.out) == (code, "")
    assert "Traceback" not in done.err
    assert not Path("pack.safetensors").exists()
    for word in words:
        assert word in re.sub(r"\s+", " ", done.err)


def test_a_missing_shard_is_named_with_the_command_that_makes_it(command, sample_model, shards):
    refused(command("merge", sample_model, shards[0], shards[2]), 2, "1 of 3", "--shard 2/3")


def test_a_shard_counts_once(command, sample_model, shards, tmp_path):
    again = shutil.copy(shards[1], tmp_path / "copy")
    refused(command("merge", sample_model, *shards, again), 2, "2/3 is there twice", "copy")


def test_shards_of_another_command_do_not_belong(
    command, sample_model, few_pictures, shards, tmp_path
):
    other = collected(sample_model, few_pictures, tmp_path, 2, 3, batch_size=7)
    refused(command("merge", sample_model, *shards[:2], other), 2, "other --batch-size", str(other))
    (tmp_path / "more").mkdir()
    other = collected(sample_model, few_pictures, tmp_path / "more", 2, 3, labels="none")
    refused(command("merge", sample_model, *shards[:2], other), 2, "other --labels")
    other = collected(sample_model, few_pictures, tmp_path, 1, 2)
    refused(command("merge", sample_model, *shards[:2], other), 2, "other number of shards")


def test_shards_of_other_pictures_do_not_belong(
    command, sample_model, few_pictures, shards, tmp_path
):
    fewer = Path(shutil.copytree(few_pictures, tmp_path / "fewer"))
    next(fewer.rglob("*.png")).unlink()
    other = collected(sample_model, fewer, tmp_path, 2, 3)
    refused(command("merge", sample_model, *shards[:2], other), 2, "other pictures")


def test_shards_belong_to_their_model(command, sample_data, sample_model, shards):
    refused(command("merge", sample_data / "digits_renorm.pt", *shards), 3, "another model")
    assert command("merge", sample_model, *shards, "-o", "other.safetensors").code == 0
    assert command("apply", sample_model, "other.safetensors", "-o", "moved.pt").code == 0
    refused(command("merge", "moved.pt", *shards), 3, "other statistics")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\xff" * 64])
def test_another_file_is_no_shard(command, sample_model, shards, content, tmp_path):
    (tmp_path / "x").write_bytes(content)
    refused(command("merge", sample_model, *shards[:2], "x"), 3, "not a file that", "x")


def test_a_damaged_shard_and_a_pack_are_no_shards(command, sample_model, shards, tmp_path):
    (tmp_path / "half").write_bytes(shards[2].read_bytes()[:-100])
    refused(command("merge", sample_model, *shards[:2], "half"), 3, "half")
    assert command("merge", sample_model, *shards, "-o", "other.safetensors").code == 0
    refused(command("merge", sample_model, *shards[:2], "other.safetensors"), 3, "not a file that")
    refused(command("merge", sample_model, *shards[:2], "nothing"), 3, "No such file")


def test_wrong_shards_are_refused_before_the_work(command, sample_model, few_pictures):
    base = ("collect", sample_model, "-t", few_pictures, "-b", "6")
    for wrong in ("0/3", "4/3", "1", "a/b", "-1/3", "1/3/5"):
        refused(command(*base, "--shard", wrong), 2, "--shard 1/4")
    refused(command(*base, "--shard", "1/8"), 2, "there are 7 of 6 pictures")
    Path("shard-1-of-3.safetensors").write_text("precious")
    refused(command(*base, "--shard", "1/3"), 2, "--force")
    assert Path("shard-1-of-3.safetensors").read_text() == "precious"


@pytest.mark.parametrize("size", [1, 8])
def test_one_output_is_a_logit_in_all_shards_or_in_none(command, tmp_path, size):
    # In some of the eight shards all outputs are in 0 to 1, as probabilities would be.
    (tmp_path / "nets.py").write_text(NET)
    scope: dict[str, type[torch.nn.Module]] = {}
    exec(NET, scope)
    model = tmp_path / "net.pth"
    for number in range(40):
        file = tmp_path / "photos" / f"{number % 2}" / f"{number:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 30 + 5 * number).save(file)
    torch.save(scope["Net"]().state_dict(), model)
    same = ("-t", "photos", "-b", 5, "--arch", "nets.py:Net", "--img-size", 8)
    same = (*same, "--mean", 0.5, "--std", 0.5)
    whole = json.loads(command("adapt", model, *same, "--engine", "one-pass", "--json").out)
    for index in range(size):
        assert command("collect", model, *same, "--shard", f"{index + 1}/{size}").code == 0
    files = sorted(tmp_path.glob("shard-*"))
    merged = json.loads(command("merge", model, "--arch", "nets.py:Net", *files, "--json").out)
    assert merged["before"] == whole["before"]
    assert whole["before"]["predicted_histogram"] == [10, 30]


def test_an_input_is_never_overwritten(command, sample_model, few_pictures, shards, tmp_path):
    model = shutil.copy(sample_model, tmp_path / "model.pt")
    given = ("--shard", "1/3", "-t", few_pictures, "--force", "-o")
    refused(command("collect", model, *given, model), 2, "never overwritten")
    refused(command("merge", model, *shards, "--force", "-o", model), 2, "never overwritten")
    copies = [shutil.copy(shard, tmp_path) for shard in shards]
    refused(command("merge", model, *copies, "--force", "-o", copies[1]), 2, "never overwritten")
    assert model.read_bytes() == sample_model.read_bytes()
    assert Path(copies[1]).read_bytes() == shards[1].read_bytes()


def test_a_folder_that_takes_no_file_is_told_before_the_work(
    command, sample_model, few_pictures, shards, monkeypatch
):
    monkeypatch.setattr("adabn_cli.jobs.shards.collect.open_model", lambda request: 1 / 0)
    monkeypatch.setattr("adabn_cli.jobs.shards.merge.open_model", lambda request: 1 / 0)
    out = ("-o", "nowhere/x")
    given = ("collect", sample_model, "--shard", "1/3", "-t", few_pictures)
    refused(command(*given, *out), 2, "There is no folder")
    refused(command("merge", sample_model, *shards, *out), 2, "There is no folder")


def test_what_cannot_be_read_is_counted_and_told(command, sample_model, few_pictures, tmp_path):
    folder = Path(shutil.copytree(few_pictures, tmp_path / "broken"))
    sorted(folder.rglob("*.png"))[7].write_bytes(b"\x89PNG")
    files = [collected(sample_model, folder, tmp_path, index, 2, max_bad=1) for index in range(2)]
    done = command("merge", sample_model, *files)
    assert done.code == 0
    told = re.sub(r"\s+", " ", done.out)
    assert "39, 1 unreadable" in told
    assert "which moves one-pass statistics a little" in told


def test_the_method_of_a_shard_is_adabn(sample_model, few_pictures):
    request = CollectRequest(model=ModelRequest(sample_model), target=few_pictures, shard=Shard())
    assert request.adaptation == Adaptation()


def test_the_commands_of_the_recipes_are_commands(command):
    text = DOCS.read_text(encoding="utf-8")
    options = re.findall(r"adabn collect [^`\n]*?(--shard)", text)
    assert len(options) >= 3
    for name in ("collect", "merge"):
        told = command(name, "--help").out
        lines = [line for line in text.splitlines() if f"adabn {name} " in line]
        given = {word for line in lines for word in re.findall(r"(?<!\S)--[a-z-]+", line)}
        assert given <= set(re.findall(r"--[a-z-]+", told))


def test_the_shell_recipes_parse():
    blocks = re.findall(r"```bash\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)


def test_the_python_recipes_compile():
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        compile(block, "recipe", "exec")


def test_a_model_whose_normalizers_show_nothing_is_refused(command, few_pictures, tmp_path):
    (tmp_path / "net.py").write_text(
        NET + "    def forward(self, x):\n        return self[3](self[2](self[1](x)))\n"
    )  # fmt: skip
    given = ("--arch", f"{tmp_path / 'net.py'}:Net", "--img-size", 8, "--mean", 0, "--std", 1)
    torch.save({"0.weight": torch.ones(1), "0.bias": torch.zeros(1), "0.running_mean":
                torch.ones(1), "0.running_var": torch.ones(1), "3.weight": torch.ones(1, 1),
                "3.bias": torch.zeros(1)}, tmp_path / "net.pth")  # fmt: skip
    asked = ("collect", tmp_path / "net.pth", "-t", few_pictures, "--shard", "1/1", *given)
    done = command(*asked, "--labels", "none")  # They are ten classes, and it has two.
    assert done.code == 3
    assert "No picture reached a normalizer" in done.err
    assert not list(Path().glob("*.safetensors"))
