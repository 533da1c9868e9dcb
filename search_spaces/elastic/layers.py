"""Layers that run at an active size, which a Layer record gives.

A smaller layer has the leading slices of the full one's tensors (Cai et al., "Once for All: Train
One Network and Specialize it for Efficient Deployment", 2020, section 3.2). A smaller kernel of a
depthwise convolution is the centre of the next larger one, transformed by a matrix that all
channels of the layer share.

Tensors: B samples, C channels, H rows, W columns; of weights O outputs, I inputs, K x K kernels
flattened to P positions.

A layer has `active`, the record that it follows, and `pinned`: the state for that record, where it
was taken ahead for many calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.nn import functional

from search_spaces.base import Layer
from search_spaces.elastic.modules import resized

SMALLEST_KERNEL = 3
State = dict[str, torch.Tensor]


class ElasticConv(nn.Module):
    """A convolution with an active number of inputs and outputs and an active kernel size."""

    active: Layer
    pinned: State | None = None

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight = conv.weight
        self.bias = conv.bias
        self.stride = conv.stride
        self.kernel_size = conv.kernel_size[0]
        depthwise = conv.groups == conv.in_channels > 1
        sizes = range(self.kernel_size - 2, SMALLEST_KERNEL - 1, -2) if depthwise else ()
        self.transforms = nn.ParameterDict(
            {_transform(size): nn.Parameter(torch.eye(size**2)) for size in sizes}
        )

    def sliced(self, layer: Layer) -> State:
        """Return the state of the stand-alone convolution that a record describes."""
        outputs, inputs = layer.out_shape[0], layer.in_shape[0] // layer.groups
        weight_OIKK = self.weight[:outputs, :inputs]
        for size in range(self.kernel_size - 2, layer.kernel_size[0] - 1, -2):
            centre_OIP = weight_OIKK[:, :, 1:-1, 1:-1].flatten(2)
            transformed_OIP = functional.linear(centre_OIP, self.transforms[_transform(size)])
            weight_OIKK = transformed_OIP.reshape(*centre_OIP.shape[:2], size, size)
        state = {"weight": weight_OIKK}
        return state if self.bias is None else {**state, "bias": self.bias[:outputs]}

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Return the active convolution of a map with the active number of channels."""
        layer = self.active
        state = self.pinned or self.sliced(layer)
        return functional.conv2d(
            x_BCHW,
            state["weight"],
            state.get("bias"),
            self.stride,
            padding=layer.kernel_size[0] // 2,
            groups=layer.groups,
        )


class ElasticNorm(nn.BatchNorm2d):
    """A batch norm whose leading channels all its widths share, running statistics included.

    They become those of a mix of networks; one that is to be used needs its own, computed anew.
    """

    active: Layer
    pinned: State | None = None

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)

    def sliced(self, layer: Layer) -> State:
        """Return the state of the stand-alone batch norm that a record describes."""
        channels = layer.out_shape[0]
        tensors = {**self._parameters, **self._buffers}
        return {
            name: tensor[:channels] if tensor.ndim else tensor
            for name, tensor in tensors.items()
            if tensor is not None
        }

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Normalise a map with the active number of channels."""
        state = self.pinned or self.sliced(self.active)
        share = 0.0
        if self.training:
            seen = state["num_batches_tracked"].add_(1)
            share = 1 / seen.item() if self.momentum is None else self.momentum
        return functional.batch_norm(
            x_BCHW,
            state["running_mean"],
            state["running_var"],
            state["weight"],
            state["bias"],
            self.training,
            share,
            self.eps,
        )


class ElasticLinear(nn.Module):
    """A linear layer with an active number of inputs; its outputs are the classes."""

    active: Layer
    pinned: State | None = None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = linear.weight
        self.bias = linear.bias

    def sliced(self, layer: Layer) -> State:
        """Return the state of the stand-alone layer that a record describes."""
        return {"weight": self.weight[:, : layer.in_shape[0]], "bias": self.bias}

    def forward(self, x_BC: torch.Tensor) -> torch.Tensor:
        """Return the outputs for the active number of features."""
        return functional.linear(x_BC, **(self.pinned or self.sliced(self.active)))


class ElasticResize(nn.Module):
    """Brings images to the active resolution."""

    active: Layer
    pinned: State | None = None

    def sliced(self, layer: Layer) -> State:
        """Return the state of the stand-alone layer: it has none."""
        return {}

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Return the images at the active resolution."""
        rows, columns = self.active.out_shape[1:]
        return resized(x_BCHW, (rows, columns))


ElasticLayer = ElasticConv | ElasticNorm | ElasticLinear | ElasticResize

_ELASTIC: Mapping[type[nn.Module], Callable[..., ElasticLayer]] = {
    nn.Conv2d: ElasticConv,
    nn.BatchNorm2d: ElasticNorm,
    nn.Linear: ElasticLinear,
}


def make_elastic(module: nn.Module) -> nn.Module:
    """Replace every convolution, batch norm and linear layer inside a module; names stay."""
    for name, child in module.named_children():
        elastic = _ELASTIC.get(type(child), make_elastic)
        setattr(module, name, elastic(child))
    return module


def _transform(size: int) -> str:
    """Return the name of the matrix that makes a kernel of this size from the next larger one."""
    return f"{size + 2}to{size}"
