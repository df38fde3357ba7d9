"""Per-channel count, mean and squared deviation, merged without loss. Knows no model, file or rank.

Shapes: N images, C channels, S positions per channel (H*W, or 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# A float32 constant c comes back with a variance of up to (6e-8 c)^2 from rounding alone.
_ROUNDING = 1e-6

# Values whose deviations are made at once: 4 MiB, which malloc hands out again without new pages.
_AT_ONCE = 1 << 20

# Rows that are added in float32, one to the other: 128 are right to 2e-7 of a mean, 512 to 4e-7.
_ROWS, _FEWEST_ROWS = 128, 8
# Squares whose root torch takes at once: in lanes, so 1,024 are right to 2e-7, 160,000 to 4e-6.
_SQUARES = 1024
# Standard deviations that a mean may be from zero for that; in a resnet18 one in 1,000 is further.
_FAR = 4.0


@dataclass(frozen=True)
class Moments:
    """Population moments of C channels: `count` samples each, `mean_C` and `m2_C` in float64.

    `m2_C` is the sum of squared deviations from the mean; the variance has ddof 0.
    """

    count: int
    mean_C: Tensor
    m2_C: Tensor

    @classmethod
    def empty(cls, channels: int, device: torch.device | str = "cpu") -> Moments:
        """The moments of no sample: what merging starts from."""
        zeros = torch.zeros(channels, dtype=torch.float64, device=device)
        return cls(0, zeros, zeros)

    @classmethod
    def of_variance(cls, count: int, mean_C: Tensor, var_C: Tensor) -> Moments:
        """Moments from a mean and a population variance, both [C]."""
        return cls(count, mean_C.double(), var_C.double() * count)

    @property
    def var_C(self) -> Tensor:
        """Population variance, [C]; zero where there is no sample."""
        return self.m2_C / max(self.count, 1)

    @property
    def dead_C(self) -> Tensor:
        """Boolean [C]: channels that never varied, up to float32 rounding of their mean."""
        return self.var_C <= (_ROUNDING * self.mean_C) ** 2

    def on(self, device: torch.device) -> Moments:
        """The same on another device."""
        return Moments(self.count, self.mean_C.to(device), self.m2_C.to(device))

    def merge(self, other: Moments) -> Moments:
        """The moments of both parts together (Chan, Golub, LeVeque 1979).

        The journal version of AdaBN (Li et al., Pattern Recognition 80, 2018, Eq. 2) prints the
        same update with `k / n_j` where `n_j` is the count before the batch: that divides by zero
        on the first batch. With `n_j + k`, as here, it is exact.
        """
        # Merge deviations, not E[x^2]: float32 E[x^2]-E[x]^2 gives 7.0 for a true 1.0 at mean 3000.
        if self.count == 0 or other.count == 0:
            return other if self.count == 0 else self
        count = self.count + other.count
        delta_C = other.mean_C - self.mean_C
        mean_C = self.mean_C + delta_C * (other.count / count)
        between_C = delta_C**2 * (self.count * other.count / count)
        return Moments(count, mean_C, self.m2_C + other.m2_C + between_C)


@dataclass(frozen=True)
class ImageMoments:
    """How single images of a site differ: by their means m and mean squares q, [C] each.

    `q_i = v_i + (m_i - mean)^2` is the mean squared deviation of image i's positions from the mean
    of all m; v_i is the variance inside it. The mean of q is the site's variance, so the spread of
    q tells how well that variance is known. `cross_C` sums the products of the deviations of m and
    q: with it q can be taken about another mean, and parts merge without loss.
    """

    count: int
    mean_C: Tensor
    m2_C: Tensor
    square_mean_C: Tensor
    square_m2_C: Tensor
    cross_C: Tensor

    @classmethod
    def empty(cls, channels: int, device: torch.device | str = "cpu") -> ImageMoments:
        """The moments of no image."""
        zeros = torch.zeros(channels, dtype=torch.float64, device=device)
        return cls(0, zeros, zeros, zeros, zeros, zeros)

    def about(self, mean_C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean of q, its summed squared deviation and its cross sum with m, q taken about `mean_C`.

        From `q' = q - 2 d (m - mean) + d^2` with `d = mean_C - mean`.
        """
        d_C = mean_C - self.mean_C
        return (
            self.square_mean_C + d_C**2,
            (self.square_m2_C - 4 * d_C * self.cross_C + 4 * d_C**2 * self.m2_C).clamp_min(0),
            self.cross_C - 2 * d_C * self.m2_C,
        )

    def merge(self, other: ImageMoments) -> ImageMoments:
        """Both parts together: Chan's update on the pairs (m, q), q taken about the common mean."""
        if self.count == 0 or other.count == 0:
            return other if self.count == 0 else self
        count = self.count + other.count
        mean_C = self.mean_C + (other.mean_C - self.mean_C) * (other.count / count)
        square_a_C, m2_a_C, cross_a_C = self.about(mean_C)
        square_b_C, m2_b_C, cross_b_C = other.about(mean_C)
        weight = self.count * other.count / count
        delta_C, delta_square_C = other.mean_C - self.mean_C, square_b_C - square_a_C
        return ImageMoments(
            count,
            mean_C,
            self.m2_C + other.m2_C + delta_C**2 * weight,
            square_a_C + delta_square_C * (other.count / count),
            m2_a_C + m2_b_C + delta_square_C**2 * weight,
            cross_a_C + cross_b_C + delta_C * delta_square_C * weight,
        )


