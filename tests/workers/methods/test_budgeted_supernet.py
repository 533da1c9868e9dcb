"""The super network: every sample of a batch sees the network of its own edges.

Shapes: B samples, C channels, H rows, W columns, E edges.
"""

import pytest
import torch

from search_spaces import SPACES
from workers.methods.budgeted.edges import Wiring
from workers.methods.budgeted.supernet import StochasticFabric

CASES = {
    "resnet": ("resnet_fabric", {"depth": 8, "filters": 4, "in_shape": (3, 8, 8)}),
    "conv": ("conv_fabric", {"columns": 3, "scales": 3, "filters": 4, "in_shape": (3, 8, 8)}),
    "segmentation": (
        "conv_fabric",
        {"columns": 3, "scales": 3, "filters": 4, "in_shape": (3, 8, 4), "head": "segmentation"},
    ),
}
BATCH = 24


@pytest.fixture(params=CASES)
def case(request):
    """A space, its super network with statistics of some images, images, and drawn edges."""
    name, options = CASES[request.param]
    space = SPACES[name](SPACES[name].Config(**options))
    draws = torch.Generator().manual_seed(3)
    torch.manual_seed(0)
    supernet = StochasticFabric(space.fabric, 3.0)
    x_BCHW = torch.randn(BATCH, *space.in_shape, generator=draws)
    supernet(x_BCHW)
    logits_E = torch.zeros_like(supernet.logits_E)
    wiring = Wiring(space.fabric)
    draw = wiring.draw(logits_E, torch.rand(len(logits_E), BATCH, generator=draws))
    return space, supernet, x_BCHW, wiring.pruned(draw.on_EB)


def test_a_sample_sees_the_network_of_its_own_edges(case):
    space, supernet, x_BCHW, kept_EB = case
    wiring, weights = Wiring(space.fabric), supernet.network.state_dict()
    outputs_B = supernet.eval()(x_BCHW, kept_EB)
    compared = 0
    for sample in range(BATCH):
        architecture = wiring.architecture(kept_EB[:, sample])
        if architecture:
            network = space.build(architecture).eval()
            network.load_state_dict({name: weights[name] for name in network.state_dict()})
            alone = network(x_BCHW[sample : sample + 1])[0]
            torch.testing.assert_close(outputs_B[sample], alone, atol=1e-5, rtol=0)
            compared += 1
    assert BATCH / 3 < compared < BATCH  # some have no path


def test_of_a_sample_without_a_path_the_head_sees_zeros(case):
    space, supernet, x_BCHW, kept_EB = case
    supernet.eval()
    zeros_BCHW = torch.zeros(1, *space.fabric.nodes[-1].shape)
    expected = supernet.network.head(zeros_BCHW)[0]
    pathless_B = ~kept_EB.any(0)
    for outputs_B in (
        supernet(x_BCHW, kept_EB)[pathless_B],
        supernet(x_BCHW, torch.zeros_like(kept_EB)),
    ):
        assert len(outputs_B)
        torch.testing.assert_close(outputs_B, expected.expand_as(outputs_B))


def test_with_every_edge_on_it_is_the_plain_network_to_the_bit(case):
    _, supernet, x_BCHW, kept_EB = case
    everything_EB = torch.ones_like(kept_EB)
    for module in (supernet.train(), supernet.eval()):
        plain = module(x_BCHW)
        assert torch.equal(module(x_BCHW, everything_EB), plain)
        assert torch.equal(module.network(x_BCHW), plain)


def test_no_sample_changes_what_another_one_sees(case):
    _, supernet, x_BCHW, kept_EB = case
    supernet.eval()
    order_B = torch.randperm(BATCH, generator=torch.Generator().manual_seed(1))
    shuffled = supernet(x_BCHW[order_B], kept_EB[:, order_B])
    torch.testing.assert_close(shuffled, supernet(x_BCHW, kept_EB)[order_B], atol=1e-5, rtol=0)


def test_edges_that_no_sample_has_are_not_computed(case):
    space, supernet, x_BCHW, kept_EB = case
    path_E = Wiring(space.fabric).best_path([1.0] * len(space.fabric.edges))
    on_E = torch.tensor([edge.name in path_E for edge in space.fabric.edges])
    called = []
    for edge in space.fabric.edges:
        module = getattr(supernet.network, edge.name)
        module.register_forward_hook(lambda *_, name=edge.name: called.append(name))
    supernet(x_BCHW, on_E[:, None].expand_as(kept_EB))
    assert called == list(path_E)
