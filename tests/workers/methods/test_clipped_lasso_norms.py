"""Batch norms that go around torch's slow kernel compute the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from workers.methods.clipped_lasso.norms import BatchNorm, QuickBatchNorm2d, quick_norms


def norm(width: int, momentum: float | None = 0.1) -> nn.BatchNorm2d:
    module = nn.BatchNorm2d(width, momentum=momentum).double()
    with torch.no_grad():
        module.weight.copy_(torch.linspace(0.5, 2.0, width))
        module.bias.copy_(torch.linspace(-1.0, 1.0, width))
    return module


def maps(width: int, rows: int = 6, batch: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(batch, width, rows, rows, generator=generator, dtype=torch.float64)
    return drawn.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("width", [1, 3, 8, 13, 27])
def test_outputs_gradients_and_statistics_are_those_of_the_plain_norm(
    width: int, momentum: float | None
) -> None:
    found = []
    for module in (norm(width, momentum), quick_norms(norm(width, momentum))):
        inputs = maps(width).requires_grad_()
        for _ in range(2):  # running statistics of more than one batch
            outputs = module(inputs)
        outputs.pow(3).sum().backward()
        found.append([outputs, inputs.grad, *(p.grad for p in module.parameters())])
        found[-1] += [*module.buffers(), module.eval()(maps(width))]
    for plain, quick in zip(*found, strict=True):
        torch.testing.assert_close(quick, plain)


def test_single_precision_is_as_near_to_double_as_the_plain_norm_is() -> None:
    x = 3.0 + maps(13, rows=32, batch=16)
    errors = []
    for module in (norm(13).float(), quick_norms(norm(13).float())):
        errors.append((module(x.float()) - norm(13)(x)).abs().max().item())
    plain, quick = errors
    assert quick < 2 * plain


def test_gradient_is_that_of_finite_differences() -> None:
    module = norm(3)
    x = maps(3, rows=2, batch=2).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *inputs: BatchNorm.apply(*inputs, 1e-5)[0],  # type: ignore[no-untyped-call]
        (x, module.weight, module.bias),
    )


@pytest.mark.parametrize("width", [3, 13])
@pytest.mark.parametrize(
    "x",
    [maps(1, rows=5, batch=3), maps(1).to(memory_format=torch.contiguous_format)],
    ids=["positions that are no multiple of 8", "contiguous maps"],
)
def test_other_maps_go_to_the_plain_norm(x: torch.Tensor, width: int) -> None:
    batch, _, height, rows = x.shape
    x = torch.randn_like(x.expand(batch, width, height, rows))
    torch.testing.assert_close(quick_norms(norm(width))(x), norm(width)(x), rtol=0, atol=0)


def test_widths_of_whole_vectors_and_other_norms_stay_as_they_are() -> None:
    network = nn.Sequential(nn.BatchNorm2d(8), nn.BatchNorm2d(13), nn.BatchNorm1d(13))
    quick_norms(network)
    kinds = [type(module) for module in network]
    assert kinds == [nn.BatchNorm2d, QuickBatchNorm2d, nn.BatchNorm1d]
