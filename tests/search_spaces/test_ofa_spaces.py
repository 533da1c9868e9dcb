"""What both Once-for-all spaces promise beyond the contract of all spaces."""

import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from cost_models.macs import macs
from cost_models.onnx_export import checked_onnx
from cost_models.params import num_params
from search_spaces import SPACES
from search_spaces.base import (
    Architecture,
    SearchSpace,
    crossover,
    digest,
    mutate,
    option_of,
    sample,
)
from search_spaces.elastic.encoding import entries, lists
from search_spaces.ofa_mobilenet_v3 import PRESETS as MOBILENETS
from search_spaces.ofa_resnet50 import PRESETS as RESNETS
from search_spaces.ofa_resnet50.presets import Stage

SMALL = {"ofa_mobilenet_v3": "mbv3_28", "ofa_resnet50": "resnet_28"}
REDUCED_MOBILENET = replace(
    MOBILENETS["mbv3_28"],
    stages=MOBILENETS["mbv3_28"].stages[1:],
    resolutions=(8, 12),
    depths=(1, 2),
    expand_ratios=(3, 6),
    kernel_sizes=(3, 7),
)
REDUCED_RESNET = replace(
    RESNETS["resnet_28"],
    stages=(Stage(64, 1, 1), Stage(128, 1, 2)),
    resolutions=(8,),
    extra_depths=(0, 1),
    expand_ratios=(0.25, 0.5),
    width_mults=(0.5, 1.0),
)
SPACE_OF = dict.fromkeys(MOBILENETS, "ofa_mobilenet_v3") | dict.fromkeys(RESNETS, "ofa_resnet50")
PAPER = ("paper_w1.0", "paper_w1.2", "paper")


def space_of(name: str, **options: Any) -> SearchSpace:
    return SPACES[name](SPACES[name].Config(**options))


@pytest.fixture(params=SMALL)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def space(name: str) -> SearchSpace:
    return space_of(name, preset=SMALL[name])


def drawn(space: SearchSpace, count: int, seed: int = 0) -> Iterator[Architecture]:
    rng = random.Random(seed)
    return (sample(space, rng) for _ in range(count))


def shapes(space: SearchSpace, architecture: Architecture) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        state = space.build(architecture).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("preset", "count"),
    [
        *((preset, 20 if preset in ("paper_w1.0", "paper") else 3) for preset in SPACE_OF),
        *(pytest.param(preset, 1000, marks=pytest.mark.slow) for preset in PAPER),
    ],
)
def test_macs_are_those_of_the_module(preset: str, count: int) -> None:
    space = space_of(SPACE_OF[preset], preset=preset)
    for architecture in drawn(space, count, seed=count):
        layers = space.layers(architecture)
        with torch.device("meta"), torch.inference_mode():
            network = space.build(architecture).eval()
            with FlopCounterMode(display=False) as counter:
                network(torch.empty(1, *space.in_shape))
        assert 2 * macs(layers) == counter.get_total_flops()
        assert num_params(layers) == sum(p.numel() for p in network.parameters())


def test_lists_and_choices_are_two_forms_of_one_architecture(space) -> None:
    for architecture in drawn(space, 10):
        flat = entries(architecture)
        assert list(flat) == [choice.name for choice in space.choices]
        assert lists(flat) == architecture
        some_flat = {**flat, "d": architecture["d"]}
        for index in range(len(architecture["d"])):
            del some_flat[f"d.{index}"]
        for form in (flat, some_flat, json.loads(json.dumps(architecture))):
            assert space.canonical(form) == architecture


def test_what_inactive_entries_are_given_does_not_matter(space) -> None:
    architecture = space.presets["min"]
    inactive = [name for name, option in entries(architecture).items() if option is None]
    assert inactive
    offered = {choice.name: choice.options for choice in space.choices}
    digests = set()
    for position in (0, -1):
        given = entries(architecture) | {name: offered[name][position] for name in inactive}
        digests |= {digest(space, given), digest(space, lists(given))}
    assert digests == {digest(space, architecture)}


