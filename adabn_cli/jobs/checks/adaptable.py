"""Whether there is anything to adapt: models without it are refused, sites left out are told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from adabn_cli.adaptation.installer import Installer, select_sites
from adabn_cli.adaptation.rules import RULES
from adabn_cli.errors import ModelError
from adabn_cli.model import Model
from adabn_cli.text import first_few


def require_signal(installer: Installer, seen: Mapping[str, object]) -> None:
    """Raises ModelError where no site that is to be adapted was seen."""
    if not installer.selected & seen.keys():
        raise ModelError(
            "No picture reached a normalizer that could be adapted.",
            where=installer.model.architecture,
            hint="Layers called by other code than their own __call__ cannot be seen.",
        )


def require_adaptable(model: Model, *, with_profile: bool, path: Path | None = None) -> None:
    """Raises ModelError where the model has nothing to re-estimate, and says why.

    Without stored statistics it takes a source profile to adapt.
    """
    storing = [site for site in model.sites if not RULES[site.kind].needs_profile]
    if storing or (model.sites and with_profile):
        return
    hint = "Give a model with BatchNorm or another normalizer that keeps running statistics."
    if model.sites:
        hint = (
            f"Match its {len(model.sites)} layers to a source profile, made by `adabn profile "
            f"{path or 'MODEL'} --source DIR`; or give the checkpoint from before BatchNorm was "
            "folded in, if it was."
        )
    if model.fixed:
        first = model.fixed[0]
        raise ModelError(
            "There is nothing to adapt: the model's layers store no statistics.",
            where=f"{first.name} ({first.kind}) {first.reason}",
            hint=hint,
        )
    raise ModelError(
        "There is nothing to adapt: the model has no normalization layer that stores statistics.",
        where=model.architecture,
        hint=hint,
    )


def left_out_warning(installer: Installer) -> tuple[str, ...]:
    """That layers which a normalizer is folded into, beside others, stay as they are; and the cure.

    Nothing if there is none, or --layers leaves them out.
    """
    sites = installer.model.sites
    asked = select_sites(sites, installer.adaptation.layers)
    left = [
        x.name
        for x in sites
        if x.name in asked - installer.selected and RULES[x.kind].needs_profile
    ]
    if not left or installer.profile is not None:
        return ()
    return (
        f"{len(left)} of {len(sites)} sites are left as they are: BatchNorm is folded into them, "
        f"or may be ({first_few(left, 3)}). `adabn adapt` takes the checkpoint that was "
        "exported (--reference FILE) or source pictures (--source DIR, --profile FILE).",
    )
