import dataclasses

import torch
from torch.nn import functional

from tests.workers.methods.tiny_subnets import subnet_problem
from workers.augment import Augmentation
from workers.inputs import network_input
from workers.methods.reds.importance import kernel_scores, taylor_scores, unit_scores
from workers.methods.reds.units import Axis, axes_of


def full_network(problem):
    torch.manual_seed(0)
    return problem.space.build(problem.space.presets["full"])


def scores_of(network, problem, num_batches, batch_size):
    return taylor_scores(
        network, problem, Augmentation(), num_batches=num_batches, batch_size=batch_size
    )


def test_scores_are_weights_times_gradients_with_batch_statistics():
    problem = subnet_problem()
    network, data = full_network(problem), problem.data
    scores = scores_of(network, problem, 1, 160)  # all images: their order does not matter
    samples, labels = data.train.batch(torch.arange(160))
    network.train()
    functional.cross_entropy(network(network_input(samples, data)), labels).backward()
    weights = {name: w for name, w in network.named_parameters() if w.ndim > 1}
    assert scores.keys() == weights.keys()  # neither biases nor batch norms
    for name, weight in weights.items():
        expected = (weight * weight.grad).abs()
        torch.testing.assert_close(scores[name], expected, rtol=1e-3, atol=1e-6)


def test_gradients_are_summed_with_their_signs():
    problem = subnet_problem(model="dnn")
    network = full_network(problem)
    one, two = (scores_of(network, problem, count, 160) for count in (1, 2))
    for name, score in one.items():  # the same images twice
        torch.testing.assert_close(two[name], 2 * score, rtol=1e-3, atol=1e-6)
    halves = scores_of(network, problem, 2, 80)
    name = "classifier.linear.weight"
    # |g1 + g2|, of two halves whose mean is the gradient of all.
    torch.testing.assert_close(halves[name], 2 * one[name], rtol=1e-3, atol=1e-6)


def test_the_network_stays_as_it_is():
    problem = subnet_problem()
    network = full_network(problem).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    scores_of(network, problem, 2, 32)
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())


def test_weights_that_are_not_used_score_0():
    problem = subnet_problem()
    network = full_network(problem)
    network.spare = torch.nn.Parameter(torch.ones(2, 3))
    assert torch.equal(scores_of(network, problem, 1, 32)["spare"], torch.zeros(2, 3))


def test_batches_follow_from_the_seed():
    problem = subnet_problem()
    network = full_network(problem)
    first, again, other = (
        scores_of(network, dataclasses.replace(problem, seed=seed), 2, 32) for seed in (0, 0, 1)
    )
    name = "conv1.conv.weight"
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])


def test_kernels_are_summed_by_unit_and_unit_before():
    score = torch.arange(2 * 6 * 5.0).view(2, 6, 5)
    own, read = Axis("b", 1), Axis("a", 3)
    kernels_UT = kernel_scores(score, (own, read, None))
    assert kernels_UT.shape == (2, 2)
    assert kernels_UT[1, 0] == score[1, :3].sum()
    assert torch.equal(kernel_scores(score, (own, None, None))[:, 0], score.double().sum((1, 2)))


def test_a_unit_is_worth_its_filter_and_its_depthwise_kernel():
    problem = subnet_problem(channel_multiple=1)
    space = problem.space
    ones = {
        n: torch.ones_like(w) for n, w in full_network(problem).named_parameters() if w.ndim > 1
    }
    found = unit_scores(ones, axes_of(space))
    assert set(found) == {choice.name for choice in space.choices}
    assert found["conv1"].unique().item() == 9 + 9  # its own kernel, and the next depthwise one
    assert found["separable1"].unique().item() == 64 + 9
    assert found["separable4"].unique().item() == 64


def test_what_a_head_reads_is_not_worth_anything_to_its_units():
    axes = {"w": (Axis("a", 1), None), "head": (None, Axis("a", 1))}
    scores = {"w": torch.ones(3, 2), "head": torch.full((4, 3), 7.0)}
    assert unit_scores(scores, axes)["a"].tolist() == [2, 2, 2]
