"""The layers under the package's own name."""

from __future__ import annotations

import subprocess
import sys

import pytest

import adabn_cli


@pytest.mark.parametrize("name", sorted(adabn_cli.__all__))
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(adabn_cli, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="BatchRenorm4d"):
        _ = adabn_cli.BatchRenorm4d


def test_neither_the_package_nor_its_table_of_normalizers_imports_torch() -> None:
    code = "import sys, adabn_cli.normalizers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
