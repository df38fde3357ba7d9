"""Networks as training leaves them: with statistics, which a network that was just made has not."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def learned(module: Module) -> Module:
    """The module with running statistics near those that it was made with, the same each time."""
    generator = torch.Generator().manual_seed(1)
    for key, buffer in module.named_buffers():
        if key.endswith("running_mean"):
            buffer.normal_(0, 0.01, generator=generator)
        elif key.endswith(("running_var", "running_std")):
            buffer.uniform_(0.99, 1.01, generator=generator)
    return module
