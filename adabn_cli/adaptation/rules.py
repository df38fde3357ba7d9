"""Every kind of normalizer: what it holds, what it believes, and how it takes in a target.

A rule is pure: a site, its state entries and moments in, new state entries out. It knows no module
and no file. To add one: a class and a line in `RULES`. C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adabn_cli.model import Site
from adabn_cli.moments import Moments

State = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One kind of normalizer.

    `says` tells people what adapting does. `holds` is role -> the tensor by which a layer of this
    kind is recognized, `initial` role -> the value that it is made with (empty if a trained layer
    may well hold the same). `keeps_all` if it believes just what it absorbed; others keep a part
    of it, or leave channels alone. `needs_profile` if nothing is stored that could be re-estimated.
    """

    says: str
    holds: Mapping[str, str] = field(default_factory=dict)
    initial: Mapping[str, float] = field(default_factory=dict)
    keeps_all: bool = False
    needs_profile: bool = False

    def believed(self, site: Site, state: State) -> Moments | None:
        """What the layer takes its tensor to be, as moments of count 1; None if nothing says.

        The statistics that it stores; the site's reference stands in for what it does not store.
        """
        raise NotImplementedError

    def absorb(self, site: Site, state: State, moments: Moments) -> dict[str, Tensor]:
        """The state entries with which the layer normalizes by `moments`, in float64."""
        raise NotImplementedError


def _stored(site: Site, state: State, role: str) -> Tensor:
    """A copy of a stored statistic, [C]: the live entry may change."""
    return state[site.keys[role]].flatten().double().clone()


class BatchNorm(Rule):
    """Batch Normalization (Ioffe, Szegedy 2015), whatever class holds its statistics.

    BatchNorm1d/2d/3d, SyncBatchNorm, FrozenBatchNorm2d, timm's BatchNormAct2d, InstanceNorm with
    running statistics and everybody's own subclasses differ in training only: in eval mode all
    compute `(x - running_mean) / sqrt(running_var + eps)`.
    """

    def believed(self, site: Site, state: State) -> Moments:
        """The stored statistics."""
        return Moments.of_variance(1, _stored(site, state, "mean"), _stored(site, state, "var"))

    def absorb(self, site: Site, state: State, moments: Moments) -> dict[str, Tensor]:
        """AdaBN (Li et al. 2016): the target's population mean and variance take their place."""
        shape = state[site.keys["mean"]].shape
        return {
            site.keys["mean"]: moments.mean_C.reshape(shape),
            site.keys["var"]: moments.var_C.reshape(shape),
        }


class BatchRenorm(Rule):
    """Batch Renormalization (Ioffe 2017): a running mean and the deviation that eval divides by.

    Ioffe's Algorithm 1, and so the layers of `normalizers.batch_renorm`, put eps under the root;
    the PyTorch implementation that most others descend from adds it to the root. Only ours count
    their steps as `schedule_step`.
    """

    def believed(self, site: Site, state: State) -> Moments:
        """The stored statistics without the eps that the stored deviation holds."""
        std_C = _stored(site, state, "std")
        if self._eps_is_in_variance(site, state):
            var_C = (std_C**2 - site.eps).clamp_min(0)
        else:
            var_C = (std_C - site.eps).clamp_min(0) ** 2
        return Moments.of_variance(1, _stored(site, state, "mean"), var_C)

    def absorb(self, site: Site, state: State, moments: Moments) -> dict[str, Tensor]:
        """AdaBN: the target's mean, and the root of its pooled variance with eps."""
        shape = state[site.keys["mean"]].shape
        if self._eps_is_in_variance(site, state):
            std_C = (moments.var_C + site.eps).sqrt()
        else:
            std_C = moments.var_C.sqrt() + site.eps
        return {
            site.keys["mean"]: moments.mean_C.reshape(shape),
            site.keys["std"]: std_C.reshape(shape),
        }

    def _eps_is_in_variance(self, site: Site, state: State) -> bool:
        return site.keys["std"].removesuffix(self.holds["std"]) + "schedule_step" in state


