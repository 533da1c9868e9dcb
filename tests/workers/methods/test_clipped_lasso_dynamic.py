"""A dynamic network computes what its subnets compute alone, on real slices, and switches fast."""

import copy
import gc
import itertools
import time
import tracemalloc

import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from cost_models.macs import macs
from search_spaces.base import sample
from tests.workers.methods.tiny_resnet import SPACE, thin_space
from workers.methods.clipped_lasso import any_width as any_width_module
from workers.methods.clipped_lasso.any_width import (
    AnyWidthNetwork,
    between,
    even_ratios,
    sandwich_losses,
)
from workers.methods.clipped_lasso.dynamic import DynamicNetwork
from workers.methods.clipped_lasso.fused import fused_losses
from workers.protocol import seeded

SUBNETS = [*(sample(SPACE, seeded(index)) for index in range(3)), SPACE.presets["full"]]


def images(count=6, seed=0):
    return torch.randn(count, *SPACE.in_shape, generator=torch.Generator().manual_seed(seed))


def labels(count=6):
    return torch.arange(count) % SPACE.num_classes


def dynamic(space=SPACE, subnets=SUBNETS):
    torch.manual_seed(0)
    return DynamicNetwork(space, subnets)


def alone(network, index):
    built = network.space.build(network.architectures[index])
    built.load_state_dict(network.standalone(index))
    return built


@pytest.mark.parametrize("shortcut", ["conv1x1", "identity"])
def test_every_subnet_computes_what_it_computes_alone(shortcut):
    space = thin_space(shortcut=shortcut)
    network = dynamic(space, [sample(space, seeded(i)) for i in range(3)]).eval()
    for index in range(3):
        network.set_subnet(index)
        expected = alone(network, index).eval()(images())
        torch.testing.assert_close(network(images()), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("index", range(len(SUBNETS)))
def test_a_subnet_does_its_own_share_of_the_work(index):
    network = dynamic().eval()
    network.set_subnet(index)
    with FlopCounterMode(display=False) as counter:
        network(images(1))
    assert counter.get_total_flops() == 2 * macs(SPACE.layers(SUBNETS[index]))


def test_gradients_of_a_fused_step_are_the_sum_of_the_subnets_gradients():
    network = dynamic().double()
    for loss in fused_losses(network, images().double(), labels()):
        loss.backward()
    expected = {n: torch.zeros_like(p) for n, p in network.shared.named_parameters()}
    for index in range(len(SUBNETS)):
        single = alone(network, index).double()
        functional.cross_entropy(single(images().double()), labels()).backward()
        for name, parameter in single.named_parameters():
            if name in expected:
                place = tuple(slice(size) for size in parameter.shape)
                expected[name][place] += parameter.grad
            else:
                own = network.subnets[index].get_parameter(name)
                torch.testing.assert_close(own.grad, parameter.grad, rtol=1e-5, atol=1e-7)
    for name, parameter in network.shared.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-5, atol=1e-7)


def test_batch_norms_are_a_subnets_own():
    network = dynamic().train()
    before = copy.deepcopy(network.state_dict())
    network.set_subnet(1)
    network(images())
    changed = {n for n, t in network.state_dict().items() if not torch.equal(t, before[n])}
    assert changed
    assert all(name.startswith("subnets.1.") for name in changed)


def test_a_copy_is_independent():
    network = dynamic().eval()
    duplicate = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in duplicate.parameters():
            parameter.zero_()
    assert network(images()).any()
    assert not duplicate(images()).any()


def test_switching_is_quick_and_leaks_nothing():
    network = dynamic().eval()

    def switch(times):
        for step in range(times):
            network.set_subnet(step % len(SUBNETS))

    switch(100)
    gc.collect()
    tracemalloc.start()
    started = time.process_time()
    switch(10_000)
    took_s = time.process_time() - started
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 10_000  # bytes: less than one for each switch
    assert took_s / 10_000 < 100e-6


def test_a_subnet_that_is_not_there_is_refused():
    network = DynamicNetwork(SPACE, SUBNETS[:2], ratios=[0.0, 1.0])
    for wrong in (2, -1, None, "0", 0.3):
        message = (
            rf"subnet: {wrong!r} is not there; allowed: a number from 0 to 1, or a ratio of \["
        )
        with pytest.raises(ValueError, match=message):
            network.set_subnet(wrong)


