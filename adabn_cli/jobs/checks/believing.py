"""Whether a model's numbers can be believed, told before it is scored; every door asks here.

Weights and statistics are looked at once a model is open, its outputs on the first pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adabn_cli.adaptation.installer import select_sites
from adabn_cli.adaptation.methods import Adaptation
from adabn_cli.adaptation.rules import STORED, impossible_statistics, never_learned
from adabn_cli.errors import ModelError
from adabn_cli.model import Boxes, Model, Outputs, Site
from adabn_cli.text import first_few

#: How many pictures are run twice. What is random differs on one already, and each costs a forward.
PICTURES_TWICE = 2

# Of the largest output, off the CPU: some GPU kernels add in the order in which threads arrive.
# `convert` allows as much for another order; dropout of 0.3 differs by a tenth and more.
_OTHER_ORDER = 1e-4

_CAUSES = (
    "The layer was added after training, or its statistics were reset (reset_running_stats, an "
    "average of weights without update_bn)."
)
_RANDOM = (
    "The model is random in eval mode: two forwards of the same pictures differ, so all figures "
    "are of one draw and another run gives others. F.dropout(x) always drops: give it "
    "training=self.training."
)
_OTHER_FILE = "Copy or download the file again, or give a checkpoint from before training diverged."


@dataclass(frozen=True, kw_only=True)
class Belief:
    """What speaks against a model's numbers.

    `unlearned` are sites whose statistics were never learned; `impossible` are phrases on
    statistics that no data gives: with any, the source model is no measurement. `random`: two
    forwards of the same pictures differ. `warnings` are the sentences for people.
    """

    unlearned: tuple[str, ...] = ()
    impossible: tuple[str, ...] = ()
    random: bool = False
    warnings: tuple[str, ...] = ()

    def run_twice(self, model: Model, images: Tensor) -> Belief:
        """The same with what two forwards of the same images [N, C, H, W] say."""
        if not is_random(model, images):
            return self
        return replace(self, random=True, warnings=(*self.warnings, _RANDOM))


def require_sound(model: Model, where: object) -> None:
    """Raises ModelError where a weight or a stored statistic is no number that data gives."""
    _require_finite_weights(model, where)
    if found := _impossible(model.sites, model.state()):
        raise ModelError(
            f"The model stores statistics that no data gives: {first_few(found, 3)}.",
            where=str(where),
            hint="Replace them by the target's with adabn adapt, or give another checkpoint.",
        )


def believe_scored(model: Model, where: object) -> Belief:
    """What is to be told of a model that is scored or measured as it is; raises as above."""
    require_sound(model, where)
    return _with_unlearned(Belief(), model)


def believe_adapted(
    model: Model, adaptation: Adaptation, where: object, *, with_profile: bool = False
) -> Belief:
    """What is to be told of a model that is adapted.

    Impossible statistics are told where they are replaced whole. Raises ModelError for others, for
    broken weights, and where no site ever learned its statistics: adapting then changes what the
    network computes, but where it is matched to a profile. `adapt_initial` consents to that.
    """
    _require_finite_weights(model, where)
    adaptation = adaptation.resolved(with_profile=with_profile)
    belief = Belief()
    if found := _impossible(model.sites, model.state()):
        _require_replaced(model, adaptation, where, with_profile=with_profile)
        told = (
            f"The model stores statistics that no data gives: {first_few(found, 3)}. Adapting "
            "replaces them; the source model is no measurement, and nothing is compared with it."
        )
        belief = Belief(impossible=tuple(found), warnings=(told,))
    belief = _with_unlearned(belief, model)
    stored = [site.name for site in model.sites if site.kind in STORED]
    consents = adaptation.adapt_initial or adaptation.method != "adabn"
    if belief.unlearned and len(belief.unlearned) == len(stored) and not consents:
        raise ModelError(
            "No site of this model ever learned its statistics: training never filled them, or "
            "they were reset (reset_running_stats, an average of weights without update_bn).",
            where=f"{where}: mean 0 and variance 1 at {_count(len(stored), 'site')}; adapting "
            "changes what the model computes",
            hint="Give --adapt-initial (adapt_initial=True in Python) to fill them, or keep "
            "what the model computes by a profile: adabn profile MODEL --source DIR.",
        )
    return belief


def broken_entries(sites: Sequence[Site], state: Mapping[str, Tensor]) -> list[str]:
    """A phrase for every weight and statistic that is no number or that no data gives."""
    return [*_broken_weights(sites, state), *_impossible(sites, state)]


def unlearned_sites(sites: Sequence[Site], state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The names of the sites whose statistics were never learned."""
    return tuple(site.name for site in sites if never_learned(site, state))


