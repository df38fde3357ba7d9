"""torchvision beside a torch without its operators, and beside one that has them.

In subprocesses, since the hook acts on an import and this process has long done that.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def run(script: str, folder: Path) -> str:
    """What the script prints; a warning, or anything on stderr, is a failure."""
    path = folder / "script.py"
    path.write_text(script)
    command = [sys.executable, "-W", "error", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def test_importing_the_package_imports_neither_torch_nor_torchvision(tmp_path: Path) -> None:
    script = "import sys, adabn_cli; print({'torch', 'torchvision', 'numpy'} & set(sys.modules))"
    assert run(script, tmp_path) == "set()"


def test_a_model_builds_and_runs(tmp_path: Path) -> None:
    script = """
import adabn_cli, torch, torchvision
model = torchvision.models.get_model("resnet18", num_classes=7).eval()
with torch.inference_mode():
    print(tuple(model(torch.zeros(1, 3, 32, 32)).shape))
print(torchvision.models.get_model_weights("resnet18").DEFAULT.meta["categories"][0])
"""
    assert run(script, tmp_path).splitlines() == ["(1, 7)", "tench"]


def test_image_folder_and_transforms_work_in_spawned_workers(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "pictures" / "cat").mkdir(parents=True)
    Image.new("RGB", (40, 30), (255, 0, 0)).save(tmp_path / "pictures" / "cat" / "a.png")
    script = f"""
import adabn_cli, torch
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2
if __name__ == "__main__":
    steps = v2.Compose([v2.Resize(16), v2.CenterCrop(16), v2.ToImage(), v2.ToDtype(torch.float32)])
    pictures = ImageFolder({str(tmp_path / "pictures")!r}, transform=steps)
    loader = torch.utils.data.DataLoader(
        pictures, num_workers=1, multiprocessing_context="spawn"
    )
    for image, label in loader:
        print(tuple(image.shape), int(label))
"""
    assert run(script, tmp_path) == "(1, 3, 16, 16) 0"


def test_a_spawned_worker_that_needs_only_the_package_imports_torchvision(tmp_path: Path) -> None:
    script = """
import multiprocessing
import adabn_cli
def work():
    import adabn_cli
    import torchvision
    print(torchvision.models.resnet18.__name__, flush=True)
if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=work)
    process.start()
    process.join()
    print(process.exitcode)
"""
    assert run(script, tmp_path).splitlines() == ["resnet18", "0"]


def test_installing_twice_leaves_one_hook(tmp_path: Path) -> None:
    script = """
import sys
from adabn_cli import torchvision_import
before = list(sys.meta_path)
torchvision_import.install()
print(sys.meta_path == before)
"""
    assert run(script, tmp_path) == "True"


@pytest.mark.parametrize("operators", [True, False])
def test_registrations_are_passed_over_only_where_the_operators_are_missing(
    tmp_path: Path, operators: bool
) -> None:
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("from torchvision import _meta_registrations\n")
    (package / "extension.py").write_text(f"def _has_ops():\n    return {operators}\n")
    (package / "_meta_registrations.py").write_text(
        "import torch.library\n"
        "for name in ('torchvision::nms', 'mine::nms'):\n"
        "    torch.library.register_fake(name)(lambda: None)\n"
    )
    script = """
import adabn_cli, torch
seen = []
def register_fake(name):
    seen.append(name)
    return lambda function: function
torch.library.register_fake = register_fake
import torchvision
print(torchvision.__file__.endswith("torchvision/__init__.py") and seen)
print(torch.library.register_fake is register_fake)
"""
    expected = ["torchvision::nms", "mine::nms"] if operators else ["mine::nms"]
    assert run(script, tmp_path).splitlines() == [str(expected), "True"]


def test_an_error_of_torchvisions_own_still_comes_through(tmp_path: Path) -> None:
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("from torchvision import _meta_registrations\n")
    (package / "extension.py").write_text("def _has_ops():\n    return False\n")
    (package / "_meta_registrations.py").write_text("raise RuntimeError('something else')\n")
    script = """
import adabn_cli, torch
register_fake = torch.library.register_fake
try:
    import torchvision
except RuntimeError as error:
    print(error, torch.library.register_fake is register_fake)
"""
    assert run(script, tmp_path) == "something else True"


def test_building_a_model_leaves_torchs_compiler_out(tmp_path: Path) -> None:
    script = """
import sys
from adabn_cli.models.architectures.libraries import LIBRARIES, build_empty
for library, name in [("torchvision", "mobilenet_v2"), ("torchvision", "vit_b_16")]:
    build_empty(LIBRARIES[library], name, {})
print("torch._dynamo" in sys.modules, "torch._dynamo.utils" in sys.modules)
"""
    assert run(script, tmp_path) == "False False"


def test_what_torchvision_asks_the_compiler_is_answered_when_it_is_asked(tmp_path: Path) -> None:
    script = """
from adabn_cli.torchvision_import import torchvision_models
torchvision_models()
from torchvision.ops.roi_align import is_compile_supported
import torch._dynamo.utils
print(is_compile_supported("cpu") == torch._dynamo.utils.is_compile_supported("cpu"))
print(is_compile_supported is torch._dynamo.utils.is_compile_supported)
"""
    assert run(script, tmp_path).splitlines() == ["True", "False"]
