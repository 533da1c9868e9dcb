import dataclasses
import io
import itertools
import math

import pytest
import torch
from torch.nn import functional

from cost_models.macs import macs
from cost_models.params import num_params
from search_spaces import SPACES
from tests.workers.methods.tiny_subnets import SMALL, subnet_config, subnet_problem
from workers.augment import Augmentation
from workers.evaluation import evaluate
from workers.inputs import network_input
from workers.methods.reds import METHOD
from workers.methods.reds.joint_training import JointTraining, loss_shares
from workers.methods.reds.search import prepared, pretrain, search
from workers.methods.reds.units import axes_of, norms_of, sliced
from workers.training import Recipe

CONFIG = subnet_config()
SLICED = {"keyword_nets", "slimmable_resnet", "torch_module"}
MEASURED = ("epoch_s", "solve_s", "switch_us")


@pytest.fixture(scope="module")
def start():
    *_, last = pretrain(subnet_problem(), CONFIG, None)
    return stored(last.state())


def stored(state):
    """What comes back from a checkpoint."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)


def equal(one, two) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        keys = set(one) - set(MEASURED)
        return keys == set(two) - set(MEASURED) and all(equal(one[key], two[key]) for key in keys)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(equal, one, two))
    return one == two


def joint(start, config=CONFIG, seed=0):
    problem = subnet_problem(seed, start)
    return JointTraining(problem, config, prepared(problem, config))


def tensors(run):
    return {name: tensor.clone() for name, tensor in run.network.state_dict().items()}


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def norm_names(run):
    norms = {id(parameter) for parameter in norms_of(run.network)}
    return {name for name, tensor in run.network.named_parameters() if id(tensor) in norms}


def test_pretraining_resumes_and_leaves_the_full_network(start):
    first = next(pretrain(subnet_problem(), CONFIG, None))
    (second,) = pretrain(subnet_problem(), CONFIG, stored(first.state()))
    assert (second.step, second.steps, second.candidates) == (2, 2, ())
    assert equal(stored(second.state()), start)


def test_subnets_are_found_within_each_other_and_their_shares(start):
    subnets = joint(start).subnets
    space = subnet_problem().space
    costs = [macs(space.layers(subnet["widths"])) for subnet in subnets]
    for share, cost in zip((0.25, 0.5, 0.75, 1), costs, strict=True):
        assert cost <= share * costs[-1]
    assert costs == sorted(costs)
    assert subnets[-1]["widths"] == space.presets["full"]
    for small, large in itertools.pairwise(subnets):
        assert all(small["widths"][name] <= large["widths"][name] for name in small["widths"])
        assert small["metrics"]["gap"] == 0


def test_units_are_in_order_and_the_network_is_that_of_pretraining(start):
    problem = subnet_problem(start=start)
    run = joint(start)
    network = problem.space.build(problem.space.presets["full"])
    network.load_state_dict(start["model"])
    assert changed(start["model"], tensors(run))
    for split in (problem.data.val, problem.data.train):
        before, after = (evaluate(net, split, problem.data) for net in (network, run.network))
        assert before.loss == pytest.approx(after.loss, rel=1e-4)


def test_the_loss_is_the_weighted_sum_over_stand_alone_subnets(start):
    run = joint(start)
    data, space = run.problem.data, run.problem.space
    samples, labels = data.train.batch(torch.arange(32))
    x = network_input(samples, data)
    params = [num_params(space.layers(subnet["widths"])) for subnet in run.subnets]
    roots = [math.sqrt(count / params[-1]) for count in params]
    losses = [
        functional.cross_entropy(run.standalone(index).eval()(x), labels).item()
        for index in range(len(run.subnets))
    ]
    expected = sum(root * loss for root, loss in zip(roots, losses, strict=True)) / sum(roots)
    run.network.eval()
    for shell in run._shells:
        shell.eval()
    assert run._step(x, labels, 1e-9).item() == pytest.approx(expected, rel=1e-4)


def test_gradients_of_all_subnets_meet_in_the_shared_tensors(start):
    """A stand-alone subnet's gradient is that of the leading slice."""
    config = subnet_config(fractions=(0.3,))
    run = joint(start, config)
    data, widths = run.problem.data, run.subnets[0]["widths"]
    samples, labels = data.train.batch(torch.arange(32))
    x = network_input(samples, data)
    shares = loss_shares(run.problem.space, [subnet["widths"] for subnet in run.subnets])
    alone = [run.standalone(index).eval() for index in (0, 1)]
    for share, network in zip(shares, alone, strict=True):
        (share * functional.cross_entropy(network(x), labels)).backward()
    small, full = (dict(network.named_parameters()) for network in alone)
    for name, parameter in run.network.named_parameters():
        expected = full[name].grad.clone()
        inside = sliced({name: expected}, axes_of(run.problem.space), widths)[name]
        inside += small[name].grad
        parameter.expected = expected
    run.network.eval()
    run._shells[0].eval()
    run.optimizer.step = lambda: None
    run.optimizer.zero_grad = lambda: None
    run._step(x, labels, 1e-3)
    for name, parameter in run.network.named_parameters():
        if name in norm_names(run):
            assert parameter.grad is None
        else:
            torch.testing.assert_close(parameter.grad, parameter.expected, rtol=1e-3, atol=1e-6)


