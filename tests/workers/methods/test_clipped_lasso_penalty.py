"""The penalties against NumPy in float64, and the steps that set filters to zero."""

import numpy as np
import pytest
import torch
from torch import nn

from workers.methods.clipped_lasso.config import Config
from workers.methods.clipped_lasso.penalty import clipped_lasso, filter_norms, group_lasso
from workers.methods.clipped_lasso.proximal import Shrinking, shrink

SHAPES = [(8, 3, 3, 3), (16, 8, 3, 3), (4, 16, 1, 1)]


def weights(dtype=torch.float64):
    """Layers of filters whose norms differ by up to a factor of 30."""
    generator = torch.Generator().manual_seed(0)
    layers = []
    for shape in SHAPES:
        sizes = torch.logspace(-1.5, 0, shape[0], dtype=dtype).view(-1, 1, 1, 1)
        layers.append(sizes * torch.randn(shape, generator=generator, dtype=dtype))
    return [layer.requires_grad_() for layer in layers]


def reference(layer, a):
    """Return Eq. 3's value and gradient of a layer; delta is a constant."""
    filters = layer.detach().numpy().reshape(len(layer), -1)
    norms = np.sqrt((filters**2).sum(1))
    delta = a * norms.mean()
    gradient = np.where((norms < delta)[:, None], filters / norms[:, None], 0.0)
    return np.minimum(norms, delta).sum(), gradient.reshape(layer.shape)


@pytest.mark.parametrize("a", [0.3, 0.75, 1.0, 1.5, 4.0])
def test_value_and_gradient_are_those_of_equation_3(a):
    layers = weights()
    value = clipped_lasso(layers, a)
    value.backward()
    expected = [reference(layer, a) for layer in layers]
    assert value.item() == pytest.approx(sum(value for value, _ in expected), rel=1e-12)
    for layer, (_, gradient) in zip(layers, expected, strict=True):
        np.testing.assert_allclose(layer.grad.numpy(), gradient, rtol=1e-12, atol=0)


@pytest.mark.parametrize("a", [0.3, 1.0, 1.5])
def test_filters_at_or_above_the_threshold_have_no_gradient_at_all(a):
    for layer in weights(torch.float32):
        clipped_lasso([layer], a).backward()
        norms = filter_norms(layer.detach())
        above = norms >= a * norms.mean()
        assert above.any()
        assert not layer.grad[above].any()
        assert layer.grad[~above].flatten(1).any(dim=1).all()


def test_a_filter_exactly_at_the_threshold_has_no_gradient():
    layer = torch.zeros(4, 1, 1, 1)
    layer[:, 0, 0, 0] = torch.tensor([1.0, 2.0, 4.0, 1.0])  # mean 2, and a = 1
    layer.requires_grad_()
    clipped_lasso([layer], 1.0).backward()
    assert layer.grad.flatten().tolist() == [1.0, 0.0, 0.0, 1.0]


def test_an_infinite_threshold_is_group_lasso():
    one, other = weights(), weights()
    clipped, group = clipped_lasso(one, 1e9), group_lasso(other)
    assert clipped.item() == group.item()
    clipped.backward()
    group.backward()
    for first, second in zip(one, other, strict=True):
        assert torch.equal(first.grad, second.grad)


def shrunk(layer, amount, a, zero_below=0.0):
    layer = layer.detach().clone()
    return layer, shrink(layer, filter_norms(layer) > 0, amount, a, zero_below)


def test_a_step_is_the_proximal_operator():
    layer = weights()[1].detach()
    amount = 0.4
    found, alive = shrunk(layer, amount, None)
    norms = filter_norms(layer)
    assert torch.equal(alive, norms > amount)
    assert 0 < alive.sum() < len(alive)

    def objective(point):
        return amount * filter_norms(point).sum() + 0.5 * (point - layer).square().sum()

    generator = torch.Generator().manual_seed(1)
    for size in (1e-4, 1e-2, 1.0):
        for _ in range(20):
            step = size * torch.randn(layer.shape, generator=generator, dtype=layer.dtype)
            assert objective(found + step) > objective(found)


def test_a_step_leaves_filters_at_or_above_the_threshold_alone():
    layer = weights()[1].detach()
    found, alive = shrunk(layer, 0.1, 0.75)
    norms = filter_norms(layer)
    spared = norms >= 0.75 * norms.mean()
    assert torch.equal(found[spared], layer[spared])
    assert alive[spared].all()
    assert (filter_norms(found)[~spared] <= (norms[~spared] - 0.1).clamp(min=0) + 1e-12).all()


def test_a_step_zeroes_what_falls_below_a_share_of_the_mean():
    layer = weights()[1].detach()
    norms = filter_norms(layer)
    _, alive = shrunk(layer, 0.0, None, zero_below=0.2)
    assert torch.equal(alive, norms > 0.2 * norms.mean())
    assert 0 < alive.sum() < len(alive)


def test_a_layer_never_loses_its_last_filter():
    layer = weights()[0].detach()
    found, alive = shrunk(layer, 1e6, None)
    assert alive.all()
    assert torch.equal(found, layer)


def test_zero_filters_stay_zero_and_take_all_of_their_channel_along():
    generator = torch.Generator().manual_seed(0)
    conv, shift, shortcut = nn.Conv2d(3, 4, 3), torch.ones(4), torch.ones(4, 3, 1, 1)
    with torch.no_grad():
        conv.weight[1] = 0.0
        conv.weight[2] *= 1e-6
    config = Config(lambda_=0.01, a=1.0, momentum=0.9)
    shrinking = Shrinking([[conv.weight, shift, shortcut]], config)
    optimizer = torch.optim.SGD(conv.parameters(), lr=0.1)
    for _ in range(3):
        conv(torch.randn(2, 3, 8, 8, generator=generator)).square().mean().backward()
        optimizer.step()
        assert filter_norms(conv.weight.detach())[1] > 0  # the gradient revives it
        shrinking.step(lr=0.1)
        assert (filter_norms(conv.weight.detach()) > 0).tolist() == [True, False, False, True]
        assert shift.tolist() == shortcut[:, 0, 0, 0].tolist() == [1.0, 0.0, 0.0, 1.0]


def test_a_step_takes_as_much_as_the_penalty_does_under_momentum():
    """A lone penalty's gradient moves a filter by lr lambda / (1 - momentum) a step, in the end."""
    config = Config(penalty="group", lambda_=0.01, momentum=0.9)
    pulled, stepped = (nn.Parameter(torch.full((1, 1, 1, 1), 10.0)) for _ in range(2))
    optimizer = torch.optim.SGD([pulled], lr=0.1, momentum=config.momentum)
    shrinking = Shrinking([[stepped]], config)
    for _ in range(400):
        before = pulled.item(), stepped.item()
        optimizer.zero_grad()
        (config.lambda_ * group_lasso([pulled])).backward()
        optimizer.step()
        shrinking.step(lr=0.1)
    taken = before[0] - pulled.item(), before[1] - stepped.item()
    assert taken[0] == pytest.approx(taken[1], rel=1e-3)