class NormPropInput(Rule):
    """The input normalization of Normalization Propagation (Arpit et al. 2016).

    Nothing else in such a network depends on data. `input_std` holds `sqrt(variance + eps)`.
    """

    def believed(self, site: Site, state: State) -> Moments:
        """The stored statistics without the eps under the stored root."""
        var_C = _stored(site, state, "std") ** 2 - site.eps
        return Moments.of_variance(1, _stored(site, state, "mean"), var_C.clamp_min(0))

    def absorb(self, site: Site, state: State, moments: Moments) -> dict[str, Tensor]:
        """The target's global mean and `sqrt(variance + eps)` take the stored place."""
        shape = state[site.keys["mean"]].shape
        return {
            site.keys["mean"]: moments.mean_C.reshape(shape),
            site.keys["std"]: (moments.var_C + site.eps).sqrt().reshape(shape),
        }


class MeanOnlyBatchNorm(Rule):
    """Mean-only Batch Normalization (Salimans, Kingma 2016, sec. 4).

    A mean without a variance is no Gaussian: without a source profile a record gives no KL for such
    a site, and --prior and --alpha have nothing to mix in. A made-up variance would give figures
    that no source image stands for: the weight norm that should keep the scale is learned and need
    not be near 1.
    """

    def believed(self, site: Site, state: State) -> Moments | None:
        """The stored mean with the reference's variance; None without a reference."""
        if site.reference is None:
            return None
        return Moments.of_variance(1, _stored(site, state, "mean"), site.reference.var_C)

    def absorb(self, site: Site, state: State, moments: Moments) -> dict[str, Tensor]:
        """AdaBN where the mean is all there is."""
        key = site.keys["mean"]
        return {key: moments.mean_C.reshape(state[key].shape)}


class MatchedOutput(Rule):
    """A layer that stores no statistics: a convolution or linear layer, Weight Norm or none.

    Its output is matched to what a source profile says of it, and scaled and shifted by channel;
    both fold into weight (or Weight Norm's g) and bias.
    """

    def believed(self, site: Site, state: State) -> Moments | None:
        """What the layer takes its output to be: at first its reference; None without one.

        A scale a and shift b bring outputs of mean `(m_s - b) / a` and deviation `s_s / a` to the
        reference's m_s and s_s.
        """
        if site.reference is None:
            return None
        scale_C, shift_C = (state[site.keys[role]].double() for role in ("scale", "shift"))
        mean_C = (site.reference.mean_C - shift_C) / scale_C
        return Moments.of_variance(1, mean_C, site.reference.var_C / scale_C**2)

    def absorb(self, site: Site, state: State, moments: Moments) -> dict[str, Tensor]:
        """The scale and shift with which outputs of these moments show the reference's.

        For an output y = t + bias of moments (m_t, s_t) and a reference (m_s, s_s):
        `y' = (y - m_t) s_s/s_t + m_s`. A channel that is dead on either side is left as it is.
        Raises ValueError for a site without a reference.
        """
        if site.reference is None:
            raise ValueError(f"{site.name} has no reference to be matched to")
        live_C = ~(moments.dead_C | site.reference.dead_C)
        # A dead channel's quotient may be 0, inf or NaN; it is not used.
        scale_C = torch.where(live_C, (site.reference.var_C / moments.var_C).sqrt(), 1.0)
        shift_C = torch.where(live_C, site.reference.mean_C - moments.mean_C * scale_C, 0.0)
        return {site.keys["scale"]: scale_C, site.keys["shift"]: shift_C}


@dataclass(frozen=True)
class Unfolded:
    """A BatchNorm before it was folded, as its checkpoint stores it; [C] each, float64."""

    gamma_C: Tensor
    beta_C: Tensor
    var_C: Tensor
    eps: float

    @property
    def eps_C(self) -> Tensor:
        """Its eps in units of the folded output's variance: `eps s^2`."""
        return self.gamma_C**2 * (self.eps / (self.var_C + self.eps))


@dataclass(frozen=True)
class FoldedSite(Site):
    """A site at a folded layer's output; its keys are "scale" and "shift"."""

    unfolded: Unfolded | None = field(default=None, compare=False)