def test_batch_norms_stay_until_they_are_trained_alone(start):
    run = joint(start)
    first = tensors(run)
    run.train_epoch()
    second = tensors(run)
    weights = set(dict(run.network.named_parameters())) - norm_names(run)
    assert changed(first, second) == weights
    run.train_epoch()
    third = tensors(run)
    run.train_epoch()
    assert run.epoch == CONFIG.epochs + CONFIG.norm_epochs
    assert changed(third, tensors(run)) == norm_names(run)
    assert run.metrics["lr"] == CONFIG.norm_lr


def test_batch_norms_can_train_along(start):
    run = joint(start, subnet_config(train_norms=True))
    first = tensors(run)
    run.train_epoch()
    assert changed(first, tensors(run)) == set(first)  # running statistics, too
    run.train_epoch()
    third = tensors(run)
    run.train_epoch()
    assert changed(third, tensors(run)) == norm_names(run)


def test_from_scratch_only_the_widths_are_those_of_pretraining(start):
    tuned, fresh = joint(start), joint(start, subnet_config(from_scratch=True))
    assert equal(tuned.subnets, fresh.subnets)
    assert fresh.network.state_dict()["conv1.norm.running_mean"].eq(0).all()
    assert not torch.equal(tensors(tuned)["conv1.conv.weight"], tensors(fresh)["conv1.conv.weight"])
    other = joint(start, subnet_config(from_scratch=True), seed=1)
    assert not torch.equal(tensors(other)["conv1.conv.weight"], tensors(fresh)["conv1.conv.weight"])


def test_learning_rates_change_at_their_shares_of_the_epochs():
    config = subnet_config(lrs=(3.0, 2.0, 1.0), lr_changes=(0.36, 0.72))
    assert [config.learning_rate(at) for at in (0, 0.35, 0.36, 0.71, 0.72, 0.99)] == [
        3.0,
        3.0,
        2.0,
        2.0,
        1.0,
        1.0,
    ]


def test_a_search_resumes_to_the_bit_from_any_epoch(start):
    problem = subnet_problem(seed=5, start=start)
    states = []
    for last in search(problem, CONFIG, None):
        states.append(stored(last.state()))
    assert [state["epoch"] for state in states] == [1, 2, 3]
    for state in states:
        *_, resumed = search(problem, CONFIG, state)
        assert equal(stored(resumed.state()), states[-1])
        for one, two in zip(resumed.candidates, last.candidates, strict=True):
            assert one.architecture == two.architecture
            assert equal(dict(one.metrics), dict(two.metrics))
            assert equal(dict(one.weights), dict(two.weights))


def test_searches_share_a_start_and_leave_it_as_it_is(start):
    before = stored(start)
    list(search(subnet_problem(start=start), CONFIG, None))
    assert equal(start, before)


def test_candidates_are_the_subnets_smallest_first(start):
    problem = subnet_problem(start=start)
    *_, last = search(problem, CONFIG, None)
    axes, full = axes_of(problem.space), last.candidates[-1].weights
    for share, candidate in zip(CONFIG.shares, last.candidates, strict=True):
        assert candidate.metrics["fraction"] == share
        network = problem.space.build(candidate.architecture)
        network.load_state_dict(dict(candidate.weights))
        evaluation = evaluate(network, problem.data.val, problem.data)
        assert evaluation.accuracy == candidate.metrics["val_accuracy"]
        assert evaluation.accuracy == last.metrics[f"val_accuracy_{100 * share:g}"]
        assert torch.equal(evaluation.predictions_N, candidate.predictions["val"])
        assert candidate.metrics["switch_us"] > 0
        inside = sliced(full, axes, candidate.architecture)
        assert equal(inside, dict(candidate.weights))


def test_training_helps_every_subnet(start):
    run = joint(start, subnet_config(epochs=8))
    data = run.problem.data

    def losses():
        return [evaluate(run.standalone(index), data.val, data).loss for index in range(4)]

    before = losses()
    for _ in range(8):
        run.train_epoch()
    assert all(after < loss for after, loss in zip(losses(), before, strict=True))
    assert run.metrics["val_accuracy_100"] > 0.5  # chance: 0.25


@pytest.mark.parametrize("solver", ["bu", "td"])
def test_a_memory_limit_and_other_fractions_are_kept(start, solver):
    config = subnet_config(solver=solver, fractions=(0.2, 0.9), peak_memory_bytes=6000)
    run = joint(start, config)
    assert [subnet["metrics"]["fraction"] for subnet in run.subnets] == [0.2, 0.9, 1.0]