@dataclass(frozen=True)
class EstimatedMoments:
    """Mean and variance, and the squared standard errors of both, [C] each, float64."""

    mean_C: Tensor
    var_C: Tensor
    mean_error2_C: Tensor
    var_error2_C: Tensor

    def on(self, device: torch.device) -> EstimatedMoments:
        """The same on another device."""
        parts = (self.mean_C, self.var_C, self.mean_error2_C, self.var_error2_C)
        return EstimatedMoments(*(part.to(device) for part in parts))


@dataclass(frozen=True)
class SiteMoments:
    """What was measured at a site: over all positions, and over single images.

    Positions of one image are correlated, so how well a statistic is known follows from the spread
    between images, not from the number of positions. `histogram_CB` counts values by bin, where
    that was asked for.
    """

    pixels: Moments
    images: ImageMoments
    histogram_CB: Tensor | None = None

    @classmethod
    def empty(cls, channels: int, device: torch.device | str = "cpu") -> SiteMoments:
        """The moments of no image."""
        return cls(Moments.empty(channels, device), ImageMoments.empty(channels, device))

    def merge(self, other: SiteMoments) -> SiteMoments:
        """Both parts together."""
        histograms = [x for x in (self.histogram_CB, other.histogram_CB) if x is not None]
        return SiteMoments(
            self.pixels.merge(other.pixels),
            self.images.merge(other.images),
            torch.stack(histograms).sum(0) if histograms else None,
        )

    def estimated(self, images: int) -> EstimatedMoments:
        """Mean and variance with their errors over so many images; inf for fewer than 2."""
        return EstimatedMoments(
            self.pixels.mean_C,
            self.pixels.var_C,
            self.standard_error(images) ** 2,
            self.variance_error(images) ** 2,
        )

    def standard_error(self, images: int) -> Tensor:
        """Standard error of the mean over so many images, [C], in units of the activation.

        inf for fewer than 2 images. The variance between images is the unbiased one (ddof 1). Where
        a site was used several times, or an image came in several rows, there are more rows than
        images, and no more knowledge for that.
        """
        return self._standard_error(self.images.m2_C, images)

    def variance_error(self, images: int) -> Tensor:
        """Standard error of the variance, [C], in squared units of the activation; inf as above."""
        return self._standard_error(self.images.square_m2_C, images)

    def _standard_error(self, m2_C: Tensor, images: int) -> Tensor:
        rows = self.images.count
        if min(rows, images) < 2:
            return torch.full_like(m2_C, torch.inf)
        return (m2_C / (rows - 1) / min(rows, images)).sqrt()

    def effective_count(self, images: int) -> Tensor:
        """How many independent samples the mean is worth, [C]: var / standard_error^2.

        Zero for fewer than two images; never more than the positions that were counted.
        """
        error_C = self.standard_error(images)
        worth_C = self.pixels.var_C / error_C**2
        # 0 / 0 in a dead channel: its images agree, and are worth no more than their number.
        return worth_C.nan_to_num(nan=float(images)).clamp(max=float(self.pixels.count))


@dataclass(frozen=True)
class ImageRows:
    """One batch at a site, row by row: mean and summed squared deviation, [N, C] each."""

    positions: int
    mean_NC: Tensor
    m2_NC: Tensor

    def of(self, rows: Tensor) -> ImageRows:
        """Some of the rows, by a boolean or integer index."""
        return ImageRows(self.positions, self.mean_NC[rows], self.m2_NC[rows])

    def pooled(self) -> SiteMoments:
        """The moments of all rows together."""
        N, C = self.mean_NC.shape
        S = self.positions
        if N == 0 or S == 0:
            return SiteMoments.empty(C, self.mean_NC.device)
        mean_C = self.mean_NC.mean(0)
        deviation_NC = self.mean_NC - mean_C
        square_NC = self.m2_NC / S + deviation_NC**2
        square_mean_C = square_NC.mean(0)
        spread_NC = square_NC - square_mean_C
        m2_C = (deviation_NC**2).sum(0)
        images = ImageMoments(
            N,
            mean_C,
            m2_C,
            square_mean_C,
            (spread_NC**2).sum(0),
            (deviation_NC * spread_NC).sum(0),
        )
        return SiteMoments(Moments(N * S, mean_C, self.m2_NC.sum(0) + S * m2_C), images)


def measure(activation: Tensor) -> SiteMoments:
    """The moments of an activation [N, C] or [N, C, *], N >= 1."""
    return image_rows(activation).pooled()


