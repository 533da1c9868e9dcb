"""A supernet computes what its stand-alone networks compute, for any space of Once-for-all."""

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from search_spaces import SPACES
from search_spaces.base import Architecture, sample
from search_spaces.elastic import ElasticSpace, Supernet
from search_spaces.elastic.encoding import entries
from search_spaces.elastic.layers import ElasticConv, ElasticNorm

PRESETS = {
    "mbv3_28": "ofa_mobilenet_v3",
    "resnet_28": "ofa_resnet50",
    "mbv3_32": "ofa_mobilenet_v3",
    "mbv3_64": "ofa_mobilenet_v3",
    "resnet_32": "ofa_resnet50",
    "resnet_64": "ofa_resnet50",
}
QUICK = ("mbv3_28", "resnet_28")
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def space_of(preset: str) -> Any:
    name = PRESETS[preset]
    return SPACES[name](SPACES[name].Config(preset=preset))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks as small as these are quicker with one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=QUICK)
def space(request: pytest.FixtureRequest) -> ElasticSpace:
    return space_of(request.param)


def seasoned(space: ElasticSpace) -> Supernet:
    """Return a supernet in which no tensor is as it was made, transforms and statistics neither."""
    torch.manual_seed(0)
    supernet = Supernet(space)
    with torch.no_grad():
        for name, tensor in supernet.state_dict().items():
            if name.endswith(("norm.weight", "running_var")):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point():
                scale = 0.2 if tensor.ndim < 3 else 1 / tensor[0].numel() ** 0.5
                tensor.add_(scale * torch.randn(tensor.shape))
    return supernet


def images(space: ElasticSpace, count: int = 4, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *space.in_shape, generator=generator)


def inherited(supernet: Supernet, architecture: Architecture) -> nn.Module:
    network = supernet.space.build(architecture)
    network.load_state_dict(supernet.extract(architecture))
    return network


def with_all(space: ElasticSpace, **options: Any) -> Architecture:
    """Return the largest network with these options in every entry of their lists."""
    largest = entries(space.presets["max"])
    return space.canonical({name: options.get(name[0], largest[name]) for name in largest})


def least(space: ElasticSpace) -> Any:
    """Return the smallest expand ratio."""
    return next(choice.options[0] for choice in space.choices if choice.name == "e.0")


@pytest.mark.parametrize(
    "preset",
    [*QUICK, *(pytest.param(p, marks=pytest.mark.slow) for p in PRESETS if p not in QUICK)],
)
def test_extracted_networks_compute_what_the_supernet_computes(preset: str) -> None:
    """In evaluation, in training, and in the statistics and gradients that training leaves."""
    space = space_of(preset)
    supernet, rng = seasoned(space), random.Random(0)
    x_BCHW = images(space)
    drawn = [sample(space, rng) for _ in range(3)]
    for architecture in [*space.presets.values(), *drawn]:
        network = inherited(supernet, architecture)
        supernet.set_active(architecture)
        for training in (False, True):
            found, expected = supernet.train(training)(x_BCHW), network.train(training)(x_BCHW)
            torch.testing.assert_close(found, expected, **CLOSE)
        torch.testing.assert_close(supernet.extract(architecture), dict(network.state_dict()))


def test_gradients_reach_the_weights_that_are_active(space) -> None:
    supernet = seasoned(space)
    architecture = space.presets["min"]
    supernet.set_active(architecture)
    supernet(images(space)).square().sum().backward()
    network = inherited(supernet, architecture).train()
    network(images(space)).square().sum().backward()
    reached = {name for name, weight in supernet.named_parameters() if weight.grad is not None}
    alone = dict(network.named_parameters())
    assert {name for name in reached if ".transforms." not in name} == alone.keys()
    for name, weight in alone.items():
        if "depthwise" not in name:  # their kernels are transformed ones
            leading = tuple(map(slice, weight.shape))
            gradient = supernet.get_parameter(name).grad.clone()
            torch.testing.assert_close(gradient[leading], weight.grad)
            gradient[leading] = 0
            assert not gradient.any()


def test_transforms_learn_where_kernels_are_small() -> None:
    space = space_of("mbv3_28")
    supernet = seasoned(space)
    for size, trained in ((7, set()), (5, {"7to5"}), (3, {"7to5", "5to3"})):
        supernet.zero_grad()
        supernet.set_active(with_all(space, k=size))
        supernet(images(space)).square().sum().backward()
        transforms = dict(supernet.stage2_block1.depthwise.conv.transforms.items())
        assert set(transforms) == {"7to5", "5to3"}
        assert {name for name, m in transforms.items() if m.grad is not None} == trained


