"""Batch norms that go around torch's slow kernel compute the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from workers.quick_norms import BatchNorm, QuickBatchNorm2d, quick_norms


def norm(width: int, momentum: float | None = 0.1) -> nn.BatchNorm2d:
    module = nn.BatchNorm2d(width, momentum=momentum).double()
    with torch.no_grad():
        module.weight.copy_(torch.linspace(0.5, 2.0, width))
        module.bias.copy_(torch.linspace(-1.0, 1.0, width))
    return module


def maps(width: int, rows: int = 6, batch: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(batch, width, rows, rows, generator=generator, dtype=torch.float64)
    return drawn.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("rows", [5, 6])  # 75 positions, in rows of 1; 108, in rows of 4
@pytest.mark.parametrize("width", [1, 3, 8, 13, 27])
def test_outputs_gradients_and_statistics_are_those_of_the_plain_norm(
    width: int, rows: int, momentum: float | None
) -> None:
    found = []
    for module in (norm(width, momentum), quick_norms(norm(width, momentum))):
        given = maps(width, rows).requires_grad_()
        outputs = [module(given), module(given)]  # running statistics of more than one batch
        outputs.append(module.eval()(given))
        assert all(o.is_contiguous(memory_format=torch.channels_last) for o in outputs)
        sum(output.pow(3).sum() for output in outputs).backward()
        found.append([*outputs, given.grad, *(p.grad for p in module.parameters())])
        found[-1] += module.buffers()
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


def test_contiguous_maps_go_to_the_plain_norm() -> None:
    x = maps(13).contiguous()
    torch.testing.assert_close(quick_norms(norm(13))(x), norm(13)(x), rtol=0, atol=0)


def test_one_sample_has_no_variance_and_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        quick_norms(norm(13))(maps(13, rows=1, batch=1))


def test_other_norms_stay_as_they_are() -> None:
    kinds = [
        nn.BatchNorm2d(13),
        nn.BatchNorm2d(13, affine=False),
        nn.BatchNorm2d(13, track_running_stats=False),
        nn.BatchNorm1d(13),
    ]
    quick_norms(nn.Sequential(*kinds))
    assert [isinstance(module, QuickBatchNorm2d) for module in kinds] == [True, False, False, False]