class FoldedBatchNorm(Rule):
    """Batch Normalization folded into the layer before it, by its unfolded checkpoint.

    The folded layer gives `y = s (x - mean) + beta`, `s = gamma / sqrt(var + eps)`, where x is what
    the normalizer took. So the moments of y tell those of x, and AdaBN is done through weight and
    bias, as it would be before the fold.
    """

    def believed(self, site: Site, state: State) -> Moments:
        """What the layer takes its output to be: of mean beta and variance gamma^2 - eps s^2."""
        known = self._unfolded(site)
        scale_C, shift_C = (state[site.keys[role]].double() for role in ("scale", "shift"))
        var_C = known.gamma_C**2 / scale_C**2 - known.eps_C
        return Moments.of_variance(1, (known.beta_C - shift_C) / scale_C, var_C.clamp_min(0))

    def absorb(self, site: Site, state: State, moments: Moments) -> dict[str, Tensor]:
        """The scale and shift with which outputs of these moments are normalized as by AdaBN.

        `y' = gamma (y - m_t) / sqrt(v_t + eps s^2) + beta`. Without the eps, channels that hardly
        vary on the target would be amplified without bound: ResNets have some of variance 1e-12. A
        gamma of 0 leaves nothing to scale.
        """
        known = self._unfolded(site)
        scale_C = known.gamma_C.abs() / (moments.var_C + known.eps_C).sqrt()
        scale_C = scale_C.where(known.gamma_C != 0, 1.0)
        return {
            site.keys["scale"]: scale_C,
            site.keys["shift"]: known.beta_C - scale_C * moments.mean_C,
        }

    @staticmethod
    def _unfolded(site: Site) -> Unfolded:
        """Raises ValueError for a site that nothing is known of."""
        if not isinstance(site, FoldedSite) or site.unfolded is None:
            raise ValueError(f"{site.name} has no reference that says what was folded into it")
        return site.unfolded


_MATCHED = MatchedOutput(
    says="matches the output's mean and variance to a source profile", needs_profile=True
)

#: Kind of a site -> its rule. Of those that hold tensors, the first whose tensors a layer holds is
#: the layer's.
RULES: Mapping[str, Rule] = {
    "batch_norm": BatchNorm(
        says="replaces the running mean and variance by the target's",
        holds={"mean": "running_mean", "var": "running_var"},
        initial={"mean": 0.0, "var": 1.0},
        keeps_all=True,
    ),
    "batch_renorm": BatchRenorm(
        says="replaces the running mean and standard deviation by the target's",
        holds={"mean": "running_mean", "std": "running_std"},
        initial={"mean": 0.0, "std": 1.0},
    ),
    "norm_prop_input": NormPropInput(
        says="replaces the input's mean and standard deviation by the target's",
        # Not initial at 0 and 1: pictures that were normalized before have just that.
        holds={"mean": "input_mean", "std": "input_std"},
    ),
    # After the others: whatever holds a running mean and nothing that they know.
    "mean_only_batch_norm": MeanOnlyBatchNorm(
        says="replaces the running mean by the target's",
        holds={"mean": "running_mean"},
        initial={"mean": 0.0},
    ),
    "weight_norm": _MATCHED,
    "affine": _MATCHED,
    "folded_batch_norm": FoldedBatchNorm(
        says="AdaBN through the folded weight and bias, by the gamma and beta of the reference",
        keeps_all=True,
    ),
}

#: The kinds that store statistics.
STORED = {kind: rule for kind, rule in RULES.items() if rule.holds}


def never_learned(site: Site, state: State) -> bool:
    """Whether every statistic of a site is, in all channels, what the layer was made with.

    No data has a mean of exactly 0 and a variance of exactly 1. How many batches were tracked says
    less: weights that were averaged, or a momentum of 0, count some and never learn.
    """
    initial = RULES[site.kind].initial
    return bool(initial) and all(
        bool((state[site.keys[role]] == value).all()) for role, value in initial.items()
    )


def impossible_statistics(site: Site, state: State) -> list[str]:
    """What no data gives: values that are not finite, and spreads below 0; one phrase per entry.

    A variance below 0 by no more than eps has a root still: it is a difference that was rounded.
    """
    if site.kind not in STORED:
        return []
    found, least = [], {"mean": -torch.inf, "std": 0.0, "var": -site.eps}
    for role, key in site.keys.items():
        values_C = state[key].flatten().double()
        broken_C = ~values_C.isfinite() | (values_C < least[role])
        if broken_C.any():
            channel = int(broken_C.nonzero()[0])
            others = int(broken_C.sum()) - 1
            more = f", and so in {others} more" if others else ""
            found.append(f"{key} is {float(values_C[channel]):.4g} in channel {channel}{more}")
    return found