def is_random(model: Model, images: Tensor) -> bool:
    """Whether two forwards of the same images [N, C, H, W] differ: to the bit on the CPU."""
    first, second = (_tensors(model.forward(images)) for _ in range(2))
    return not all(_same(a, b) for a, b in zip(first, second, strict=True))


def _require_finite_weights(model: Model, where: object) -> None:
    if found := _broken_weights(model.sites, model.state()):
        raise ModelError(
            f"The model's weights are broken: {first_few(found, 3)}.",
            where=str(where),
            hint=_OTHER_FILE,
        )


def _broken_weights(sites: Sequence[Site], state: Mapping[str, Tensor]) -> list[str]:
    # By address: a layer that is registered twice has its statistics under both names.
    statistics = {state[key].data_ptr() for site in sites for key in site.keys.values()}
    return [
        f"{key} has {count:,} of {tensor.numel():,} values NaN or infinite"
        for key, tensor in state.items()
        if _is_dense(tensor)
        and tensor.data_ptr() not in statistics
        and (count := _not_numbers(key, tensor))
    ]


def _is_dense(tensor: Tensor) -> bool:
    """Whether its values can be looked at: sparse tensors and such of the device meta have none."""
    return tensor.layout == torch.strided and not tensor.is_meta


def _not_numbers(key: str, tensor: Tensor) -> int:
    """How many values are NaN or infinite; none where infinity is meant: in masks and bounds."""
    if not tensor.is_floating_point():
        return 0
    tensor = tensor.float() if tensor.element_size() == 1 else tensor  # float8 has no isfinite.
    finite = tensor.isfinite()
    if finite.all():
        return 0
    named_weight = key.rpartition(".")[2] in ("weight", "bias")
    if not named_weight and not tensor.isnan().any() and not tensor[finite].any():
        return 0
    return int((~finite).sum())


def _impossible(sites: Sequence[Site], state: Mapping[str, Tensor]) -> list[str]:
    return [phrase for site in sites for phrase in impossible_statistics(site, state)]


def _require_replaced(
    model: Model, adaptation: Adaptation, where: object, *, with_profile: bool
) -> None:
    """Raises ModelError where impossible statistics would stay in, or be mixed in."""
    selected = select_sites(list(model.sites), adaptation.layers)
    others = [site for site in model.sites if site.name not in selected]
    stay, all_found = _impossible(others, model.state()), _impossible(model.sites, model.state())
    mixed = adaptation.mixes or adaptation.momentum is not None or with_profile
    if stay or mixed:
        raise ModelError(
            f"The model stores statistics that no data gives: {first_few(stay or all_found, 3)}.",
            where=str(where),
            hint="Let them be replaced: leave them in with --layers."
            if stay
            else "Let them be replaced whole: leave out --prior, --alpha, --momentum, and the "
            "source profile.",
        )


def _with_unlearned(belief: Belief, model: Model) -> Belief:
    unlearned = unlearned_sites(model.sites, model.state())
    if not unlearned:
        return belief
    stored = sum(site.kind in STORED for site in model.sites)
    told = (
        f"{len(unlearned)} of {_count(stored, 'site')} never learned any statistics (mean 0, "
        f"variance 1): {first_few(unlearned, 3)}. {_CAUSES} There is no source to compare "
        "them with: KL leaves them out."
    )
    return replace(belief, unlearned=unlearned, warnings=(*belief.warnings, told))


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _tensors(outputs: Outputs) -> list[Tensor]:
    if isinstance(outputs, Boxes):
        return [outputs.image_D, outputs.class_D, outputs.scores_D]
    return [] if outputs is None else [outputs]


def _same(first: Tensor, second: Tensor) -> bool:
    """Whether two outputs are the same, NaN where the other is NaN."""
    if first.shape != second.shape:
        return False
    most = 0.0
    if first.device.type != "cpu" and first.is_floating_point():
        most = _OTHER_ORDER * float(first.nan_to_num(0, 0, 0).abs().amax()) if first.numel() else 0
    return torch.allclose(first, second, rtol=0.0, atol=most, equal_nan=True)
