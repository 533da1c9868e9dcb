import random

import pytest
import torch
import torch_pruning
import torchvision

from cost_models.onnx_export import checked_onnx
from search_spaces.base import sample
from search_spaces.torch_module import Config, TorchModule
from tests.contracts.test_spaces import agree

OWN = "tests.search_spaces.own_networks"


def space_of(name, in_shape=(3, 32, 32), **options) -> TorchModule:
    function = name if ":" in name else f"torchvision.models:{name}"
    return TorchModule(Config(function, in_shape=in_shape, num_classes=10, **options))


def widths(space):
    return {choice.name: choice.options[-1] for choice in space.choices}


def shapes(network):
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def test_channels_that_are_added_are_one_group():
    space = space_of("resnet18")
    residual = {"conv1": 64, "layer2.0.conv2": 128, "layer3.0.conv2": 256, "layer4.0.conv2": 512}
    hidden = {f"layer{i}.{j}.conv1": 32 * 2**i for i in range(1, 5) for j in (0, 1)}
    assert widths(space) == {**residual, **hidden}
    narrow = shapes(space.build({**space.presets["full"], "layer2.0.conv2": 24}))
    full = shapes(space.build(space.presets["full"]))
    changed = {name.rpartition(".")[0] for name in full if narrow[name] != full[name]}
    assert changed == {
        *(f"layer2.{j}.{part}" for j in (0, 1) for part in ("conv2", "bn2")),
        "layer2.0.downsample.0",
        "layer2.0.downsample.1",
        "layer2.1.conv1",
        "layer3.0.conv1",
        "layer3.0.downsample.0",
    }


def test_a_unit_of_a_grouped_convolution_is_one_of_its_groups():
    """RegNetX-400MF has groups of 16 channels everywhere."""
    space = space_of("regnet_x_400mf", channel_multiple=16)
    tied = {name: units for name, units in widths(space).items() if ".f.a." in name}
    assert sorted(set(tied.values())) == [2, 4, 10, 25]
    assert len(tied) == 1 + 2 + 7 + 12
    network = space.build({**space.presets["full"], "trunk_output.block4.block4-0.f.a.0": 3})
    conv = network.get_submodule("trunk_output.block4.block4-0.f.b.0")
    assert (conv.in_channels, conv.out_channels, conv.groups) == (48, 48, 3)


def test_units_may_have_more_outputs_than_inputs():
    space = space_of(f"{OWN}:Tied", (2, 7, 7), channel_multiple=1)
    assert widths(space) == {"stem": 4, "squeeze": 8}
    network = space.build({"stem": 3, "squeeze": 5})
    assert shapes(network) == {
        "stem.weight": (12, 2, 3, 3),
        **{f"norm.{n}": (12,) for n in ("weight", "bias", "running_mean", "running_var")},
        "norm.num_batches_tracked": (),
        "tied.weight": (18, 4, 3, 3),
        "tied.bias": (18,),
        "squeeze.weight": (5, 18, 1, 1),
        "squeeze.bias": (5,),
        "excite.weight": (18, 5, 1, 1),
        "excite.bias": (18,),
        "classifier.weight": (10, 162),  # 3 x 3 positions
        "classifier.bias": (10,),
    }
    for architecture in (space.presets["min"], {"stem": 3, "squeeze": 5}, space.presets["max"]):
        agree(space, architecture)


def test_options_reach_the_function():
    space = space_of(f"{OWN}:Tied", (2, 7, 7), options={"width": 8}, channel_multiple=1)
    assert widths(space) == {"stem": 2, "squeeze": 8}


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "vgg11_bn"])
def test_networks_are_those_that_torch_pruning_cuts(name):
    space = space_of(name, channel_multiple=16)
    architecture = sample(space, random.Random(1))
    make = getattr(torchvision.models, name)
    with torch.device("meta"):
        peer = make(num_classes=10).eval()
        graph = torch_pruning.DependencyGraph()
        graph.build_dependency(peer, torch.empty(1, 3, 32, 32))
    for group, width in architecture.items():
        layer = peer.get_submodule(group)
        pruner = graph.get_pruner_of_module(layer)
        if beyond := list(range(width, len(layer.weight))):
            graph.get_pruning_group(layer, pruner.prune_out_channels, beyond).prune()
    assert shapes(space.build(architecture)) == shapes(peer)


