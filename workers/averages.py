"""Moving averages of a network's weights."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator

import torch
from torch import nn

from workers.protocol import State, copied


class MovingAverage:
    """Exponential moving average of parameters and running statistics.

    The decay is min(decay, (1 + n) / (10 + n)) at update n, as TensorFlow's `num_updates`, so that
    short trainings are not held back by their start. torch's AveragedModel has a fixed one.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards the model's present values; counters are copied."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        averages, values = [], []
        for average, value in zip(_tensors(self.model), _tensors(model), strict=True):
            if average.is_floating_point():
                averages.append(average)
                values.append(value)
            else:
                average.copy_(value)
        torch._foreach_lerp_(averages, values, 1 - decay)

    def state(self) -> State:
        """Return copies of everything that changes."""
        return {"model": copied(self.model.state_dict()), "updates": self.updates}

    def restore(self, state: State) -> None:
        """Go on from what `state` returned."""
        self.model.load_state_dict(state["model"])
        self.updates = state["updates"]


def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    return itertools.chain(module.parameters(), module.buffers())
