from collections import Counter

import pytest
import torch

from cost_models.latency_table import MissingBlockError
from search_spaces.gpunet import block_of
from tests.workers.methods.tiny import SPACE, TABLE, tiny_space, tiny_table
from workers.methods.prunet.config import Config
from workers.methods.prunet.layer import Mix, Skip
from workers.methods.prunet.prunode import Masks
from workers.methods.prunet.supernet import Supernet, first_structure


def make(**settings) -> Supernet:
    torch.manual_seed(0)
    return Supernet(SPACE, Config(**settings), TABLE)


def layer_of(supernet: Supernet, name: str, probabilities: list[float]):
    layer = supernet.layers[name]
    for branch, probability in zip(layer, probabilities, strict=True):
        branch.theta.data = torch.tensor(probability).log()
    return layer


def test_layers_start_with_their_kinds_at_equal_odds():
    supernet = make()
    assert list(supernet.layers["stage1_layer0"].branches) == ["k3", "k5"]
    assert list(supernet.layers["stage3_layer1"].branches) == ["k3", "k3_se", "k5", "k5_se"]
    assert supernet.layers["stage3_layer1"].probabilities() == pytest.approx([0.25] * 4)
    assert next(iter(supernet.layers["stage3_layer1"])).theta.item() == 0.25
    assert (supernet.num_blocks(), supernet.num_layers()) == (22, 6)


def test_gumbel_coefficients_are_a_softmax_whose_winners_follow_the_probabilities():
    supernet = make(temperature=0.5)
    layer = layer_of(supernet, "stage3_layer1", [0.1, 0.2, 0.3, 0.4])
    next(iter(layer)).weight.data.fill_(1.0)  # odds of the large width: sigmoid(1) = 0.731
    generator = torch.Generator().manual_seed(0)
    index = list(supernet.layers).index("stage3_layer1")
    mixes = [supernet.draw(generator)[index] for _ in range(1500)]
    assert all(mix.branches_N.sum().item() == pytest.approx(1, abs=1e-5) for mix in mixes)
    winners = Counter(mix.branches_N.argmax().item() for mix in mixes)
    # Gumbel-max: the largest of theta + g is i with probability softmax(theta)_i, here +- 4 sigma.
    assert [winners[i] / 1500 for i in range(4)] == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.05)
    large = sum(mix.large_N[0].item() > 0.5 for mix in mixes) / 1500
    assert large == pytest.approx(0.731, abs=0.05)


