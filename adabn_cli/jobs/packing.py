"""The domain pack of an adapted model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from adabn_cli.adaptation.fingerprint import fingerprint, learned_values
from adabn_cli.adaptation.installer import Installer
from adabn_cli.adaptation.packs import Pack
from adabn_cli.model import Model, statistics_of


def empty_pack(model: Model) -> Pack:
    """A pack that belongs to the model and holds nothing; hashes every weight."""
    return Pack(
        fingerprint=fingerprint(model),
        architecture=model.architecture,
        target={},
        source={},
        images=0,
        learned=learned_values(model),
    )


def filled(empty: Pack, installer: Installer, sites: Sequence[str], images: int) -> Pack:
    """The same with what the installer's model holds at these sites, from so many images."""
    model = installer.model
    return replace(
        empty,
        target=statistics_of(model, sites),
        source={place: value for place, value in installer.original.items() if place[0] in sites},
        images=images,
        replaced={key: model.state()[key].clone() for key in model.folded()},
        sites=tuple(sites),
    )