def test_subnets_are_set_by_number_or_by_ratio():
    network = DynamicNetwork(SPACE, SUBNETS[:2], ratios=[1 / 3, 1.0]).eval()
    for number, ratio in enumerate((0.333333, 1.0)):
        network.set_subnet(number)
        expected = network(images())
        network.set_subnet(1 - number)
        network.set_subnet(ratio)
        assert torch.equal(network(images()), expected)


def test_networks_without_subnets_or_with_other_ratios_are_refused():
    for architectures, ratios in (([], []), (SUBNETS[:2], [0.5])):
        with pytest.raises(ValueError, match=r"subnets: . with . ratios are no network"):
            DynamicNetwork(SPACE, architectures, ratios)


def test_ratios_lead_from_the_narrowest_network_to_the_full_one():
    narrowest, full = SUBNETS[0], SPACE.presets["full"]
    assert between(SPACE, narrowest, 0.0) == narrowest
    assert between(SPACE, narrowest, 1.0) == full
    nets = [between(SPACE, narrowest, ratio) for ratio in even_ratios(9)]
    for less, more in itertools.pairwise(nets):
        assert all(less[name] <= more[name] for name in less)
    for name, middle in between(SPACE, narrowest, 0.5).items():
        assert abs(middle - (narrowest[name] + full[name]) / 2) <= 0.5
    with pytest.raises(ValueError, match=r"ratio: 1\.5 is outside \[0, 1\]"):
        between(SPACE, narrowest, 1.5)


def test_uniform_widths_stay_uniform_in_between():
    space = thin_space(width_mult=1.0)
    assert between(space, space.uniform(0.25), 1 / 3) == space.uniform(0.5)


def test_one_ratio_leads_nowhere():
    assert even_ratios(2) == [0.0, 1.0]
    with pytest.raises(ValueError, match=r"count: 1 ratios do not reach .* allowed: 2 or above"):
        even_ratios(1)


def any_width():
    torch.manual_seed(0)
    return AnyWidthNetwork(SPACE, SUBNETS[0], even_ratios(5))


def test_every_width_is_the_leading_part_of_the_full_network():
    network = any_width().eval()
    for index, ratio in enumerate(network.ratios):
        torch.testing.assert_close(network(images(), ratio), alone(network, index).eval()(images()))
    torch.testing.assert_close(network(images()), network.full.eval()(images()))


def test_the_full_network_has_no_widths_below_it():
    with pytest.raises(ValueError, match="widths: any lie between the full network and a narrower"):
        AnyWidthNetwork(SPACE, SPACE.presets["full"], even_ratios(5))


def test_networks_of_few_widths_are_kept(monkeypatch):
    monkeypatch.setattr(any_width_module, "MOST_KEPT", 3)
    network, kept = any_width().eval(), []
    for ratio in even_ratios(7):
        network(images(), ratio)
        kept.append(len(network._skeletons))
    assert kept == [1, 2, 3, 3, 3, 3, 3]
    torch.testing.assert_close(network(images(), 0.0), alone(network, 0).eval()(images()))


def test_the_sandwich_is_the_full_network_then_others_that_learn_from_it():
    network = any_width()
    x, y = images(), labels()
    losses = list(sandwich_losses(network, x, y, torch.Generator().manual_seed(3)))
    assert len(losses) == 4
    logits = network(x)
    torch.testing.assert_close(losses[0], functional.cross_entropy(logits, y))
    taught = logits.detach().softmax(1)
    narrow = functional.cross_entropy(network(x, 0.0), taught)
    torch.testing.assert_close(losses[1], narrow)
    draws = torch.rand(2, generator=torch.Generator().manual_seed(3)).tolist()
    for loss, ratio in zip(losses[2:], draws, strict=True):
        torch.testing.assert_close(loss, functional.cross_entropy(network(x, ratio), taught))


def test_in_place_distillation_does_not_train_the_teacher():
    network = any_width()
    _, narrow, *_ = sandwich_losses(network, images(), labels(), torch.Generator())
    narrow.backward()
    for name, parameter in network.full.named_parameters():
        width = SUBNETS[0].get(name.split(".")[0])
        if width is not None and "conv" in name.split(".")[1]:
            assert not parameter.grad[width:].any()