def test_active_entries_matter(space) -> None:
    architecture = entries(space.presets["max"])
    assert None not in architecture.values()
    for choice in space.choices:
        changed = architecture | {choice.name: choice.options[0]}
        assert digest(space, changed) != digest(space, architecture)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("r"), "choice 'r' is missing"),
        (lambda a: a["e"].pop(), r"choice 'e\.\d+' is missing"),
        (lambda a: a["d"].append(2), r"unknown choice 'd\.\d'; known: "),
        (lambda a: a["e"].__setitem__(0, 5), r"choice 'e\.0' is 5; allowed: "),
        (lambda a: a["e"].__setitem__(0, None), r"choice 'e\.0' is null; allowed: "),
        (lambda a: a["e"].__setitem__(-1, 5), r"choice 'e\.\d+' is 5; allowed: "),
        (lambda a: a["d"].__setitem__(1, [2]), r"choice 'd\.1' is \[2\]; allowed: "),
        (lambda a: a.update(r=21), "choice 'r' is 21; allowed: 20, 24, 28"),
        (lambda a: a.update(d=2), "unknown choice 'd'; known: "),
    ],
)
def test_malformed_architectures_are_refused(space, change, message) -> None:
    """The last entry of `e` is inactive in the smallest network, and checked all the same."""
    architecture = json.loads(json.dumps(space.presets["min"]))
    assert space.canonical(architecture) == space.presets["min"]
    change(architecture)
    for refuse in (space.canonical, space.layers, space.build, space.blocks):
        with pytest.raises(ValueError, match=message):
            refuse(architecture)


@pytest.mark.parametrize("value", [None, [], "max", 3])
def test_only_objects_are_architectures(space, value) -> None:
    with pytest.raises(ValueError, match="architecture: expected an object, got"):
        space.canonical(value)


