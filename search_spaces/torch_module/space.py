"""The space itself: how many units of every group are kept, and what becomes of an architecture."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator

import torch
from torch import nn

from search_spaces.base import Architecture, Block, Layer, Shape, distinct
from search_spaces.free_widths import FreeWidths, widths_up_to
from search_spaces.narrow_convs import narrow_convs
from search_spaces.torch_module import config as configs
from search_spaces.torch_module.blocks import blocks_of
from search_spaces.torch_module.cutting import cut
from search_spaces.torch_module.groups import Group
from search_spaces.torch_module.loading import new_network
from search_spaces.torch_module.plan import planned
from search_spaces.torch_module.records import record

DEFAULT_SHAPE: Shape = (3, 224, 224)
DEFAULT_CLASSES = 1000


class TorchModule:
    """The space itself; see the package's page for the form of an architecture."""

    name = "torch_module"
    Config = configs.Config

    def __init__(self, config: configs.Config | None = None) -> None:
        config = config or configs.Config()
        self.in_shape: Shape = config.in_shape or DEFAULT_SHAPE
        self.num_classes = config.num_classes or DEFAULT_CLASSES
        self.function = config.function
        self.options = {**config.options, "num_classes": self.num_classes}
        self.plan = planned(config.function, json.dumps(self.options), self.in_shape)
        if not self.plan.groups:
            raise ValueError(f"function: no channels of {config.function} are free to go")
        self.widths = FreeWidths(
            (group.name, _widths(group, config.channel_multiple)) for group in self.plan.groups
        )
        self.choices, self.presets = self.widths.choices, self.widths.presets
        self._check_runs(self.presets["min"])

    def size(self) -> int:
        """Return the exact number of architectures."""
        return self.widths.size()

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the architecture with its groups in order; nothing is ever inactive here.

        Raises:
            ValueError: a group is missing, unknown, or has a width that it does not offer.
        """
        return self.widths.canonical(architecture)

    def layers(self, architecture: Architecture) -> tuple[Layer, ...]:
        """Return the layers of the network in execution order."""
        widths = self.canonical(architecture)
        return tuple(
            record(step, widths, segment.name)
            for segment in self.plan.segments
            for step in segment.steps
        )

    def build(self, architecture: Architecture) -> nn.Module:
        """Return the stand-alone network: a new full one, cut."""
        widths = self.canonical(architecture)
        if torch.get_default_device().type == "meta":
            network = copy.deepcopy(self.plan.network)
        else:
            network = new_network(self.function, self.options)
        cut(network, self.plan.axes, widths)
        return narrow_convs(network)

    def blocks(self, architecture: Architecture) -> tuple[Block, ...]:
        """Return the network's parts as blocks whose latencies add up."""
        widths = {name: (width,) for name, width in self.canonical(architecture).items()}
        return tuple(blocks_of(self.plan.segments, self.plan.axes, widths))

    def all_blocks(self) -> Iterator[Block]:
        """Yield every block of the space once; they are many where widths are free."""
        offered = {choice.name: choice.options for choice in self.choices}
        return distinct(blocks_of(self.plan.segments, self.plan.axes, offered))

    def _check_runs(self, architecture: Architecture) -> None:
        """Refuse a network whose own code does not bear being cut, as where it names a width."""
        with torch.device("meta"), torch.inference_mode():
            try:
                output = self.build(architecture).eval()(torch.empty(1, *self.in_shape))
            except (RuntimeError, TypeError, ValueError) as error:
                reason = str(error).splitlines()[0]
                raise ValueError(f"function: {self.function} cannot be cut: {reason}") from error
        if output.shape != (1, self.num_classes):
            raise ValueError(
                f"function: {self.function} returns shape {tuple(output.shape[1:])};"
                f" allowed: ({self.num_classes},), a number for each class"
            )


def _widths(group: Group, channel_multiple: int) -> tuple[int, ...]:
    """Return the widths in units; a unit may have several channels."""
    return widths_up_to(group.units, math.ceil(channel_multiple / group.unit_channels))