def check(config=CONFIG, points=(), **options):
    points = [dataclasses.replace(config, **point) for point in points]
    METHOD.check(subnet_problem(**options).space, config, points, "macs")


def test_a_sweep_may_differ_in_all_but_pretraining():
    check(points=[{"solver": "td"}, {"num_subnets": 10, "min_units": 1}, {"from_scratch": True}])
    other = Recipe(epochs=9)
    with pytest.raises(ValueError, match="pretraining: a point has its own"):
        check(points=[{"pretraining": other}])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": ("conv9",)}, "keep: 'conv9' is no layer; allowed: .*'conv1'"),
        (
            {"min_units": 60},
            r"num_subnets: 4 asks for 0.25 of \d+ MACs, .* min_units 60 .*; lower .* share is 1$",
        ),
        (
            {"fractions": (0.001,)},
            r"fractions: \(0.001,\) asks for 0.001 of .* smallest feasible share is 0\.0\d+",
        ),
        ({"fractions": (0.001,), "linear_cost": True}, r"asks for 0.001 of \d+ linear costs, "),
        ({"peak_memory_bytes": 10}, r"peak_memory_bytes: 10 is infeasible; .* is \d+"),
    ],
)
def test_studies_that_reds_cannot_search_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        check(subnet_config(**settings))


@pytest.mark.parametrize("name", sorted(SPACES.keys() - SLICED))
def test_spaces_without_free_widths_are_refused(name):
    with pytest.raises(ValueError, match=rf"space: reds slices layers .*; {name} has none"):
        METHOD.check(SPACES[name](), CONFIG, [], "macs")


def test_networks_that_reds_cannot_train_are_refused():
    with pytest.raises(ValueError, match="norm_epochs: 1, but the network has no batch norms"):
        check(model="dnn")
    check(subnet_config(norm_epochs=0), model="dnn")


def test_the_smallest_feasible_fraction_is_feasible():
    with pytest.raises(ValueError, match="infeasible") as error:
        check(subnet_config(fractions=(0.001,)))
    check(subnet_config(fractions=(float(str(error.value).split()[-1]),)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_subnets": 1}, "num_subnets: 1 is not allowed; allowed: 2 or above"),
        ({"fractions": (0.5, 0.25)}, r"fractions: \(0.5, 0.25\) is not allowed; .* increasing"),
        ({"fractions": ()}, "fractions: .* is not allowed"),
        ({"fractions": (0.5,), "num_subnets": 10}, "num_subnets: 10 .* num_subnets and fractions"),
        ({"fractions": (0.5, 1.5)}, "fractions: .* up to 1"),
        ({"lrs": ()}, "lrs: .* is not allowed"),
        ({"lrs": (0.1,)}, r"lr_changes: \(0.54,\) is not allowed; allowed: 0, increasing"),
        ({"lr_changes": (1.2,)}, "lr_changes: .* between 0 and 1"),
        ({"min_units": 0}, "min_units: 0 is not allowed"),
        ({"batch_size": 1}, "batch_size: 1 is not allowed"),
        ({"peak_memory_bytes": 0}, "peak_memory_bytes: 0 is not allowed"),
        ({"pretraining": Recipe(inherited_epochs=1)}, "pretraining.inherited_epochs: "),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        subnet_config(**settings)


def test_the_full_network_is_always_among_the_subnets():
    assert subnet_config(fractions=(0.5,)).shares == (0.5, 1.0)
    assert subnet_config(fractions=(0.5, 1.0)).shares == (0.5, 1.0)
    assert subnet_config(num_subnets=4).shares == (0.25, 0.5, 0.75, 1.0)


def test_a_search_refuses_what_it_cannot_start_from(start):
    with pytest.raises(ValueError, match=r"start: .* needs the state that its pretraining leaves"):
        next(search(subnet_problem(), CONFIG, None))
    with pytest.raises(ValueError, match="start: it was pretrained with another space"):
        next(search(subnet_problem(start=start, model="dnn"), CONFIG, None))
    longer = dataclasses.replace(SMALL["pretraining"], epochs=3)
    with pytest.raises(ValueError, match=r"pretraining.epochs: 3; but 2 were trained"):
        next(search(subnet_problem(start=start), subnet_config(pretraining=longer), None))


def test_a_diverging_training_says_so(start):
    with pytest.raises(FloatingPointError, match="epoch 1: the loss is"):
        list(search(subnet_problem(start=start), subnet_config(lrs=(1e30,), lr_changes=()), None))


def test_training_images_are_augmented_as_in_pretraining(start):
    recipe = dataclasses.replace(SMALL["pretraining"], augment=Augmentation(pad=2))
    plain, moved = joint(start), joint(start, subnet_config(pretraining=recipe))
    for run in (plain, moved):
        run.train_epoch()
    assert plain.metrics["train_loss"] != moved.metrics["train_loss"]