def test_same_generator_same_draw():
    supernet = make()
    first, again = (supernet.draw(torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(a.branches_N, b.branches_N) for a, b in zip(first, again, strict=True))


def test_expected_latency_is_the_tables_for_a_certain_choice():
    supernet = make()
    certain = [Mix(_one_hot(len(layer), 0), torch.zeros(len(layer))) for layer in supernet]
    smallest = {layer.spec.name: dict(next(iter(layer)).options()[0]) for layer in supernet}
    expected = 1000 * TABLE.network_ms(SPACE.blocks(smallest))
    assert supernet.expected_us(certain).item() == pytest.approx(expected, rel=1e-5)


def test_expected_latency_mixes_blocks_and_widths_and_reaches_the_weights():
    supernet = make()
    mixes = supernet.draw(torch.Generator().manual_seed(0))
    by_hand = TABLE.overhead_us + sum(
        TABLE.latency_us(block.key) for block in (SPACE.stem_block, SPACE.head_block)
    )
    for layer, mix in zip(supernet, mixes, strict=True):
        for branch, a, large in zip(layer, mix.branches_N, mix.large_N, strict=True):
            small_us, large_us = (
                TABLE.latency_us(block_of(layer.spec, option).key) for option in branch.options()
            )
            by_hand += a.item() * ((1 - large.item()) * small_us + large.item() * large_us)
    latency_us = supernet.expected_us(mixes)
    assert latency_us.item() == pytest.approx(by_hand, rel=1e-5)
    latency_us.backward()
    node = next(iter(supernet.layers["stage3_layer1"]))
    assert node.weight.grad > 0  # a wider block is slower


def test_pruning_removes_the_least_likely_first_and_renormalises():
    layer = layer_of(make(layer_skipping="off"), "stage3_layer1", [0.1, 0.2, 0.3, 0.4])
    # 0.1 and 0.2 are below 0.25; without 0.1 the second has 0.2 / 0.9 = 0.222 and goes as well.
    layer.prune(0.25, last=False)
    assert layer.probabilities() == pytest.approx([3 / 7, 4 / 7])
    layer = layer_of(make(layer_skipping="off"), "stage3_layer1", [0.1, 0.2, 0.3, 0.4])
    layer.prune(0.21, last=False)  # 0.222 stays
    assert len(layer) == 3
    layer.prune(0.99, last=False)  # the last one always stays
    assert list(layer.branches) == ["k5_se"]


def test_a_skip_replaces_the_penultimate_block_and_is_corrected_until_one_wins():
    supernet = make(phi=1.1, lambda_=0.5)
    layer = layer_of(supernet, "stage3_layer1", [0.1, 0.1, 0.1, 0.7])
    layer.prune(0.51, last=False)
    assert list(layer.branches) == ["k5_se", "skip"]
    assert layer.probabilities() == [0.5, 0.5]
    x = torch.randn(4, *layer.spec.in_shape)
    mix = Mix(torch.tensor([0.25, 0.75]), torch.tensor([0.5, 0.5]))
    block, _ = layer
    expected = 0.5 * 0.25 * block(x, mix.large_N[0]) + 1.1 * 0.75 * x
    torch.testing.assert_close(layer(x, mix), expected)

    block.theta.data += 1
    layer.prune(0.51, last=False)
    assert list(layer.branches) == ["k5_se"]  # and no second skip comes
    layer.prune(0.55, last=False)
    assert not any(isinstance(branch, Skip) for branch in layer)
    torch.testing.assert_close(layer(x, mix), block(x, mix.large_N[0]))


def test_a_winning_skip_removes_the_layer():
    supernet = make()
    layer = layer_of(supernet, "stage3_layer1", [0.1, 0.1, 0.1, 0.7])
    layer.prune(0.3, last=False)
    layer.branches["skip"].theta.data += 1
    layer.prune(0.51, last=False)
    assert list(layer.branches) == ["skip"]
    assert supernet.num_layers() == 5
    x = torch.randn(2, *layer.spec.in_shape)
    assert torch.equal(layer(x, Mix(torch.ones(1), torch.ones(1))), x)


def test_no_skip_where_shapes_change_nor_at_the_end_nor_if_switched_off():
    for settings, name, last in (
        ({}, "stage3_layer0", False),
        ({}, "stage3_layer1", True),
        ({"layer_skipping": "off"}, "stage3_layer1", False),
    ):
        layer = layer_of(make(**settings), name, [0.1, 0.1, 0.1, 0.7])
        layer.prune(0.51, last=last)
        assert list(layer.branches) == ["k5_se"]


def test_skips_from_the_start_are_not_corrected():
    layer = make(layer_skipping="from_start").layers["stage1_layer0"]
    assert list(layer.branches) == ["k3", "k5", "skip"]
    layer.collapse()
    assert list(layer.branches) == ["k3"]  # the first one of a tie
    x = torch.randn(2, *layer.spec.in_shape)
    supernet = make(layer_skipping="from_start", phi=9.0, lambda_=9.0)
    layer = supernet.layers["stage1_layer0"]
    torch.testing.assert_close(layer(x, Mix(_one_hot(3, 2), torch.ones(3))), x)


def test_widths_are_blocks_without_prunodes():
    config = Config(prunode=False, num_widths=2, block_pruning=False)
    options = [branch["option"] for branch in first_structure(SPACE, config)["stage3_layer1"]]
    assert len(options) == 8
    assert {option["hidden"] for option in options} == {64, 128}
    every = Config(prunode=False, block_pruning=False)
    assert len(first_structure(SPACE, every)["stage3_layer1"]) == 4 * 16


def test_the_network_inherits_prefixes():
    supernet = make()
    for layer in supernet:
        layer.collapse()
        for node in layer.prunodes:
            node.masks = Masks(8, 16)
            node.weight.data.fill_(1.0)
    supernet.train()
    x = torch.randn(8, 1, 8, 8)
    mixes = [Mix(torch.ones(1), torch.ones(1)) for _ in supernet]  # all of the large width
    supernet(x, mixes)  # moves the running statistics
    network = supernet.inherited().eval()
    assert supernet.architecture()["stage3_layer1"] == {
        "kernel_size": 3,
        "se": False,
        "hidden": 16,
    }
    torch.testing.assert_close(network(x), supernet.eval()(x, mixes))


def test_half_precision_changes_little():
    supernet = make()
    x = torch.randn(16, 1, 8, 8)
    mixes = supernet.draw(torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        half = supernet(x, mixes)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), supernet(x, mixes), rtol=0.1, atol=0.05)


def test_an_impossible_latency_is_refused():
    with pytest.raises(ValueError, match=r"the fastest network takes .* above 1 us"):
        Supernet(SPACE, Config(), tiny_table(SPACE, scale=1e-3))


def test_a_missing_block_is_named():
    table = tiny_table(tiny_space(max_expand_ratio=2))
    with pytest.raises(MissingBlockError, match=r"block 'fused_irb-.*' is missing"):
        Supernet(SPACE, Config(), table)


def test_a_threshold_that_removes_everything_at_once_is_refused():
    with pytest.raises(ValueError, match=r"threshold_initial: 0.3 .* up to 1/4"):
        make(threshold_initial=0.3)
    make(threshold_initial=0.3, block_pruning=False)


def test_the_first_threshold_is_the_papers_unless_layers_have_more_blocks():
    assert Config().first_threshold(make().most_blocks) == 0.15
    most = make(prunode=False).most_blocks
    assert most > 6
    assert Config().first_threshold(most) == 1 / most


def _one_hot(size: int, index: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(index), size).float()
