"""The nets that ship with the project load without trust, and know the digits of their source."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch

from adabn_cli import ClippingSchedule
from adabn_cli.errors import UnsafeError
from adabn_cli.jobs.evaluate import EvaluateRequest, evaluate
from adabn_cli.models.open import ModelRequest, open_model
from adabn_cli.models.open_checkpoint import open_checkpoint
from adabn_cli.models.trust.audit import audit_pickle
from adabn_cli.models.trust.policy import refusals

KINDS = {
    "bn": ["batch_norm"] * 4,
    "renorm": ["batch_renorm"] * 4,
    "wn": ["weight_norm"] * 4 + ["affine"],
    "mean_only": ["mean_only_batch_norm"] * 4,
    "normprop": ["norm_prop_input"],
}


@pytest.mark.parametrize("name", KINDS)
def test_a_reference_net_is_right_on_97_of_100_source_digits(name: str, sample_data: Path) -> None:
    request = ModelRequest(sample_data / f"digits_{name}.pt")
    record = evaluate(EvaluateRequest(model=request, data=sample_data / "source"))
    assert not record.model.trusted_pickle
    assert record.scores.labeled == 500
    assert record.scores.accuracy is not None
    assert record.scores.accuracy >= 0.97


@pytest.mark.parametrize("name", KINDS)
def test_a_reference_net_shows_its_kind_of_sites(name: str, sample_data: Path) -> None:
    opened = open_model(ModelRequest(sample_data / f"digits_{name}.pt"))
    assert [site.kind for site in opened.model.sites] == KINDS[name]


@pytest.mark.parametrize("name", KINDS)
def test_a_reference_net_ships_no_gradient(name: str, sample_data: Path) -> None:
    net = open_checkpoint(sample_data / f"digits_{name}.pt").root["model"]
    assert not net.training
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_schedule_is_loaded_if_it_is_made_of_five_numbers(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1), "s": ClippingSchedule(2.0, 3)}, tmp_path / "a.pt")
    assert open_checkpoint(tmp_path / "a.pt").root["s"] == ClippingSchedule(2.0, 3)
    text = ClippingSchedule("2")  # type: ignore[arg-type]
    torch.save({"w": torch.ones(1), "s": text}, tmp_path / "b.pt")
    with pytest.raises(UnsafeError, match="ClippingSchedule"):
        open_checkpoint(tmp_path / "b.pt")


@pytest.mark.parametrize("numbers", [b"K\x01", b"K\x01" * 6])
def test_a_schedule_of_another_number_of_numbers_is_refused(numbers: bytes) -> None:
    name = b"cadabn_cli.normalizers.batch_renorm\nClippingSchedule\n"
    audit = audit_pickle(io.BytesIO(b"\x80\x02" + name + b"(" + numbers + b"t\x81."), "here")
    assert refusals([audit])
