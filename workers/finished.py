"""What finished networks are asked, each in a process that may be on any node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from cost_models.latency_probe import BACKENDS, measure_module
from cost_models.latency_table import Timing
from search_spaces.base import Architecture
from workers.datasets import Data
from workers.evaluation import Evaluation, evaluate
from workers.trial import as_tensors, build_space, load_data, reset_process


def with_data(
    study: Mapping[str, Any], shared: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Data]:
    """Return a resolved study, and its data from the shared values."""
    return study, load_data(study, shared["data"])


def predict_test(
    setup: tuple[Mapping[str, Any], Data], item: tuple[Architecture, Mapping[str, Any]]
) -> Evaluation:
    """Return what a finished network makes of the test split.

    Args:
        setup: from `with_data`.
        item: the architecture and its weights, a state dict of arrays.
    """
    study, data = setup
    architecture, weights = item
    reset_process(study["seed"], study["resources"]["cpus_per_worker"])
    network = build_space(study).build(architecture)
    network.load_state_dict(as_tensors(weights))
    if study["resources"]["gpus_per_worker"] and torch.cuda.is_available():
        network.cuda()
    return evaluate(network, data.test, data)


@dataclass(frozen=True)
class NetworkTiming:
    """The latency of a whole network, and the name of the device that it was measured on."""

    device: str
    timing: Timing


def network_timing(
    study: Mapping[str, Any],
    backend: str,
    threads: int,
    architecture: Architecture,
    batch_size: int = 1,
) -> NetworkTiming:
    """Return the latency of a whole network, for a batch, on this machine."""
    space = build_space(study)
    network = space.build(architecture).eval()
    timing = measure_module(
        network, space.in_shape, backend=backend, threads=threads, batch_size=batch_size
    )
    return NetworkTiming(BACKENDS[backend].device(), timing)