def test_equal_options_become_the_same_json(space) -> None:
    architecture = space.presets["max"]
    loose = {**architecture, "r": 28.0, "d": [float(depth) for depth in architecture["d"]]}
    assert json.dumps(space.canonical(loose)) == json.dumps(architecture)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "mbv4"}, r"preset: 'mbv4' is unknown; allowed: \['"),
        ({"num_classes": 0}, "num_classes: 0 is not positive"),
        ({"in_shape": (3, 0, 8)}, "in_shape: .* has a dimension below 1"),
        ({"resolutions": ()}, r"resolutions: \[\]; allowed: one or more positive numbers"),
        ({"resolutions": (0, 8)}, r"resolutions: \[0, 8\]; allowed: "),
        ({"resolutions": (8, 8)}, r"resolutions: \[8, 8\]; allowed: .*, each once"),
    ],
)
def test_impossible_options_are_refused(name, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        SPACES[name].Config(**options)


def test_mutants_keep_what_is_not_redrawn(space) -> None:
    rng, parent = random.Random(4), space.presets["max"]
    changes = set()
    for _ in range(50):
        child = mutate(space, parent, rng, probability=0.0)
        kept = {name for name, option in entries(child).items() if option is not None}
        before = {name: option_of(parent, name) for name in kept}
        changes.add(sum(option_of(child, name) != before[name] for name in kept))
    assert changes == {0, 1}


def test_children_have_entries_of_either_parent(space) -> None:
    rng, parents = random.Random(5), (space.presets["max"], space.presets["min"])
    taken = {name: set() for name in entries(parents[0])}
    for _ in range(300):
        for name, option in entries(crossover(space, *parents, rng)).items():
            taken[name] |= {option}
    for choice in space.choices:
        from_parents = {option_of(parent, choice.name) for parent in parents}
        # What is inactive in the smallest is drawn anew where the child's depth makes it active.
        expected = {*choice.options, None} if None in from_parents else from_parents
        assert taken[choice.name] == expected


def test_max_is_the_largest_and_min_the_smallest(space) -> None:
    costs = [macs(space.layers(architecture)) for architecture in drawn(space, 50)]
    smallest, largest = (macs(space.layers(space.presets[key])) for key in ("min", "max"))
    assert smallest <= min(costs) < max(costs) <= largest


def test_all_tensors_lie_in_those_of_max(space) -> None:
    full = shapes(space, space.presets["max"])
    for architecture in drawn(space, 10):
        for tensor, shape in shapes(space, architecture).items():
            assert all(size <= most for size, most in zip(shape, full[tensor], strict=True))


def test_records_are_named_as_the_tensors_they_count(space) -> None:
    for architecture in [space.presets["max"], *drawn(space, 3)]:
        weights = {}
        for layer in space.layers(architecture):
            outputs, fan_in = layer.out_shape[0], layer.in_shape[0] // layer.groups
            if layer.kind == "conv":
                weights[f"{layer.name}.weight"] = (outputs, fan_in, *layer.kernel_size)
            if layer.kind == "linear":
                weights[f"{layer.name}.weight"] = (outputs, fan_in)
            if layer.kind == "norm":
                weights[f"{layer.name}.weight"] = (outputs,)
        held = shapes(space, architecture)
        assert weights == {key: held[key] for key in held if key.endswith(".weight")}


def test_images_of_another_size_are_resized(name) -> None:
    """To the resolution, and records count what is computed there."""
    space = space_of(name, preset=SMALL[name], in_shape=(1, 26, 30), resolutions=(20, 24))
    network = space.build({**space.presets["min"], "r": 24}).eval()
    images_BCHW = torch.randn(2, 1, 26, 30)
    smaller_BCHW = functional.interpolate(images_BCHW, (24, 24), mode="bilinear")
    with torch.inference_mode():
        assert torch.equal(network(images_BCHW), network[1:](smaller_BCHW))
    resize, conv, *_ = space.layers({**space.presets["min"], "r": 24})
    assert (resize.in_shape, resize.out_shape) == ((1, 26, 30), (1, 24, 24))
    assert (conv.inputs, conv.in_shape, conv.out_shape[1:]) == (("resize",), (1, 24, 24), (12, 12))


def test_images_of_the_resolution_are_not_resized(space) -> None:
    modules = {layer.module for layer in space.layers(space.presets["max"])}
    assert "resize" not in modules
    assert "resize" not in dict(space.build(space.presets["max"]).named_children())


def test_costs_rise_with_the_resolution(space) -> None:
    at = [macs(space.layers({**space.presets["max"], "r": r})) for r in (20, 24, 28)]
    assert at[0] < at[1] < at[2]


@pytest.mark.parametrize("in_shape", [(1, 9, 9), (3, 33, 31)])
def test_shape_and_classes_follow_the_data_set(name, in_shape) -> None:
    space = space_of(name, preset=SMALL[name], in_shape=in_shape, num_classes=7)
    network = space.build(sample(space, random.Random(0))).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, *in_shape)).shape == (2, 7)


def test_networks_become_onnx(space) -> None:
    for resolution in (24, 28):
        architecture = {**sample(space, random.Random(1)), "r": resolution}
        assert checked_onnx(space.build(architecture), space.in_shape)


def enumerated(space: SearchSpace) -> Iterator[Architecture]:
    names = [choice.name for choice in space.choices]
    for options in itertools.product(*(choice.options for choice in space.choices)):
        yield space.canonical(dict(zip(names, options, strict=True)))


@pytest.mark.parametrize(("name", "size"), [("ofa_mobilenet_v3", 800), ("ofa_resnet50", 1152)])
def test_size_equals_enumeration(name, size, monkeypatch) -> None:
    """Stages have 2^2 + 2^4 and 2^1 + 2^2 kinds; every architecture is another network."""
    monkeypatch.setitem(MOBILENETS, "reduced", REDUCED_MOBILENET)
    monkeypatch.setitem(RESNETS, "reduced", REDUCED_RESNET)
    space = space_of(name, preset="reduced")
    networks = {digest(space, network): space.layers(network) for network in enumerated(space)}
    assert space.size() == len(networks) == len(set(networks.values())) == size
