"""Batch norms that go around torch's slow kernel compute the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from workers.methods.clipped_lasso.norms import quick_norms


def norm(width: int, quick: bool) -> nn.Module:
    network = nn.Sequential(nn.BatchNorm2d(width))
    return quick_norms(network) if quick else network


@pytest.mark.parametrize("width", [3, 8, 13, 24, 27])
def test_outputs_gradients_and_statistics_are_those_of_the_plain_norm(width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, width, 6, 6, generator=generator).to(memory_format=torch.channels_last)
    found = []
    for quick in (False, True):
        module, inputs = norm(width, quick), x.clone().requires_grad_()
        outputs = module(inputs)
        outputs.pow(3).sum().backward()
        found.append([outputs, inputs.grad, *(p.grad for p in module.parameters())])
        found[-1] += module.buffers()
    for plain, other in zip(*found, strict=True):
        torch.testing.assert_close(other, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("width", "contiguous"), [(3, True), (8, False), (13, True), (27, False)])
def test_narrow_odd_widths_alone_are_made_contiguous(width: int, contiguous: bool) -> None:
    x = torch.randn(4, width, 6, 6).to(memory_format=torch.channels_last)
    assert norm(width, quick=True)(x).is_contiguous() == contiguous
