import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from search_spaces.gpunet import InvertedResidual
from tests.workers.methods.tiny import tiny_space
from workers.methods.prunet.prunode import Masks, Prunode, first_masks, two_passes, updated

SPECS = {spec.name: spec for spec in tiny_space(max_expand_ratio=6).specs if spec.max_hidden}


def test_algorithm_1_follows_a_trajectory_computed_by_hand():
    masks = first_masks(128, 16)
    assert masks == Masks(small=64, large=128, s=0.5, update=0.0)

    # distance 0.6; s = 0.5 + 0.1, capped at 1 - 0.8 * 0.6 = 0.52; l = 1.12.
    masks, weight = updated(masks, 0.1, progress=0.0, max_channels=128, granularity=16)
    assert (masks.small, masks.large, weight) == (64, 128, 0.0)  # 66.56 and 143.36 channels
    assert (masks.s, masks.update) == pytest.approx((0.52, 0.1))

    # update = 0.4 * 0.1 - 0.2; distance 0.6 * 0.5^2; s = 0.36, l = 0.51.
    masks, weight = updated(masks, -0.2, progress=0.5, max_channels=128, granularity=16)
    assert (masks.small, masks.large, weight) == (48, 64, 0.0)  # 46.08 and 65.28 channels
    assert (masks.s, masks.update) == pytest.approx((0.36, -0.16))

    # One step apart: nothing moves any more, and the weight is learned on.
    after = updated(masks, 0.3, progress=0.6, max_channels=128, granularity=16)
    assert after == (masks, 0.3)


def test_the_corner_keeps_the_weight():
    masks = first_masks(256, 16)
    # s = 0.5 - 0.7 < 0: both masks at the lower end, the weight is not reset.
    masks, weight = updated(masks, -0.7, progress=0.0, max_channels=256, granularity=16)
    assert (masks.small, masks.large, masks.s, weight) == (16, 160, 0.0, -0.7)  # 0.6 * 256 = 153.6
    # update = 0.4 * -0.7 - 0.7; l = 0.15, 38.4 channels.
    masks, weight = updated(masks, weight, progress=0.5, max_channels=256, granularity=16)
    assert (masks.small, masks.large, weight) == (16, 32, -0.7)
    assert masks.update == pytest.approx(-0.98)


@given(
    weights=st.lists(st.floats(-3, 3), min_size=1, max_size=40),
    granularity=st.sampled_from([8, 16, 32]),
    steps=st.integers(2, 64),
)
def test_masks_stay_in_bounds_and_end_one_step_apart(weights, granularity, steps):
    widest = granularity * steps
    masks = first_masks(widest, granularity)
    for index, weight in enumerate(weights):
        progress = (index + 1) / len(weights)
        masks, _ = updated(
            masks, weight, progress=progress, max_channels=widest, granularity=granularity
        )
        assert granularity <= masks.small < masks.large <= widest
        assert masks.small % granularity == masks.large % granularity == 0
    assert masks.large - masks.small == granularity


def test_a_single_width_has_one_path():
    assert first_masks(16, 16) == Masks(16, 16)
    assert updated(Masks(16, 16), 0.4, progress=0.3, max_channels=16, granularity=16) == (
        Masks(16, 16),
        0.4,
    )


def test_the_likelier_width_is_chosen():
    node = _node("stage3_layer1", se=True, small=24, large=32)
    assert node.chosen() == {"kernel_size": 3, "se": True, "hidden": 24}
    node.weight.data.fill_(0.1)
    assert node.chosen()["hidden"] == 32
    node.update_masks(0.1, progress=0.5)
    assert node.weight.item() == pytest.approx(0.1)  # one step apart: no reset
    node.masks = Masks(24, 64)
    node.update_masks(0.1, progress=0.5)
    assert node.weight.item() == 0


CASES = pytest.mark.parametrize(
    ("layer", "se", "small", "large"),
    [
        ("stage2_layer0", False, 24, 48),
        ("stage2_layer0", True, 8, 40),
        ("stage2_layer1", True, 48, 96),
        ("stage3_layer0", False, 8, 16),
        ("stage3_layer1", False, 96, 192),
        ("stage3_layer1", True, 88, 96),
    ],
)


@CASES
def test_one_pass_equals_two(layer, se, small, large):
    fused = _node(layer, se=se, small=small, large=large)
    plain = copy.deepcopy(fused)
    results = []
    for node, evaluate in ((fused, fused), (plain, lambda x, p: two_passes(plain, x, p))):
        torch.manual_seed(0)
        x = torch.randn(8, *node.spec.in_shape, requires_grad=True)
        probability = torch.tensor(0.3, requires_grad=True)
        y = evaluate(x, probability)
        (y * torch.randn_like(y)).sum().backward()
        gradients = [parameter.grad for parameter in node.block.parameters()]
        results.append([y, x.grad, probability.grad, *gradients, *node.block.buffers()])
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


@CASES
def test_two_passes_mix_two_networks_of_their_own(layer, se, small, large):
    node = _node(layer, se=se, small=small, large=large)
    narrow, wide = (_cut(node, hidden) for hidden in (small, large))
    x = torch.randn(8, *node.spec.in_shape)
    expected = 0.7 * narrow(x) + 0.3 * wide(x)
    torch.testing.assert_close(two_passes(node, x, torch.tensor(0.3)), expected)


@CASES
def test_statistics_are_updated_once(layer, se, small, large):
    node = _node(layer, se=se, small=small, large=large)
    narrow, wide = (_cut(node, hidden) for hidden in (small, large))
    before = {name: value.clone() for name, value in node.block.named_buffers()}
    x = torch.randn(8, *node.spec.in_shape)
    for block in (node, narrow, wide):
        block(x, torch.tensor(0.3)) if block is node else block(x)
    after, small_stats, large_stats = (
        dict(block.named_buffers()) for block in (node.block, narrow, wide)
    )
    for name in ("expand.norm.running_mean", "expand.norm.running_var"):
        torch.testing.assert_close(after[name][:large], large_stats[name])
        assert torch.equal(after[name][large:], before[name][large:])
    for name in ("project.norm.running_mean", "project.norm.running_var"):
        torch.testing.assert_close(after[name], (small_stats[name] + large_stats[name]) / 2)


def _node(layer: str, *, se: bool, small: int, large: int) -> Prunode:
    torch.manual_seed(1)
    node = Prunode(SPECS[layer], 3, se, Masks(small, large))
    for parameter in node.block.parameters():
        nn.init.normal_(parameter, std=0.3)
    return node


def _cut(node: Prunode, hidden: int) -> InvertedResidual:
    block = InvertedResidual(node.spec, node.kind["kernel_size"], node.kind["se"], hidden)
    for name, tensor in block.state_dict().items():
        wide = node.block.state_dict()[name]
        tensor.copy_(wide[tuple(slice(size) for size in tensor.shape)])
    return block
