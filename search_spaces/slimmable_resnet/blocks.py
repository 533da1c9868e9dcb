"""The parts of a network as blocks whose latencies add up; their keys name the computations."""

from __future__ import annotations

from search_spaces.base import Block, Shape
from search_spaces.slimmable_resnet.modules import (
    ConvNorm,
    StoredShortcut,
    build_head,
    build_shortcut,
    build_stem,
)
from search_spaces.slimmable_resnet.networks import Layout, Map, ResidualSpec


def stem_block(layout: Layout, in_shape: Shape, width: int) -> Block:
    """Return `conv1`, with its pool where it has one."""
    key = f"conv-k{layout.stem_kernel}-s{layout.stem_stride}-relu-{_text(in_shape)}-{width}"
    key += "-max_pool" * layout.stem_pool
    return Block(key, in_shape, lambda: build_stem(layout, in_shape[0], width).eval())


def first_block(spec: ResidualSpec, in_width: int, width: int) -> Block:
    """Return the first convolution of a residual block."""
    in_shape: Shape = (in_width, *spec.in_map)
    key = f"conv-k3-s{spec.stride}-relu-{_text(in_shape)}-{width}"
    return Block(key, in_shape, lambda: ConvNorm(in_width, width, 3, spec.stride).eval())


def second_block(spec: ResidualSpec, in_width: int, width: int) -> Block:
    """Return the second convolution of a residual block, with the sum behind it."""
    in_shape: Shape = (in_width, *spec.out_map)
    out_shape: Shape = (width, *spec.out_map)
    key = f"conv-k3-add-relu-{_text(in_shape)}-{width}"
    return Block(
        key,
        in_shape,
        lambda: StoredShortcut(ConvNorm(in_width, width, 3, act=False), out_shape).eval(),
    )


def shortcut_block(spec: ResidualSpec, in_width: int, width: int) -> Block:
    """Return the shortcut of a residual block, which computes something."""
    in_shape: Shape = (in_width, *spec.in_map)
    key = f"shortcut-{spec.kind}-{_text(in_shape)}-{width}"
    return Block(key, in_shape, lambda: build_shortcut(spec, in_width, width).eval())


def head_block(in_map: Map, width: int, num_classes: int) -> Block:
    """Return pool and classifier."""
    in_shape: Shape = (width, *in_map)
    key = f"head-{_text(in_shape)}-{num_classes}"
    return Block(key, in_shape, lambda: build_head(width, num_classes).eval())


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))
