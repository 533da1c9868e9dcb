"""How often a network in training drops features and whole blocks."""

from __future__ import annotations

from torch import nn
from torchvision.ops import StochasticDepth


def set_drop_rates(model: nn.Module, *, drop_path: float, dropout: float) -> None:
    """Set dropout, and drop path growing linearly with depth.

    Huang et al., "Deep Networks with Stochastic Depth" (2016), Eq. 4. Depth counts every block that
    can drop its path, with or without a residual connection, as implementations of EfficientNet do.
    """
    paths = [module for module in model.modules() if isinstance(module, StochasticDepth)]
    for number, module in enumerate(paths, start=1):
        module.p = drop_path * number / len(paths)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
