"""A hundred architectures that hold BatchNorm, drawn at random: each is named, or tied with others.

From a bare state dict with random values, as a file without any metadata has it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from itertools import islice

import pytest
import torch
from graph_contract import silence
from torch import Tensor, nn

from adabn_cli.errors import ModelError
from adabn_cli.models.architectures.libraries import LIBRARIES, build_empty, probe
from adabn_cli.models.architectures.recognize import recognize_architecture

pytest.importorskip("timm")

#: Of the hundred, those that take least time; the others wait for `make test-slow`.
SMALL = (
    "timm:convmixer_1024_20_ks9_p14",
    "timm:convmixer_1536_20",
    "timm:cpubone_b3",
    "timm:cpubone_t0",
    "timm:cs3darknet_focus_m",
    "timm:cspnext_s",
    "timm:efficientvim_m1_dist",
    "timm:efficientvim_m4",
    "timm:efficientvit_b1",
    "timm:fasternet_t1",
    "timm:gcresnext26ts",
    "timm:hgnet_small",
    "timm:levit_128s",
    "timm:mobilenet_edgetpu_v2_xs",
    "timm:mobilenetv2_100",
    "timm:mobilevitv2_125",
    "timm:resnet26",
    "timm:semnasnet_140",
    "timm:spnasnet_100",
    "timm:tf_efficientnet_lite2",
    "timm:tf_efficientnetv2_b2",
    "torchvision:regnet_x_3_2gf",
)


def hollow(full_name: str) -> nn.Module:
    package, _, name = full_name.partition(":")
    with silence():
        return build_empty(LIBRARIES[package], name, {})


def holds_batch_norm(full_name: str) -> bool:
    package, _, name = full_name.partition(":")
    with silence():
        shapes, _ = probe(LIBRARIES[package], name, {})
    return any(key.endswith("running_mean") for key in shapes)


def drawn(count: int) -> Iterator[str]:
    """The first names in random order, the same each time, that hold BatchNorm."""
    every = [f"{key}:{name}" for key, known in LIBRARIES.items() for name in known.indexed_names()]
    random.Random(2026).shuffle(every)
    return islice(filter(holds_batch_norm, every), count)


def random_weights(module: nn.Module) -> dict[str, Tensor]:
    """Values of the size that training gives: a network of them neither fades nor overflows."""
    generator = torch.Generator().manual_seed(0)
    entries = dict(module.state_dict())
    for key, value in entries.items():
        if not value.is_floating_point():
            continue
        new = torch.empty(value.shape, dtype=value.dtype)
        if key.endswith("running_var"):
            new.uniform_(0.5, 1.5, generator=generator)
        elif value.dim() < 2:
            centre = 1.0 if key.endswith("weight") else 0.0
            new.normal_(centre, 0.1, generator=generator)
        else:
            new.normal_(0, (2 / value[0].numel()) ** 0.5, generator=generator)
        entries[key] = new
    return entries


def told(name: str) -> str:
    """ "named", "tied" with the right one among the candidates, "unknown" or "wrong"."""
    entries = random_weights(hollow(name))
    try:
        with silence():
            found = recognize_architecture(entries)
    except ModelError as error:
        if "no architecture" in error.what:
            return "unknown"
        return "tied" if name in mentioned(error.what) else "wrong"
    if found.name == name:
        return "named"
    return "tied" if name in mentioned(found.source) else "wrong"


def mentioned(text: str) -> set[str]:
    return set(re.findall(r"(?:torchvision|timm):[\w.]+", text.replace(". ", " ").rstrip(".")))


def require_right(chosen: Sequence[str]) -> None:
    answers = {name: told(name) for name in chosen}
    wrong = [name for name, answer in answers.items() if answer == "wrong"]
    unknown = [name for name, answer in answers.items() if answer == "unknown"]
    assert not wrong, wrong
    assert len(unknown) <= len(chosen) * 0.05, unknown


def test_small_architectures_are_named_or_tied_with_the_right_one() -> None:
    names = {f"{key}:{name}" for key, known in LIBRARIES.items() for name in known.indexed_names()}
    chosen = [name for name in SMALL if name in names]  # Not all are in timm 1.0.20.
    assert len(chosen) >= len(SMALL) / 2
    require_right(chosen)


@pytest.mark.slow
def test_a_hundred_architectures_are_named_or_tied_with_the_right_one() -> None:
    chosen = list(drawn(100))
    assert set(chosen) >= set(SMALL)
    require_right(chosen)
