"""What torch.optim lacks: TensorFlow's RMSprop, and weight decay on weights alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer


class RMSpropTF(Optimizer):
    """RMSprop as TensorFlow computes it, which EfficientNet's and GPUNet's recipes assume.

    v <- alpha v + (1 - alpha) g^2,  m <- momentum m + lr g / sqrt(v + eps),  w <- w - m,
    with v = 1 at the start. torch.optim.RMSprop starts at v = 0, adds eps outside the root and
    keeps the learning rate out of m, so that a falling rate also slows what m still carries.
    """

    def __init__(
        self,
        params: Iterable[torch.Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-2,
        *,
        alpha: float = 0.9,
        eps: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "alpha": alpha,
            "eps": eps,
            "momentum": momentum,
            "weight_decay": weight_decay,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update the parameters that have gradients, all of a group at once."""
        if closure is not None:
            raise ValueError("RMSpropTF takes no closure")
        for group in self.param_groups:
            params: list[torch.Tensor] = [p for p in group["params"] if p.grad is not None]
            if params:
                self._update(params, group)

    def _update(self, params: list[torch.Tensor], group: dict[str, Any]) -> None:
        grads = [param.grad for param in params if param.grad is not None]
        for param in params:
            if not self.state[param]:
                self.state[param]["square_avg"] = torch.ones_like(param)
                self.state[param]["momentum_buffer"] = torch.zeros_like(param)
        squares = [self.state[param]["square_avg"] for param in params]
        buffers = [self.state[param]["momentum_buffer"] for param in params]
        if group["weight_decay"]:
            grads = list(torch._foreach_add(grads, params, alpha=group["weight_decay"]))
        torch._foreach_mul_(squares, group["alpha"])
        torch._foreach_addcmul_(squares, grads, grads, value=1 - group["alpha"])
        roots = torch._foreach_add(squares, group["eps"])
        torch._foreach_sqrt_(roots)
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_addcdiv_(buffers, grads, roots, value=group["lr"])
        torch._foreach_sub_(params, buffers)


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return parameter groups in which weights decay, and biases and norms do not.

    Norms and biases are the parameters of less than two dimensions (He et al., "Bag of Tricks",
    2019, section 3.1).
    """
    params = [param for param in module.parameters() if param.requires_grad]
    weights = [param for param in params if param.ndim > 1]
    others = [param for param in params if param.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
