"""Files as the authors of Once-for-all publish them, made here with random numbers.

Names and shapes are those of the modules in their code, in which an elastic layer wraps a plain
one: `conv.conv`, `bn.bn`, `linear.linear`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch

from search_spaces import SPACES
from search_spaces.elastic import ElasticSpace, Supernet, load_public
from search_spaces.elastic.checkpoint import plain
from search_spaces.elastic.modules import make_div8

Shapes = Mapping[str, tuple[int, ...]]
Items = Iterator[tuple[str, tuple[int, ...]]]


def space_of(name: str, preset: str) -> ElasticSpace:
    return SPACES[name](SPACES[name].Config(preset=preset))  # type: ignore[return-value]


def norm(name: str, channels: int) -> Items:
    for tensor in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{tensor}", (channels,)
    yield f"{name}.num_batches_tracked", ()


def conv_norm(name: str, conv: tuple[int, ...], wrapped: bool = True) -> Items:
    inner = ("conv.conv", "bn.bn") if wrapped else ("conv", "bn")
    yield f"{name}.{inner[0]}.weight", conv
    yield from norm(f"{name}.{inner[1]}", conv[0])


def mobile_block(name: str, channels: tuple[int, int], se: bool) -> Items:
    """Yield the tensors of an elastic block: expand ratio 6, kernel 7."""
    hidden = 6 * channels[0]
    yield from conv_norm(f"{name}.inverted_bottleneck", (hidden, channels[0], 1, 1))
    yield from conv_norm(f"{name}.depth_conv", (hidden, 1, 7, 7))
    yield f"{name}.depth_conv.conv.7to5_matrix", (25, 25)
    yield f"{name}.depth_conv.conv.5to3_matrix", (9, 9)
    if se:
        squeezed = make_div8(hidden // 4)
        yield f"{name}.depth_conv.se.fc.reduce.weight", (squeezed, hidden, 1, 1)
        yield f"{name}.depth_conv.se.fc.reduce.bias", (squeezed,)
        yield f"{name}.depth_conv.se.fc.expand.weight", (hidden, squeezed, 1, 1)
        yield f"{name}.depth_conv.se.fc.expand.bias", (hidden,)
    yield from conv_norm(f"{name}.point_linear", (channels[1], hidden, 1, 1))


def mobilenet(
    images: int,
    widths: tuple[int, ...],
    se: tuple[bool, ...],
    head: tuple[int, int, int],
    inner: str,
) -> dict[str, tuple[int, ...]]:
    """Return the tensors of a MobileNetV3 supernet; `inner` is what blocks call their layer."""
    stem, *stages = widths
    shapes = dict(conv_norm("first_conv", (stem, images, 3, 3), wrapped=False))
    shapes |= conv_norm(f"blocks.0.{inner}.depth_conv", (stem, 1, 3, 3), wrapped=False)
    shapes |= conv_norm(f"blocks.0.{inner}.point_linear", (stem, stem, 1, 1), wrapped=False)
    number, before = 1, stem
    for width, has_se in zip(stages, se, strict=True):
        for _ in range(4):
            shapes |= mobile_block(f"blocks.{number}.{inner}", (before, width), has_se)
            number, before = number + 1, width
    wide, mixed, classes = head
    shapes |= conv_norm("final_expand_layer", (wide, before, 1, 1), wrapped=False)
    shapes["feature_mix_layer.conv.weight"] = (mixed, wide, 1, 1)
    shapes["classifier.linear.weight"] = (classes, mixed)
    shapes["classifier.linear.bias"] = (classes,)
    return shapes


def resnet(
    images: int,
    stem: tuple[int, int],
    stages: tuple[tuple[int, int, int], ...],
    classes: int,
    wrapped: bool = True,
) -> dict[str, tuple[int, ...]]:
    """Return the tensors of a ResNet-50 supernet; a stage is (width, hidden, blocks)."""
    middle, before = stem
    shapes = dict(conv_norm("input_stem.0", (middle, images, 3, 3), wrapped))
    shapes |= conv_norm("input_stem.1.conv", (middle, middle, 3, 3), wrapped)
    shapes |= conv_norm("input_stem.2", (before, middle, 3, 3), wrapped)
    number = 0
    for width, hidden, blocks in stages:
        for position in range(blocks):
            name = f"blocks.{number}"
            shapes |= conv_norm(f"{name}.conv1", (hidden, before, 1, 1), wrapped)
            shapes |= conv_norm(f"{name}.conv2", (hidden, hidden, 3, 3), wrapped)
            shapes |= conv_norm(f"{name}.conv3", (width, hidden, 1, 1), wrapped)
            if position == 0:
                shapes |= conv_norm(f"{name}.downsample", (width, before, 1, 1), wrapped)
            number, before = number + 1, width
    linear = "classifier.linear.linear" if wrapped else "classifier.linear"
    return shapes | {f"{linear}.weight": (classes, before), f"{linear}.bias": (classes,)}


W10 = (16, 24, 40, 80, 112, 160)
W12 = (24, 32, 48, 96, 136, 192)
PAPER_SE = (False, True, False, True, True)
RESNET50 = ((256, 88, 4), (512, 176, 4), (1024, 360, 6), (2048, 720, 4))
PUBLIC: dict[tuple[str, str, str], dict[str, tuple[int, ...]]] = {
    ("ofa_mobilenet_v3", "paper_w1.0", "older"): mobilenet(
        3, W10, PAPER_SE, (960, 1280, 1000), "mobile_inverted_conv"
    ),
    ("ofa_mobilenet_v3", "paper_w1.2", "newer"): mobilenet(
        3, W12, PAPER_SE, (1152, 1536, 1000), "conv"
    ),
    ("ofa_mobilenet_v3", "mbv3_28", "older"): mobilenet(
        1, (16, 16, 24, 40), (False, False, True), (240, 320, 10), "mobile_inverted_conv"
    ),
    ("ofa_resnet50", "paper", "wrapped"): resnet(3, (32, 64), RESNET50, 1000),
    ("ofa_resnet50", "paper", "plain"): resnet(3, (32, 64), RESNET50, 1000, wrapped=False),
    ("ofa_resnet50", "resnet_28", "wrapped"): resnet(
        1, (32, 64), ((64, 48, 3), (128, 96, 4), (256, 192, 3)), 10
    ),
}
SMALL = [key for key in PUBLIC if key[1] in ("mbv3_28", "resnet_28")]


@pytest.mark.parametrize("key", PUBLIC, ids=" ".join)
def test_names_and_shapes_are_those_of_the_supernet(key: tuple[str, str, str]) -> None:
    space = space_of(*key[:2])
    with torch.device("meta"):
        own = {name: tuple(t.shape) for name, t in Supernet(space).state_dict().items()}
    translated = {space.own_name(plain(name)): shape for name, shape in PUBLIC[key].items()}
    assert len(translated) == len(PUBLIC[key])
    assert translated == own


def test_names_of_some_tensors() -> None:
    mobilenet_v3, resnet50 = space_of(*SMALL[0][:2]), space_of(*SMALL[1][:2])
    pairs = {
        "blocks.0.conv.depth_conv.bn.running_var": "first.depthwise.norm.running_var",
        "blocks.6.mobile_inverted_conv.inverted_bottleneck.conv.conv.weight": (
            "stage2_block1.expand.conv.weight"
        ),
        "blocks.12.conv.depth_conv.conv.5to3_matrix": (
            "stage3_block3.depthwise.conv.transforms.5to3"
        ),
        "blocks.9.conv.depth_conv.se.fc.expand.bias": "stage3_block0.se.expand.bias",
        "feature_mix_layer.conv.weight": "head.mix.weight",
    }
    assert {name: mobilenet_v3.own_name(plain(name)) for name in pairs} == pairs
    pairs = {
        "input_stem.1.conv.conv.conv.weight": "stem_mid.conv.weight",
        "blocks.3.downsample.bn.bn.bias": "stage2_block0.shortcut.norm.bias",
        "blocks.6.conv2.conv.conv.weight": "stage2_block3.conv2.conv.weight",
        "classifier.linear.linear.bias": "head.linear.bias",
    }
    assert {name: resnet50.own_name(plain(name)) for name in pairs} == pairs


def numbers(shapes: Shapes) -> dict[str, torch.Tensor]:
    """Return tensors of these shapes, no two of them equal."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(shape, generator=generator) if shape else torch.tensor(number)
        for number, (name, shape) in enumerate(shapes.items())
    }