def image_rows(activation: Tensor) -> ImageRows:
    """What each image of an activation [N, C] or [N, C, *] shows.

    Partials are centred per image and channel in float32 and merged over images in float64: right
    to 2e-7, at 0.3-4 times the cost of an eval BatchNorm where `torch.var_mean` takes 24. float64
    stays float64. bfloat16 and float16 are widened first: their sums are worth two digits.
    """
    x = activation if activation.dtype == torch.float64 else activation.float()
    N, C = x.shape[:2]
    S = x[0, 0].numel() if N else 0
    if S == 0:
        nothing_NC = torch.zeros(N, C, dtype=torch.float64, device=x.device)
        return ImageRows(0, nothing_NC, nothing_NC)
    return ImageRows(S, *_per_image(x, S))


def _per_image(x: Tensor, S: int) -> tuple[Tensor, Tensor]:
    """Mean and sum of squared deviations of every image and channel, [N, C] each, float64."""
    if S == 1:
        mean_NC = x.flatten(1).double()
        return mean_NC, torch.zeros_like(mean_NC)
    if x.device.type != "cpu":
        return _centred(x, S)
    if _is_channels_last(x) and (rows := _divisor(S, _ROWS)) >= min(S, _FEWEST_ROWS):
        return _grouped(x, S, rows)
    # To the same bits as all at once, in a third of the time: what is made of a large activation
    # is new memory, and the kernel's clearing of its pages takes longer than the sums.
    few = max(1, _AT_ONCE // (S * x.shape[1]))
    parts = (_centred(x[first : first + few], S) for first in range(0, len(x), few))
    means, squares = zip(*parts, strict=True)
    return torch.cat(means), torch.cat(squares)


def _grouped(x: Tensor, S: int, rows: int) -> tuple[Tensor, Tensor]:
    """The same of activations in channels_last order, in two thirds of the time.

    torch's own sums of a BatchNorm's batch make no deviations in memory, but add float32 row by
    row. Every S / rows-th position makes a group of `rows`, short enough to be right to 2e-7 where
    the mean is no more than a few standard deviations; groups are merged in float64.
    """
    (N, C), groups = x.shape[:2], S // rows
    x_NRK = x.permute(0, 2, 3, 1).reshape(N, rows, groups * C)
    stats = [torch.batch_norm_update_stats(x_RK, None, None, 0.0) for x_RK in x_NRK]
    mean_NGC = torch.stack([mean for mean, _ in stats]).double().view(N, groups, C)
    var_NGC = torch.stack([var for _, var in stats]).double().view(N, groups, C)
    mean_NC = mean_NGC.mean(1)
    m2_NC = rows * (var_NGC + (mean_NGC - mean_NC.unsqueeze(1)) ** 2).sum(1)
    # Far from zero the sums of float32 lose what the deviations are made of: these images again.
    far_NC = S * mean_NC**2 > _FAR**2 * m2_NC
    for n in far_NC.any(1).nonzero().flatten().tolist():
        mean_NC[n : n + 1], m2_NC[n : n + 1] = _centred(x[n : n + 1], S)
    return mean_NC, m2_NC


def _divisor(S: int, most: int) -> int:
    """The largest divisor of S that is no more than `most`."""
    return next(rows for rows in range(min(most, S), 0, -1) if S % rows == 0)


def _centred(x: Tensor, S: int) -> tuple[Tensor, Tensor]:
    """The same for more than one position an image."""
    if _is_channels_last(x):
        # The [N, HW, C] view keeps memory order; in NCHW order every row would be gathered.
        x_NSC = x.permute(0, 2, 3, 1).flatten(1, 2)
        # An eighth of the positions tells the mean to within 3 standard deviations of all, and at
        # that distance the variance keeps all but one digit of its seven; all would cost a sixth.
        rough_NC = x_NSC[:, :: 8 if S >= 64 else 1].mean(1)
        deviation_NSC = x_NSC - rough_NC.unsqueeze(1)
        error_NC = deviation_NSC.mean(1).double()
        m2_NC = deviation_NSC.square_().sum(1).double()
    else:
        x_NCS = x.flatten(2)
        rough_NC = x_NCS.mean(2)
        deviation_NCS = x_NCS - rough_NC.unsqueeze(2)
        error_NC = deviation_NCS.mean(2).double()
        deviation_NCGR = deviation_NCS.reshape(*x.shape[:2], -1, _divisor(S, _SQUARES))
        m2_NC = torch.linalg.vector_norm(deviation_NCGR, dim=3).double().square_().sum(2)
    # The float32 mean is itself rounded, by 3e-5 at 1000: what the deviations do not sum to zero by
    # is put back, or a standard deviation of 0.01 there would come out wrong in the fourth digit.
    return rough_NC.double() + error_NC, (m2_NC - S * error_NC**2).clamp_min(0)


def _is_channels_last(x: Tensor) -> bool:
    """Whether it is in that order and in no other."""
    return (
        x.dim() == 4
        and not x.is_contiguous()
        and x.is_contiguous(memory_format=torch.channels_last)
    )