def test_new_weights_are_leading_slices_of_the_functions_own():
    space = space_of("mobilenet_v2")
    torch.manual_seed(3)
    full = torchvision.models.mobilenet_v2(num_classes=10).state_dict()
    torch.manual_seed(3)
    narrow = space.build(space.presets["min"]).state_dict()
    for name, tensor in narrow.items():
        assert torch.equal(tensor, full[name][tuple(slice(size) for size in tensor.shape)])


def test_a_space_draws_no_random_numbers():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    space_of(f"{OWN}:Tied", (2, 8, 8), options={"width": 12})
    assert torch.equal(torch.rand(1), expected)


def test_networks_and_blocks_become_onnx():
    space = space_of("resnet18", channel_multiple=32)
    architecture = sample(space, random.Random(2))
    assert checked_onnx(space.build(architecture), space.in_shape)
    for block in space.blocks(architecture)[:5]:
        assert checked_onnx(block.build(), block.in_shape)


def test_equal_layers_are_one_block():
    """Stem, 3 parts of the first two residual blocks, 5 of the others, the last sum, the head."""
    space = space_of("resnet18")
    keys = [block.key for block in space.blocks(space.presets["full"])]
    assert len(keys) == 20 + 8 + 1  # convolutions, sums, the classifier
    assert len(set(keys)) == 1 + 3 + 3 * 5 + 1 + 1


@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("densenet121", "torch.cat in features.denseblock1.denselayer1"),
        ("shufflenet_v2_x0_5", "torch.cat in stage2.0"),
        ("squeezenet1_1", "torch.cat in features.3"),
        ("convnext_tiny", "Tensor.permute in features.0.1"),
        ("vit_b_16", "Tensor.shape"),
    ],
)
def test_an_operation_that_moves_channels_is_named(name, operation):
    with pytest.raises(ValueError, match=f"^function: .* {operation} stands in the way$"):
        space_of(name, (3, 224, 224))


@pytest.mark.parametrize(
    ("middle", "message"),
    [
        ("view", "function: .*: Tensor.view stands in the way"),
        ("twice", "function: .*: a second application in again stands in the way"),
        ("scalar", "function: .*: mul stands in the way"),
        ("branch", "function: its network cannot be traced: "),
        ("over channels", "function: .*: Tensor.mean stands in the way"),
        ("tuple", "function: .*: a tuple of outputs stands in the way"),
        ("norm", "function: .*: 'norm' is a BatchNorm2d with affine=False; allowed: affine=True"),
    ],
)
def test_networks_that_cannot_be_followed_are_refused(middle, message):
    with pytest.raises(ValueError, match=message):
        space_of(f"{OWN}:Small", (2, 8, 8), options={"middle": middle})


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("mobilenet_v2", "function: 'mobilenet_v2' is no name; allowed: package.module:function"),
        ("os:system('ls')", "is no name"),
        ("/tmp/model.py:make", "is no name"),
        ("torchvision.models:", "is no name"),
        ("no.such:thing", "function: 'no.such:thing' cannot be imported: No module named 'no'"),
        ("torchvision.models:resnet19", "cannot be imported: .* has no attribute 'resnet19'"),
        (f"{OWN}:not_a_module", "function: .*not_a_module makes a int, not a Module"),
        ("torchvision.ops:nms", "function: torchvision.ops:nms refuses its options"),
    ],
)
def test_functions_that_are_none_are_refused(function, message):
    with pytest.raises(ValueError, match=message):
        TorchModule(Config(function))


def test_sizes_and_options_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"in_shape: \(1, 28, 28\) does not suit the network"):
        space_of("resnet18", (1, 28, 28))
    with pytest.raises(ValueError, match=r"options.weights: is not allowed; it would be trained"):
        space_of("resnet18", options={"weights": "DEFAULT"})
    with pytest.raises(ValueError, match="channel_multiple: 0 is not positive"):
        space_of("resnet18", channel_multiple=0)
    with pytest.raises(ValueError, match=r"'layer1\.0\.conv1' is missing"):
        space_of("resnet18").canonical({"conv1": 8})
