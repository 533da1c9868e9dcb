"""Drawing architectures edge by edge, and the gradient that is estimated from such draws.

The graph of the gradient's tests has four edges: two from the stem to a middle node, one from there
to the last node, and one past it. Shapes: E edges, B samples.
"""

import itertools

import pytest
import torch

from search_spaces import SPACES
from search_spaces.fabric import (
    Edge,
    Fabric,
    Node,
    classifier_layers,
    conv_norm_layers,
    stem_layers,
)
from workers.draws import cut
from workers.methods.budgeted.edges import Draw, Wiring
from workers.methods.budgeted.reinforce import advantages

SHAPE = (2, 4, 4)
LOGITS_E = torch.tensor([0.4, -0.8, 1.2, -0.3])
# Of every set of edges, by its bits; those without a path first.
LOSSES = torch.tensor([2.3] * 5 + [1.1, 0.9, 0.6, 1.7, 1.6, 1.8, 1.5, 1.7, 0.8, 0.7, 0.2])


def four_edges() -> Fabric:
    def conv(name: str, source: str) -> tuple:
        return conv_norm_layers(name, source, SHAPE, SHAPE[0])

    return Fabric(
        stem=stem_layers((1, 4, 4), SHAPE[0]),
        nodes=[Node("stem", SHAPE), Node("middle", SHAPE), Node("last", SHAPE)],
        edges=[
            Edge("one", "stem", "middle", conv("one", "stem")),
            Edge("two", "stem", "middle", conv("two", "stem")),
            Edge("on", "middle", "last", conv("on", "middle")),
            Edge("past", "stem", "last", conv("past", "stem")),
        ],
        head=classifier_layers("last", SHAPE, 2),
    )


WIRING = Wiring(four_edges())


def fabric(name: str, **options) -> Fabric:
    space = SPACES[name]
    return space(space.Config(**options)).fabric


FABRICS = [
    fabric("resnet_fabric", depth=14, filters=2, in_shape=(1, 8, 8), num_classes=2),
    fabric("conv_fabric", columns=3, scales=3, filters=2, in_shape=(1, 8, 8), num_classes=2),
    fabric("conv_fabric", columns=3, scales=3, filters=2, in_shape=(1, 8, 8), head="segmentation"),
]
every_fabric = pytest.mark.parametrize("graph", FABRICS, ids=["resnet", "conv", "segmentation"])


def drawn(graph: Fabric, size: int = 200, seed: int = 0) -> tuple[Wiring, Draw]:
    wiring, draws = Wiring(graph), torch.Generator().manual_seed(seed)
    logits_E = torch.randn(len(graph.edges), generator=draws)
    return wiring, wiring.draw(logits_E, torch.rand(len(logits_E), size, generator=draws))


@every_fabric
def test_edges_are_offered_where_their_source_is_connected(graph):
    _, draw = drawn(graph)
    assert not draw.on_EB[~draw.offered_EB].any()
    for sample in range(draw.on_EB.shape[1]):
        reached = {graph.nodes[0].name}
        for edge, offered, on in zip(
            graph.edges, draw.offered_EB[:, sample], draw.on_EB[:, sample], strict=True
        ):
            assert offered == (edge.source in reached)
            if on:
                reached.add(edge.target)


@every_fabric
def test_drawn_edges_are_pruned_as_the_space_prunes(graph):
    wiring, draw = drawn(graph)
    kept_EB = wiring.pruned(draw.on_EB)
    for on_E, kept_E in zip(draw.on_EB.T, kept_EB.T, strict=True):
        assert wiring.architecture(kept_E) == graph.canonical(wiring.architecture(on_E))
    assert 0 < kept_EB.any(0).sum() <= kept_EB.shape[1]


@every_fabric
def test_drawable_edges_are_those_of_the_full_network(graph):
    wiring = Wiring(graph)
    everything_E = torch.ones(len(graph.edges), dtype=torch.bool)
    assert wiring.drawable(everything_E).all()
    first_E = torch.tensor([edge.source != graph.nodes[0].name for edge in graph.edges])
    assert not wiring.drawable(first_E)[first_E].any()  # nothing leads to them
    assert wiring.drawable(first_E)[~first_E].any()