def test_a_new_supernet_crops_kernels() -> None:
    space = space_of("mbv3_28")
    supernet = Supernet(space)
    full = supernet.state_dict()
    for size, margin in ((5, 1), (3, 2)):
        weights = supernet.extract(with_all(space, k=size))
        for name in (name for name in weights if name.endswith("depthwise.conv.weight")):
            if name.startswith("stage"):
                cropped = full[name][:, :, margin:-margin, margin:-margin]
                assert torch.equal(weights[name], cropped)


def test_kernels_are_transformed_in_steps() -> None:
    """A 3x3 kernel comes from the transformed 5x5 one, not from the 7x7 one."""
    space = space_of("mbv3_28")
    supernet = seasoned(space)
    name = "stage1_block0.depthwise.conv"
    conv: Any = supernet.get_submodule(name)
    to_5, to_3 = conv.transforms["7to5"], conv.transforms["5to3"]
    assert (to_5.shape, to_3.shape) == ((25, 25), (9, 9))
    extracted = supernet.extract(with_all(space, k=3))[f"{name}.weight"]
    for channel in (0, 1, conv.weight.shape[0] - 1):
        kernel_55 = (to_5 @ conv.weight[channel, 0, 1:-1, 1:-1].reshape(25)).reshape(5, 5)
        kernel_33 = (to_3 @ kernel_55[1:-1, 1:-1].reshape(9)).reshape(3, 3)
        torch.testing.assert_close(extracted[channel, 0], kernel_33)


def test_smaller_tensors_are_leading_slices(space) -> None:
    supernet = seasoned(space)
    full = supernet.state_dict()
    for name, tensor in supernet.extract(with_all(space, e=least(space))).items():
        if tensor.ndim and "depthwise" not in name:
            assert torch.equal(tensor, full[name][tuple(map(slice, tensor.shape))])


def test_pinned_networks_compute_the_same(space) -> None:
    """Their statistics can be computed anew."""
    supernet = seasoned(space)
    x_BCHW, architecture = images(space), sample(space, random.Random(2))
    network = inherited(supernet, architecture)
    supernet.set_active(architecture, pin=True)
    for training in (True, False):
        found, expected = supernet.train(training)(x_BCHW), network.train(training)(x_BCHW)
        torch.testing.assert_close(found, expected, **CLOSE)
    torch.testing.assert_close(supernet.extract(architecture), dict(network.state_dict()))


def test_the_next_architecture_is_not_pinned(space) -> None:
    supernet = seasoned(space).eval()
    supernet.set_active(space.presets["min"], pin=True)
    supernet.set_active(space.presets["min"])
    with torch.no_grad():
        for weight in supernet.parameters():
            weight.mul_(1.1)
    network = inherited(supernet, space.presets["min"]).eval()
    torch.testing.assert_close(supernet(images(space)), network(images(space)), **CLOSE)


def test_extracting_changes_nothing(space) -> None:
    supernet = seasoned(space).eval()
    x_BCHW = images(space)
    before = supernet(x_BCHW)
    weights = supernet.extract(space.presets["min"])
    for tensor in weights.values():
        assert tensor.is_contiguous()
        tensor.zero_()
    assert torch.equal(supernet(x_BCHW), before)


def test_copies_do_not_share_what_is_active(space) -> None:
    supernet = seasoned(space).eval()
    x_BCHW = images(space)
    before = supernet(x_BCHW)
    copied = copy.deepcopy(supernet)
    copied.set_active(space.presets["min"])
    assert torch.equal(supernet(x_BCHW), before)
    assert not torch.equal(copied(x_BCHW), before)


def test_what_does_not_exist_is_refused(space) -> None:
    supernet = Supernet(space)
    for refuse in (supernet.set_active, supernet.extract, lambda a: supernet.sort_channels([a])):
        with pytest.raises(ValueError, match="choice 'r' is 21; allowed: "):
            refuse({**space.presets["max"], "r": 21})


@pytest.mark.parametrize("momentum", [0.1, None])
def test_statistics_are_those_of_a_narrow_batch_norm(momentum) -> None:
    space = space_of("mbv3_28")
    supernet = seasoned(space)
    narrow = with_all(space, e=3)
    network = inherited(supernet, narrow)
    for module in (*supernet.modules(), *network.modules()):
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum
            module.reset_running_stats()
    supernet.set_active(narrow)
    for seed in range(3):
        supernet(images(space, seed=seed))
        network(images(space, seed=seed))
    torch.testing.assert_close(supernet.extract(narrow), dict(network.state_dict()))
    norm = supernet.get_submodule("stage1_block1.expand.norm")
    assert isinstance(norm, ElasticNorm)
    assert norm.running_mean[:48].all()
    assert not norm.running_mean[48:].any()


