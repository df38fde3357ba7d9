"""The commands of README and of the pages it links run as they stand, and print what is said there.

Every `sh` block is run once, line by line, in one folder that has sample_data/ and a newcomer's
files, in the order of `PAGES`; the `text` block after it has to be found in what it printed.
`python` blocks run too. `docs/ci.md` has a test of its own.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from learned_statistics import learned
from PIL import Image
from torch import nn

from adabn_cli.cli.boundary import run

PROJECT = Path(__file__).resolve().parents[1]
PAGES = {
    page: (PROJECT / page).read_text(encoding="utf-8")
    for page in (
        "README.md",
        "docs/models.md",
        "docs/running.md",
        "docs/profiles.md",
        "docs/streams.md",
        "docs/targets.md",
        "docs/figures.md",
        "docs/benchmarks.md",
    )
}
README, TEXT = PAGES["README.md"], "\n".join(PAGES.values())
FENCES = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
EXIT_CODE = re.compile(r"# exit code (\d+)$")
NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")

NET = """
from torch import nn


def Net(classes):
    layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(8, classes))
"""


@dataclass
class Block:
    """A block of commands: exit code and stdout of each, and what the page says they print."""

    commands: list[str]
    codes: list[int] = field(default_factory=list)
    printed: str = ""
    promised: str = ""


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working folder: a torchvision checkpoint, a net of one's own, photographs."""
    import torchvision

    folder = tmp_path_factory.mktemp("newcomer")
    (folder / "sample_data").symlink_to(PROJECT / "sample_data")
    (folder / "nets.py").write_text(NET)
    torch.manual_seed(0)
    torch.save(
        learned(torchvision.models.resnet18(weights=None)).state_dict(), folder / "model.pth"
    )
    scope: dict[str, type[nn.Module]] = {}
    exec(NET, scope)
    torch.save(learned(scope["Net"](3)).state_dict(), folder / "net.pth")
    (folder / "photos").mkdir()
    for number in range(4):
        pixels = torch.randint(256, (60, 80, 3), dtype=torch.uint8).numpy()
        Image.fromarray(pixels).save(folder / "photos" / f"{number}.jpg")
    with contextlib.chdir(folder):
        yield folder


@pytest.fixture(scope="module")
def blocks(newcomer: Path) -> list[Block]:
    """All blocks of commands, each command run once, in their order."""
    done: list[Block] = []
    for language, text in FENCES:
        if language == "sh":
            done.append(Block(text.splitlines()))
            for command in done[-1].commands:
                code, printed = execute(command)
                done[-1].codes.append(code)
                done[-1].printed += printed
        elif language == "text":
            done[-1].promised += text.replace("…\n", "")
    return done


def execute(line: str) -> tuple[int, str]:
    """Exit code and stdout. adabn runs in this process: a start costs seconds."""
    words = shlex.split(line, comments=True)
    if words[0] != "adabn":
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stdout
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        code = run(words[1:])
    return code, printed.getvalue()


def test_every_command_exits_as_its_page_says(blocks: list[Block]) -> None:
    for block in blocks:
        for command, code in zip(block.commands, block.codes, strict=True):
            told = EXIT_CODE.search(command)
            assert code == (int(told[1]) if told else 0), command


def test_every_line_of_output_on_a_page_is_printed(blocks: list[Block]) -> None:
    lines = [(line, block.printed) for block in blocks for line in block.promised.splitlines()]
    assert len(lines) > 20
    for line, printed in lines:
        assert any(alike(line.split(), other.split()) for other in printed.splitlines()), line


def test_the_python_example_of_readme_runs(
    newcomer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = [text for language, text in FENCES if language == "python"]
    exec(example, {})
    verdict, figures = capsys.readouterr().out.splitlines()
    assert verdict.startswith("No labels")
    before, after, residual = map(float, figures.split())
    assert after < before
    assert residual < 1e-6


def test_every_make_target_and_file_that_a_page_names_is_there() -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^    |`)make ([a-z-]+)", TEXT, re.MULTILINE):
        assert f"\n{target}:" in makefile, target
    for page, text in PAGES.items():
        for link in re.findall(r"\]\(([^)#]+)", text):
            assert ((PROJECT / page).parent / link).is_file(), f"{page}: {link}"


def test_every_option_that_a_page_names_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    helps = ""
    commands = "adapt report evaluate apply inspect convert watch collect merge profile"
    for command in commands.split():
        assert run([command, "--help"]) == 0
        helps += capsys.readouterr().out
    ours = re.sub(r"python benchmarks.*|torchrun .* -m", "", TEXT)
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", ours)):
        assert option in helps, option


def test_readme_is_short() -> None:
    assert len(README.encode()) < 10_500


def test_the_loss_that_readme_tells_of_is_the_one_that_is_measured(
    shared_data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ccexam", reason="its architecture: pip install --no-deps ccexam")
    model = shared_data / "checkpoints" / "ccexam_svhn.pth"
    target = shared_data / "digits" / "mnist_1000"
    normalization = "--mean .4377,.4438,.4728 --std .198,.201,.197 --img-size 32"
    architecture = "--arch ccexam.models:SVHNNet --arch-args input_size=32"
    paths = f"'{model}' --target '{target}' -o '{tmp_path / 'run'}'"
    code, printed = execute(f"adabn adapt {paths} {architecture} {normalization}")
    assert code == 0
    before, after = (f"{figure}%" for figure in re.findall(r"from (74.6)% to (70.3)%", README)[0])
    assert f"accuracy {before} {after} -4.3 pp" in " ".join(printed.split())
    assert "accuracy -4.3 points, 95% interval -6.5 to -2.1" in " ".join(printed.split())


def alike(promised: list[str], printed: list[str]) -> bool:
    """The same words; figures may differ by one in the last place or a twentieth of the whole."""
    return len(promised) == len(printed) and all(map(alike_word, promised, printed))


def alike_word(promised: str, printed: str) -> bool:
    if NUMBER.sub("#", promised) != NUMBER.sub("#", printed):
        return False
    pairs = zip(NUMBER.findall(promised), NUMBER.findall(printed), strict=True)
    return all(float(y.replace(",", "")) == about(x) for x, y in pairs)


def about(figure: str) -> object:
    digits = figure.replace(",", "")
    decimals = len(digits.partition(".")[2])
    return pytest.approx(float(digits), rel=0.05, abs=1.01 * 10**-decimals)
