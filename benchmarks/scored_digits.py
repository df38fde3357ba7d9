"""The sample's digits as nets take them, to train and score on. Needs sample_data/ on the path."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from build import held_out, mnist_digits, optical_digits, resized, training_set
from reference_nets import TrainingSet
from torch import Tensor, nn


@dataclass(frozen=True)
class Digits:
    """The training digits, and batches (inputs, labels) of those of either domain to score on."""

    training: TrainingSet
    source: list[tuple[Tensor, Tensor]]
    target: list[tuple[Tensor, Tensor]]

    @classmethod
    def read(cls) -> Digits:
        """The digits of sample_data/build.py."""
        images, labels = mnist_digits()
        kept_N = held_out(labels)
        training = training_set((images[~kept_N], labels[~kept_N]))
        scored = [
            list(
                zip(
                    training.normalized(resized(pictures)).split(100),
                    torch.from_numpy(classes).long().split(100),
                    strict=True,
                )
            )
            for pictures, classes in ((images[kept_N], labels[kept_N]), optical_digits())
        ]
        return cls(training, *scored)

    @property
    def source_inputs(self) -> Tensor:
        """All held-out source images, [N, 1, 16, 16]."""
        return torch.cat([inputs for inputs, _ in self.source])

    @torch.no_grad()
    def source_percent(self, net: nn.Module) -> float:
        """Share of the held-out source images that the net gets right, in percent."""
        right = sum(int((net(x).argmax(1) == labels).sum()) for x, labels in self.source)
        return 100 * right / len(self.source_inputs)
