"""Normalization Propagation (Arpit et al. 2016): layers that stay normalized in closed form.

They hold no data statistics, so there is nothing to adapt in them; `norm_prop_input` has those.
Constants hold for inputs of mean 0 and variance 1 whose weighted sums are normal.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

#: What gamma starts from: 1.21 is sqrt(1 / (1 - 1/pi)) = 1.2112, see `NormPropLinear`.
GAMMA = 1 / 1.21


def rectified_normal_moments(gamma: float = 1.0, beta: float = 0.0) -> tuple[float, float]:
    """Mean and standard deviation of relu(z), z ~ N(beta, gamma^2), gamma > 0.

    For gamma = 1, beta = 0: `1/sqrt(2 pi)` = 0.39894 and `sqrt((1 - 1/pi)/2)` = 0.58382 (Arpit et
    al. 2016, sec. 3).
    """
    ratio = beta / gamma
    below = math.erfc(-ratio / math.sqrt(2)) / 2  # Phi(ratio)
    density = math.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi)
    mean = beta * below + gamma * density
    square = (beta**2 + gamma**2) * below + beta * gamma * density
    return mean, math.sqrt(max(square - mean**2, 0.0))


@cache
def normal_max_moments(k: int) -> tuple[float, float]:
    """Mean and standard deviation of the maximum of k independent N(0, 1), to 1e-9.

    By the trapezoidal rule over its density `k phi(x) Phi(x)^(k - 1)`, which is smooth and zero at
    both ends. Raises ValueError for k < 1.
    """
    if k < 1:
        raise ValueError(f"there is no maximum of {k} numbers")
    x = torch.linspace(-12, 12, 4801, dtype=torch.float64)
    log_density = math.log(k) - x**2 / 2 - math.log(2 * math.pi) / 2
    weight = (log_density + (k - 1) * torch.special.log_ndtr(x)).exp() * (x[1] - x[0])
    mean = float((weight * x).sum())
    return mean, math.sqrt(float((weight * (x - mean) ** 2).sum()))


def normal_average_moments(k: int) -> tuple[float, float]:
    """Mean and standard deviation of the average of k independent N(0, 1): 0 and 1/sqrt(k).

    Raises ValueError for k < 1.
    """
    if k < 1:
        raise ValueError(f"there is no average of {k} numbers")
    return 0.0, 1 / math.sqrt(k)


class NormPropLinear(nn.Linear):
    """A linear layer that gives mean 0 for inputs of mean 0 and variance 1, without their data.

    `(relu(gamma W.x / ||W|| + beta) - m) / s` with one gamma and beta (`bias`) a row of `weight`
    (Arpit et al. 2016, sec. 3). s is the deviation of relu(z), z ~ N(0, 1), and m the mean of
    relu(z) for z as the layer starts, N(0, gamma^2) by the gamma given here. With `relu=False`, for
    logits: `gamma W.x / ||W|| + beta`.

    The Jacobian's root mean square singular value is then 1.21 gamma, so gamma starts from 1/1.21.
    The paper subtracts the m of gamma = 1 all the same, which leaves a mean of -0.12 behind; to
    load weights that were trained so, give `gamma=1.0` here.
    """

    def __init__(
        self, in_features: int, out_features: int, *, relu: bool = True, gamma: float = GAMMA
    ) -> None:
        super().__init__(in_features, out_features)
        self.relu = relu
        self.gamma = nn.Parameter(torch.full((out_features,), gamma))
        self.rectified_mean = rectified_normal_moments(gamma)[0]
        self.rectified_std = rectified_normal_moments()[1]
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs of x [*, in_features]."""
        z = functional.linear(x, _scaled(self.weight, self.gamma), self.bias)
        return (functional.relu(z) - self.rectified_mean) / self.rectified_std if self.relu else z

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"{self.in_features}, {self.out_features}, relu={self.relu}"


class NormPropConv2d(nn.Conv2d):
    """`NormPropLinear` at every position: one gamma and beta a filter, ||W|| over the whole filter.

    Where `padding` adds zeros the border's variance is smaller than 1.
    """

    def __init__(  # noqa: PLR0913 - those of a convolution
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        *,
        relu: bool = True,
        gamma: float = GAMMA,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding)
        self.relu = relu
        self.gamma = nn.Parameter(torch.full((out_channels,), gamma))
        self.rectified_mean = rectified_normal_moments(gamma)[0]
        self.rectified_std = rectified_normal_moments()[1]
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs of x [N, C, H, W]."""
        z = self._conv_forward(x, _scaled(self.weight, self.gamma), self.bias)
        return (functional.relu(z) - self.rectified_mean) / self.rectified_std if self.relu else z


class NormPropMaxPool2d(nn.MaxPool2d):
    """Max pooling that gives mean 0 and variance 1 for independent N(0, 1) inputs.

    Neighbouring positions of a picture are neither independent nor normal: an approximation, as all
    of Norm Prop behind the first layer.
    """

    def __init__(self, kernel_size: int, stride: int | None = None) -> None:
        super().__init__(kernel_size, stride)
        self.pooled_mean, self.pooled_std = normal_max_moments(kernel_size**2)

    def forward(self, x: Tensor) -> Tensor:
        """The pooled and normalized input [N, C, H, W]."""
        pooled = functional.max_pool2d(x, self.kernel_size, self.stride)
        return (pooled - self.pooled_mean) / self.pooled_std


class NormPropAvgPool2d(nn.AvgPool2d):
    """Average pooling that gives mean 0 and variance 1 for independent N(0, 1) inputs.

    What `NormPropMaxPool2d` says of neighbouring positions holds here too.
    """

    def __init__(self, kernel_size: int, stride: int | None = None) -> None:
        super().__init__(kernel_size, stride)
        self.pooled_mean, self.pooled_std = normal_average_moments(kernel_size**2)

    def forward(self, x: Tensor) -> Tensor:
        """The pooled and normalized input [N, C, H, W]."""
        pooled = functional.avg_pool2d(x, self.kernel_size, self.stride)
        return (pooled - self.pooled_mean) / self.pooled_std


def _scaled(weight: Tensor, gamma: Tensor) -> Tensor:
    """`gamma weight / ||weight||`, row by row; a row of zeros stays zero."""
    # float16 overflows in the square of 256: norms are taken in float32 at least.
    wide = weight if weight.dtype == torch.float64 else weight.float()
    direction = functional.normalize(wide.flatten(1), dim=1).view(weight.shape)
    view = [-1] + [1] * (weight.dim() - 1)
    return (direction * gamma.view(view)).to(weight.dtype)
