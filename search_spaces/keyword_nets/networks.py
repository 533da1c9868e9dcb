"""The networks of "Hello Edge" (Zhang et al., 2017) as tables of their layers.

Maps are (time, frequency) or (height, width). A layer's padding follows from its maps; "same" is
TensorFlow's, which puts the odd row or column last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from search_spaces.base import Shape

Model = Literal["dnn", "cnn", "ds_cnn", "vision"]
Size = Literal["s", "l"]
Pair = tuple[int, int]

DEFAULT_SHAPES: Mapping[str, Shape] = {
    "dnn": (1, 25, 10),
    "cnn": (1, 49, 10),
    "ds_cnn": (1, 49, 10),
    "vision": (1, 28, 28),
}
DEFAULT_CLASSES: Mapping[str, int] = {"dnn": 12, "cnn": 12, "ds_cnn": 12, "vision": 10}
CNN_SMALLEST = (19, 7)  # two kernels of 10 x 4, not padded, the first at two places in time


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One layer of the table, with what follows it.

    `conv` is a convolution, `separable` a depthwise one and a 1x1 one, `linear` is fully connected
    and flattens a map that it reads. `width` is the most outputs that it may have: filters or
    units. `in_map` is empty where the layer reads units. `pool` averages before flattening.
    """

    name: str
    kind: Literal["conv", "separable", "linear"]
    width: int
    kernel_size: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Literal["same", "valid"] = "same"
    norm: bool = True
    activation: Literal["relu", "leaky_relu"] | None = "relu"
    pool: Pair | None = None
    in_map: tuple[int, ...] = ()

    @property
    def out_map(self) -> tuple[int, ...]:
        """The map of each filter; empty for units."""
        if self.kind == "linear":
            return ()
        sizes = zip(self.in_map, self.kernel_size, self.stride, strict=True)
        if self.padding == "same":
            return tuple(math.ceil(size / stride) for size, _, stride in sizes)
        return tuple((size - kernel) // stride + 1 for size, kernel, stride in sizes)


@dataclass(frozen=True)
class Config:
    """Options of the space; shape and classes default to the model's, or follow the data set.

    `vision` is the DS-CNN that REDS tried on images (Tables 8 and 9); it has size `s` alone.
    A choice offers the multiples of `channel_multiple` below the layer's most, and the most.
    """

    model: Model = "ds_cnn"
    size: Size = "s"
    in_shape: tuple[int, int, int] | None = None
    num_classes: int | None = None
    channel_multiple: int = 1

    def __post_init__(self) -> None:
        """Refuse networks that do not exist and impossible sizes."""
        if self.model not in DEFAULT_SHAPES:
            raise ValueError(f"model: {self.model!r} is unknown; allowed: {sorted(DEFAULT_SHAPES)}")
        sizes = sorted(size for model, size in NETWORKS if model == self.model)
        if self.size not in sizes:
            raise ValueError(f"size: {self.model} has no {self.size!r}; allowed: {sizes}")
        for name in ("num_classes", "channel_multiple"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: {value} is not positive")
        if self.in_shape is not None and min(self.in_shape) < 1:
            raise ValueError(f"in_shape: {self.in_shape} has a dimension below 1")
        if self.model == "cnn" and self.in_shape is not None:
            rows, columns = CNN_SMALLEST
            if self.in_shape[1] < rows or self.in_shape[2] < columns:
                raise ValueError(
                    f"in_shape: {self.in_shape} is too small for cnn;"
                    f" allowed: at least (1, {rows}, {columns})"
                )


def network(config: Config, in_shape: Shape, num_classes: int) -> tuple[LayerSpec, ...]:
    """Return a network's layers, each with the map that it reads; the last is the classifier."""
    specs: list[LayerSpec] = []
    in_map = in_shape[1:]
    for row in NETWORKS[config.model, config.size]:
        specs.append(replace(row, in_map=in_map))
        in_map = specs[-1].out_map
    classifier = LayerSpec(
        "classifier",
        "linear",
        num_classes,
        norm=False,
        activation=None,
        pool=_last_pool(config.model, in_map),
        in_map=in_map,
    )
    return (*specs, classifier)


def _last_pool(model: Model, in_map: tuple[int, ...]) -> Pair | None:
    """REDS's own vision networks pool 13 x 5 of 14 x 14 positions and 16 x 5 of 16 x 16."""
    if model in ("dnn", "cnn"):
        return None
    height, width = in_map
    if model == "ds_cnn":
        return height, width
    return 13 if height == 14 else height, min(5, width)


def _dnn(units: int) -> tuple[LayerSpec, ...]:
    names = ("fc1", "fc2", "fc3")
    return tuple(LayerSpec(name, "linear", units, norm=False) for name in names)


def _cnn(conv1: int, conv2: int, low_rank: int) -> tuple[LayerSpec, ...]:
    return (
        LayerSpec("conv1", "conv", conv1, (10, 4), padding="valid"),
        LayerSpec("conv2", "conv", conv2, (10, 4), (2, 1), padding="valid"),
        LayerSpec("low_rank", "linear", low_rank, norm=False, activation=None),
        LayerSpec("fc1", "linear", 128),
    )


def _ds_cnn(filters: int, stem_stride: Pair, strides: tuple[Pair, ...]) -> tuple[LayerSpec, ...]:
    stem = LayerSpec("conv1", "conv", filters, (10, 4), stem_stride)
    separable = (
        LayerSpec(f"separable{index}", "separable", filters, (3, 3), stride)
        for index, stride in enumerate(strides, 1)
    )
    return (stem, *separable)


def _vision() -> tuple[LayerSpec, ...]:
    stem, *others = _ds_cnn(64, (2, 2), ((1, 1),) * 4)
    rows = (replace(stem, kernel_size=(3, 3)), *others)
    return tuple(replace(row, activation="leaky_relu") for row in rows)


NETWORKS: Mapping[tuple[str, str], tuple[LayerSpec, ...]] = {
    ("dnn", "s"): _dnn(144),
    ("dnn", "l"): _dnn(436),
    ("cnn", "s"): _cnn(28, 30, 16),
    ("cnn", "l"): _cnn(60, 76, 58),
    ("ds_cnn", "s"): _ds_cnn(64, (2, 2), ((1, 1),) * 4),
    ("ds_cnn", "l"): _ds_cnn(276, (2, 1), ((2, 2), *((1, 1),) * 4)),
    ("vision", "s"): _vision(),
}
