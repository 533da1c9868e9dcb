"""A search problem for methods that search channel counts: a thin ResNet-20 on 8x8 images."""

from __future__ import annotations

import dataclasses

from cost_models.macs import macs
from search_spaces.slimmable_resnet import Config, SlimmableResNet
from tests.workers.methods.tiny import tiny_problem
from workers.protocol import Problem, State


def thin_space(**options) -> SlimmableResNet:
    options = {"shortcut": "conv1x1", "width_mult": 0.25, **options}
    return SlimmableResNet(Config(depth=20, in_shape=(1, 8, 8), num_classes=4, **options))


SPACE = thin_space()


def resnet_problem(
    seed: int = 0, start: State | None = None, space: SlimmableResNet = SPACE
) -> Problem:
    def cost(architecture, input_CHW=None):
        return float(macs(space.layers(architecture)))

    return dataclasses.replace(tiny_problem(seed, start), space=space, table=None, cost=cost)
