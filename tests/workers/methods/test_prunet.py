import dataclasses
import io
import math
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from tests.workers.methods.tiny import tiny_problem, tiny_space
from workers.augment import Augmentation
from workers.draws import cut
from workers.evaluation import evaluate
from workers.methods.prunet import METHOD, Config
from workers.methods.prunet.search import pretrain, search, select
from workers.methods.prunet.supernet_training import SupernetTraining
from workers.records import from_json

CONFIG = Config(
    alpha=0.1,
    warmup_epochs=2,
    epochs=4,
    batch_size=32,
    weight_lr=0.005,
    threshold_initial=0.2,
)


@pytest.fixture(scope="module")
def start():
    return stored(list(pretrain(tiny_problem(), CONFIG, None))[-1].state())


def stored(state):
    """What comes back from a checkpoint."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)


def equal(one, two) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[key], two[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(two) and all(map(equal, one, two))
    return one == two


def untimed(state):
    measured = ("step_ms", "rss_mb")
    metrics = {key: value for key, value in state["metrics"].items() if key not in measured}
    return {**state, "metrics": metrics}


def arch_names(run: SupernetTraining) -> set[str]:
    arch = {id(parameter) for parameter in run.supernet.arch_parameters()}
    return {name for name, tensor in run.supernet.named_parameters() if id(tensor) in arch}


def test_pretraining_leaves_the_architecture_alone(start):
    run = SupernetTraining(tiny_problem(), CONFIG, None)
    fresh = run.state()
    assert start["structure"] == fresh["structure"]
    kept = {n for n, value in fresh["supernet"].items() if torch.equal(value, start["supernet"][n])}
    parameters = {name for name, _ in run.supernet.named_parameters()}
    assert kept & parameters == arch_names(run)


def test_pretraining_resumes_to_the_bit(start):
    first = next(pretrain(tiny_problem(), CONFIG, None))
    (second,) = pretrain(tiny_problem(), CONFIG, stored(first.state()))
    assert (second.step, second.steps) == (2, 2)
    assert equal(untimed(second.state()), untimed(start))
    (again,) = pretrain(tiny_problem(), CONFIG, start)  # its last progress was lost
    assert (again.step, again.metrics) == (2, start["metrics"])


def test_a_search_resumes_to_the_bit_from_any_epoch(start):
    problem = tiny_problem(seed=5, start=start)
    states = []
    for last in search(problem, CONFIG, None):
        states.append(stored(last.state()))
    assert [state["epoch"] for state in states] == [3, 4, 5, 6]
    for done in (2, 4):
        *_, resumed = search(problem, CONFIG, states[done - 1])
        assert equal(untimed(resumed.state()), untimed(states[-1]))
        one, two = resumed.candidates[0], last.candidates[0]
        assert one.architecture == two.architecture
        assert one.metrics == two.metrics
        assert equal(dict(one.weights), dict(two.weights))
        assert equal(dict(one.predictions), dict(two.predictions))


def test_searches_share_a_start_and_leave_it_as_it_is(start):
    before = stored(start)
    found = []
    for _ in range(2):
        *_, last = search(tiny_problem(start=start), CONFIG, None)
        found.append(last.candidates[0])
    assert equal(start, before)
    assert found[0].metrics == found[1].metrics
    assert equal(dict(found[0].weights), dict(found[1].weights))


def test_the_supernet_shrinks_to_one_network(start):
    problem = tiny_problem(start=start)
    history = [progress.metrics for progress in search(problem, CONFIG, None)]
    assert history[-1]["num_blocks"] == history[-1]["num_layers"] <= 6
    assert history[-1]["num_params"] < history[0]["num_params"] <= start["metrics"]["num_params"]
    assert history[-1]["memory_mb"] < 0.7 * start["metrics"]["memory_mb"]
    assert history[-1]["mask_steps"] == 1
    assert [h["threshold"] for h in history] == pytest.approx([0.2875, 0.375, 0.4625, 0.55])
    expected = {"train_loss", "search_loss", "search_ce", "latency_ms", "step_ms", "memory_mb"}
    assert expected <= history[0].keys()
    assert all(math.isfinite(value) for h in history for value in h.values())


def test_the_loss_is_equation_2(start):
    problem = tiny_problem(start=start)
    fixed = dataclasses.replace(CONFIG, arch_lr=1e-9, alpha=0.7, beta=0.6)
    run = SupernetTraining(problem, fixed, start)
    run.train_both()
    # One architecture step an epoch here (32 of 160 images), so means are the step's own values.
    term = 0.7 * math.log(1000 * run.metrics["latency_ms"]) ** 0.6
    assert run.metrics["search_loss"] == pytest.approx(run.metrics["search_ce"] + term, rel=1e-5)


def test_the_candidate_is_a_network_that_works(start):
    problem = tiny_problem(start=start)
    *_, last = search(problem, CONFIG, None)
    (candidate,) = last.candidates
    network = problem.space.build(candidate.architecture)
    network.load_state_dict(dict(candidate.weights))
    evaluation = evaluate(network, problem.data.val, problem.data)
    assert evaluation.accuracy == candidate.metrics["val_accuracy"] > 0.5  # chance: 0.25
    assert torch.equal(evaluation.predictions_N, candidate.predictions["val"])
    metrics = candidate.metrics
    latency_ms = problem.cost(candidate.architecture)
    assert metrics["search_latency_ms"] == pytest.approx(latency_ms)
    term = CONFIG.alpha * math.log(1000 * latency_ms) ** CONFIG.beta
    assert metrics["search_loss"] == pytest.approx(metrics["search_ce"] + term)
    assert metrics["num_irb"] == sum("se" in (o or {}) for o in candidate.architecture.values())


def test_weights_and_architecture_never_see_the_same_images():
    problem = tiny_problem()
    problem.data.train.samples_N[:, 0, 0, 0] = torch.arange(160, dtype=torch.uint8)
    run = SupernetTraining(problem, CONFIG, None)
    parts = [set(part.samples_N[:, 0, 0, 0].tolist()) for part in (run.weight_part, run.arch_part)]
    assert [len(part) for part in parts] == [128, 32]
    assert parts[0].isdisjoint(parts[1])
    other = SupernetTraining(dataclasses.replace(problem, seed=9), CONFIG, None)
    assert torch.equal(other.arch_part.samples_N, run.arch_part.samples_N)


def test_steps_train_their_own_parameters_only(start):
    run = SupernetTraining(tiny_problem(), CONFIG, start)
    before = run.state()["supernet"]
    names = arch_names(run)
    images, labels = run.arch_part.batch(torch.arange(16))
    part = cut(16, 0, 1)
    run._arch_step(images, labels, part, 0, 5)
    after = run.state()["supernet"]
    parameters = [name for name, _ in run.supernet.named_parameters()]
    changed = {name for name in parameters if not torch.equal(before[name], after[name])}
    assert changed  # but for the weights that Algorithm 1 has set back to 0
    assert changed <= names
    run._weight_step(images, labels, part, 1, 5)
    final = run.state()["supernet"]
    assert all(torch.equal(final[name], after[name]) for name in names)
    assert not torch.equal(final["stem.conv.weight"], after["stem.conv.weight"])


def test_optimisers_forget_what_is_gone(start):
    run = SupernetTraining(tiny_problem(), CONFIG, start)
    run.train_both()
    for layer in run.supernet:
        layer.collapse()
    run.prune()
    for optimizer, parameters in (
        (run.weight_optimizer, run.supernet.weight_parameters()),
        (run.arch_optimizer, run.supernet.arch_parameters()),
    ):
        alive = {id(parameter) for parameter in parameters}
        assert {id(parameter) for parameter in optimizer.param_groups[0]["params"]} == alive
        assert {id(parameter) for parameter in optimizer.state} <= alive


def _sharded_search(rank: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    *_, first = pretrain(tiny_problem(), CONFIG, None)
    *_, last = search(tiny_problem(start=first.state()), CONFIG, None)
    torch.save(last.candidates[0].architecture, folder / f"architecture{rank}.pt")
    names = [name for name in last.state()["supernet"] if "running" not in name]
    torch.save([last.state()["supernet"][name] for name in names], folder / f"weights{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_ranks_stay_together(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_sharded_search, args=(port, tmp_path), nprocs=2)
    for name in ("architecture", "weights"):
        one, two = (torch.load(tmp_path / f"{name}{rank}.pt") for rank in range(2))
        assert equal(one, two)


@pytest.mark.parametrize(
    "switches",
    [
        {"prunode": False, "threshold_initial": None},
        {"prunode": False, "num_widths": 1},
        {"block_pruning": False},
        {"layer_skipping": "off"},
        {"layer_skipping": "from_start"},
    ],
    ids=str,
)
def test_every_ablation_finds_a_network(switches):
    config = dataclasses.replace(CONFIG, warmup_epochs=1, epochs=1, **switches)
    problem = tiny_problem()
    *_, first = pretrain(problem, config, None)
    problem = dataclasses.replace(problem, start=first.state())
    *_, last = search(problem, config, None)
    problem.space.canonical(last.candidates[0].architecture)


def test_latency_falls_as_alpha_rises(start):
    latencies = []
    for alpha in (0.0, 20.0):
        config = dataclasses.replace(CONFIG, alpha=alpha, arch_lr=0.5)
        *_, last = search(tiny_problem(start=start), config, None)
        latencies.append(last.candidates[0].metrics["search_latency_ms"])
    assert latencies[0] > 1.5 * latencies[1]


def test_select_takes_the_lowest_loss_of_each_alpha_and_seed():
    records = [
        {"alpha": 1.0, "lambda": 0.4, "phi": 1.1, "seed": 0, "search_loss": 2.0, "id": "a"},
        {"alpha": 1.0, "lambda": 0.8, "phi": 1.1, "seed": 0, "search_loss": 1.5, "id": "b"},
        {"alpha": 1.0, "lambda": 1.0, "phi": 1.0, "seed": 0, "search_loss": 1.7, "id": "c"},
        {"alpha": 1.0, "lambda": 0.4, "phi": 1.1, "seed": 1, "search_loss": 1.9, "id": "d"},
        {"alpha": 2.0, "lambda": 0.4, "phi": 1.1, "seed": 0, "search_loss": 3.0, "id": "e"},
    ]
    assert select(records) == [1, 3, 4]


def test_select_tells_mappings_apart():
    flips = ({"flip": True}, {"flip": False}, {"flip": True})
    losses = (2.0, 3.0, 1.0)
    records = [{"augment": a, "search_loss": loss} for a, loss in zip(flips, losses, strict=True)]
    assert select(records) == [1, 2]


def test_files_spell_lambda_without_the_underscore():
    config = from_json(Config, {"alpha": 0.5, "lambda": 0.4, "layer_skipping": "off"})
    assert (config.alpha, config.lambda_, config.layer_skipping) == (0.5, 0.4, "off")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lambda_": 0.0}, "lambda: 0.0 is not allowed; allowed: above 0"),
        ({"alpha": -1.0}, "alpha: -1.0 is not allowed; allowed: 0 or above"),
        ({"alpha": math.nan}, "alpha: nan is not a finite number"),
        ({"epochs": 0}, "epochs: 0 is not allowed; allowed: 1 or above"),
        ({"arch_fraction": 1.0}, "arch_fraction: 1.0 is not allowed"),
        ({"threshold_final": 0.4}, "threshold_final: 0.4 is not allowed; allowed: 0.5 to 1"),
        ({"num_widths": 0}, "num_widths: 0 is not allowed"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)


def check(points=(), config=CONFIG, space=None, cost="latency_ms"):
    points = [dataclasses.replace(config, **point) for point in points]
    METHOD.check(space or tiny_problem().space, config, points, cost)


def test_a_sweep_may_differ_in_what_the_search_alone_reads():
    check(
        [
            {"alpha": 2.0, "beta": 0.5, "lambda_": 0.4, "phi": 1.0, "arch_lr": 0.2},
            {"layer_skipping": "off", "threshold_initial": 0.1, "threshold_final": 0.6},
            {"block_pruning": False},
        ]
    )


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"warmup_epochs": 3}, "warmup_epochs: a point has 3, .* which has 2; allowed: 2"),
        ({"epochs": 5}, "epochs: a point has 5"),
        ({"weight_lr": 1.0}, "weight_lr: a point has 1.0"),
        ({"augment": Augmentation(flip=True)}, "augment: a point has"),
        ({"prunode": False}, "prunode: a point has False"),
        ({"layer_skipping": "from_start"}, "layer_skipping: a point has from_start"),
        ({"threshold_initial": 0.3}, "threshold_initial: 0.3 removes all .* up to 1/4"),
    ],
)
def test_a_sweep_that_one_pretraining_cannot_serve_is_refused(point, message):
    with pytest.raises(ValueError, match=message):
        check([{}, point])


def test_studies_that_prunet_cannot_search_are_refused():
    with pytest.raises(ValueError, match=r"cost: prunet .* macs is not allowed: use latency_ms"):
        check(cost="macs")
    with pytest.raises(ValueError, match=r"threshold_initial: 0.2 removes all"):
        check(config=dataclasses.replace(CONFIG, prunode=False))
    check(config=Config(prunode=False))
    other = SimpleNamespace(name="other")
    with pytest.raises(ValueError, match="space: prunet searches gpunet; other is not allowed"):
        check(space=other)


def test_a_search_refuses_what_it_cannot_start_from(start):
    with pytest.raises(ValueError, match=r"start: .* needs the state that its pretraining leaves"):
        next(search(tiny_problem(), CONFIG, None))
    wider = tiny_problem(start=start, space=tiny_space(max_expand_ratio=6))
    with pytest.raises(ValueError, match="start: it was pretrained with another space"):
        next(search(wider, CONFIG, None))
    longer = dataclasses.replace(CONFIG, warmup_epochs=3)
    with pytest.raises(ValueError, match="warmup_epochs: 3; but 2 were trained"):
        next(search(tiny_problem(start=start), longer, None))
    tableless = dataclasses.replace(tiny_problem(start=start), table=None)
    with pytest.raises(ValueError, match="latency: prunet needs a latency table"):
        next(search(tableless, CONFIG, None))


def test_a_diverging_search_says_so(start):
    wild = dataclasses.replace(CONFIG, weight_lr=1e30)
    with pytest.raises(FloatingPointError, match=r"epoch .*: the loss is"):
        list(search(tiny_problem(start=start), wild, None))