def test_edges_are_on_as_often_as_their_probability_says():
    uniform_EB = torch.rand(4, 100_000, generator=torch.Generator().manual_seed(0))
    draw = WIRING.draw(LOGITS_E, uniform_EB)
    for edge in range(4):
        offered_B = draw.offered_EB[edge]
        share = draw.on_EB[edge][offered_B].double().mean()
        assert share == pytest.approx(LOGITS_E[edge].sigmoid().item(), abs=0.01)


def test_log_probabilities_leave_out_what_was_not_offered():
    on_EB = torch.tensor([[False, True], [False, False], [False, True], [True, False]])
    offered_EB = torch.tensor([[True, True], [True, True], [False, True], [True, True]])
    p = LOGITS_E.sigmoid()
    expected = torch.stack(
        [
            (1 - p[0]) * (1 - p[1]) * p[3],
            p[0] * (1 - p[1]) * p[2] * (1 - p[3]),
        ]
    ).log()
    torch.testing.assert_close(Draw(offered_EB, on_EB).log_prob_B(LOGITS_E), expected)


def test_the_best_path_costs_least():
    names = WIRING.names
    assert WIRING.best_path([1.0, 2.0, 1.0, 3.0]) == {"one": True, "on": True}
    assert WIRING.best_path([2.0, 1.5, 1.0, 3.0]) == {"two": True, "on": True}
    assert WIRING.best_path([2.0, 2.0, 2.0, 3.0]) == {names[3]: True}


def losses_of(on_EB: torch.Tensor) -> torch.Tensor:
    bits = 2 ** torch.arange(4)[:, None]
    return LOSSES[(on_EB * bits).sum(0)]


def exact_gradient() -> torch.Tensor:
    """That of the expected loss over all 16 outcomes of four independent edges.

    Edge `on` counts for nothing where neither edge leads to its source.
    """
    logits_E = LOGITS_E.double().requires_grad_()
    expected = torch.zeros((), dtype=torch.float64)
    for outcome in itertools.product((False, True), repeat=4):
        on_E = torch.tensor(outcome)
        probability = torch.where(on_E, logits_E.sigmoid(), 1 - logits_E.sigmoid()).prod()
        seen_E = torch.tensor([*outcome[:2], outcome[2] and any(outcome[:2]), outcome[3]])
        expected = expected + probability * losses_of(seen_E[:, None])[0]
    (gradient_E,) = torch.autograd.grad(expected, logits_E)
    return gradient_E


def estimated(size: int, seed: int, *, baseline: bool) -> torch.Tensor:
    uniform_EB = torch.rand(4, size, generator=torch.Generator().manual_seed(seed))
    logits_E = LOGITS_E.clone().requires_grad_()
    draw = WIRING.draw(logits_E, uniform_EB)
    objective_B = losses_of(draw.on_EB)
    weight_B = advantages(objective_B, cut(size, 0, 1)) if baseline else objective_B
    (gradient_E,) = torch.autograd.grad((weight_B * draw.log_prob_B(logits_E)).mean(), logits_E)
    return gradient_E.double()


@pytest.mark.parametrize("baseline", [True, False], ids=["baseline", "plain"])
@pytest.mark.parametrize("samples", [500_000, pytest.param(5_000_000, marks=pytest.mark.slow)])
def test_the_estimated_gradient_is_the_exact_one(samples, baseline):
    parts = [estimated(100_000, seed, baseline=baseline) for seed in range(samples // 100_000)]
    exact_E = exact_gradient()
    error = (torch.stack(parts).mean(0) - exact_E).norm() / exact_E.norm()
    print(f"relative error of {samples:,} samples: {error:.2%}")
    assert error < 0.05


def test_the_baseline_lowers_the_variance_and_keeps_the_mean():
    variances = {}
    for baseline in (True, False):
        gradients = torch.stack([estimated(4, seed, baseline=baseline) for seed in range(500)])
        variances[baseline] = gradients.var(0).sum()
        error = (gradients.mean(0) - exact_gradient()).norm()
        assert error < 3 * (variances[baseline] / len(gradients)).sqrt()
    print(f"variance with and without baseline: {variances[True]:.3f}, {variances[False]:.3f}")
    assert variances[True] < 0.5 * variances[False]


def test_advantages_leave_the_sample_itself_out():
    objective_B = torch.tensor([1.0, 2.0, 6.0])
    torch.testing.assert_close(
        advantages(objective_B, cut(3, 0, 1)), torch.tensor([-3.0, -1.5, 4.5])
    )
    assert advantages(torch.tensor([5.0]), cut(1, 0, 1)).tolist() == [5.0]