@pytest.mark.parametrize("key", SMALL, ids=" ".join)
@pytest.mark.parametrize("nested", [True, False])
def test_files_are_loaded(key: tuple[str, str, str], nested: bool, tmp_path: Path) -> None:
    space, public = space_of(*key[:2]), numbers(PUBLIC[key])
    torch.save({"state_dict": public, "epoch": 3} if nested else public, tmp_path / "file")
    supernet = Supernet(space)
    load_public(supernet, tmp_path / "file")
    loaded = supernet.state_dict()
    for name, tensor in public.items():
        assert torch.equal(loaded[space.own_name(plain(name))], tensor)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.pop("classifier.linear.bias"),
            "'head.linear.bias' of ofa_mobilenet_v3 is mis",
        ),
        (lambda s: s.update(extra=torch.ones(1)), "tensor 'extra' is not one of ofa_mobilenet_v3"),
        (
            lambda s: s.update({"classifier.linear.bias": torch.ones(1000)}),
            r"tensor 'head.linear.bias' has shape \[1000\]; allowed: \[10\]",
        ),
    ],
)
def test_other_files_are_refused(change, message, tmp_path) -> None:
    public = numbers(PUBLIC[SMALL[0]])
    change(public)
    torch.save({"state_dict": public}, tmp_path / "file")
    supernet = Supernet(space_of(*SMALL[0][:2]))
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_public(supernet, tmp_path / "file")
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())


def test_a_file_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_public(Supernet(space_of(*SMALL[0][:2])), tmp_path / "none")