def ranked(supernet: Supernet) -> list[torch.Tensor]:
    """Return the importance of the hidden channels of every block that can be sorted."""
    readers = [
        part.get_parameter(f"{hidden.reader}.weight")
        for part in supernet.children()
        for hidden in getattr(part, "sortable", ())
    ]
    return [weight.detach().abs().sum((0, 2, 3)) for weight in readers]


def is_falling(norm_C: torch.Tensor) -> bool:
    return bool((norm_C.diff() <= 1e-5).all())


def test_sorting_leaves_the_largest_network_as_it_is(space) -> None:
    supernet = seasoned(space).eval()
    x_BCHW = images(space)
    assert not any(is_falling(norm_C) for norm_C in ranked(supernet))
    before, narrow = supernet(x_BCHW), inherited(supernet, with_all(space, e=least(space))).eval()
    supernet.sort_channels()
    torch.testing.assert_close(supernet(x_BCHW), before, **CLOSE)
    assert all(is_falling(norm_C) for norm_C in ranked(supernet))
    supernet.set_active(with_all(space, e=least(space)))
    assert (supernet(x_BCHW) - narrow(x_BCHW)).abs().max() > 1e-3


def test_sorting_moves_all_tensors_of_a_channel() -> None:
    """Channel c of the block computes what channel order[c] computed."""
    space = space_of("mbv3_28")
    supernet = seasoned(space)
    block: Any = supernet.stage3_block1
    before = copy.deepcopy(block.state_dict())
    norm_C = before["project.conv.weight"].abs().sum((0, 2, 3))
    order_C = norm_C.argsort(descending=True)
    supernet.sort_channels()
    after = block.state_dict()
    rows = ("expand.conv.weight", "expand.norm.bias", "depthwise.conv.weight", "se.expand.bias")
    for name in (*rows, "depthwise.norm.running_var"):
        assert torch.equal(after[name], before[name][order_C])
    assert torch.equal(after["project.conv.weight"], before["project.conv.weight"][:, order_C])
    squeezed_C = before["se.expand.weight"].abs().sum((0, 2, 3)).argsort(descending=True)
    reduced = before["se.reduce.weight"][squeezed_C][:, order_C]
    assert torch.equal(after["se.reduce.weight"], reduced)
    assert torch.equal(after["se.reduce.bias"], before["se.reduce.bias"][squeezed_C])


def test_sorting_leaves_trained_networks_as_they_are(space) -> None:
    """The second expand ratio is trained before the first: progressive shrinking, phase 2."""
    ratios = next(choice.options for choice in space.choices if choice.name == "e.0")
    trained = with_all(space, e=ratios[1])
    supernet = seasoned(space).eval()
    x_BCHW = images(space)
    whole = supernet(x_BCHW)
    before = inherited(supernet, trained).eval()(x_BCHW)
    unsorted = inherited(supernet, with_all(space, e=ratios[0])).eval()(x_BCHW)
    supernet.sort_channels([trained])
    torch.testing.assert_close(supernet(x_BCHW), whole, **CLOSE)
    supernet.set_active(trained)
    torch.testing.assert_close(supernet(x_BCHW), before, **CLOSE)
    supernet.set_active(with_all(space, e=ratios[0]))
    assert (supernet(x_BCHW) - unsorted).abs().max() > 1e-3


def test_networks_learn_together() -> None:
    """Training the smallest network moves the largest one, whose weights it shares."""
    space = space_of("mbv3_28")
    supernet = seasoned(space)
    before = supernet.eval()(images(space))
    supernet.set_active(space.presets["min"])
    optimizer = torch.optim.SGD(supernet.train().parameters(), lr=0.1)
    losses = []
    for _ in range(5):
        loss = functional.cross_entropy(supernet(images(space)), torch.arange(4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    supernet.set_active(space.presets["max"])
    assert not torch.allclose(supernet.eval()(images(space)), before)


def test_only_depthwise_kernels_shrink() -> None:
    supernet = Supernet(space_of("resnet_28"))
    convs = [module for module in supernet.modules() if isinstance(module, ElasticConv)]
    assert convs
    assert not any(conv.transforms for conv in convs)
