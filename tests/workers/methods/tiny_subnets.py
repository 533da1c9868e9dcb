"""A problem that REDS solves in seconds: the vision network on synthetic 8x8 images."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from search_spaces.keyword_nets import Config as SpaceConfig
from search_spaces.keyword_nets import KeywordNets
from tests.workers.methods.tiny import tiny_problem
from workers.methods.reds.config import Config
from workers.protocol import Problem, State
from workers.training import Recipe

NETWORKS = [
    ("dnn", "s"),
    ("dnn", "l"),
    ("cnn", "s"),
    ("cnn", "l"),
    ("ds_cnn", "s"),
    ("ds_cnn", "l"),
    ("vision", "s"),
]
SMALL = {
    "min_units": 8,
    "importance_batches": 2,
    "epochs": 2,
    "norm_epochs": 1,
    "batch_size": 32,
    "pretraining": Recipe(epochs=2, batch_size=32, optimizer="adam", lr=0.005, weight_decay=0.0),
}


def subnet_config(**settings) -> Config:
    return Config(**{**SMALL, **settings})


def subnet_problem(seed: int = 0, start: State | None = None, **options) -> Problem:
    options = {"model": "vision", "channel_multiple": 8, **options}
    space = KeywordNets(SpaceConfig(in_shape=(1, 8, 8), num_classes=4, **options))
    problem = tiny_problem(seed)
    return dataclasses.replace(problem, space=space, table=None, start=start)


def keyword_space(model: str, size: str, **options) -> KeywordNets:
    return KeywordNets(SpaceConfig(model=model, size=size, **options))


def trained_looking(space: KeywordNets, seed: int = 0) -> nn.Module:
    """A full network in float64 whose biases and batch norms are no longer those of a new one."""
    torch.manual_seed(seed)
    network = space.build(space.presets["full"]).double().eval()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point() and tensor.ndim == 1:
                tensor.uniform_(0.5, 1.5) if "var" in name else tensor.normal_()
    return network


def made_up_scores(network: nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    """A score for every weight; some units are worth far more than others."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(weight.shape, generator=generator)
        * torch.rand(len(weight), *[1] * (weight.ndim - 1), generator=generator) ** 3
        for name, weight in network.named_parameters()
        if weight.ndim > 1
    }
