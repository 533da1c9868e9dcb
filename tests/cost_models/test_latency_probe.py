"""The probe on this machine, with real back-ends and small blocks."""

import pytest
import torch
from torch import nn

from cost_models import backends, latency_probe
from cost_models.backends import BackendError
from cost_models.latency_probe import BACKENDS, measure, measure_module
from search_spaces.base import Block
from search_spaces.gpunet import Config, GPUNet

SHAPE = (16, 16, 16)
CPU_BACKENDS = [name for name, backend in BACKENDS.items() if not backend.uses_gpu]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "SECONDS", 0.03)


def conv(width: int, kernel_size: int) -> nn.Module:
    padding = kernel_size // 2
    return nn.Sequential(
        nn.Conv2d(16, width, kernel_size, padding=padding), nn.Conv2d(width, 16, 1)
    )


SMALL = Block("small", SHAPE, lambda: conv(8, 1).eval())
LARGE = Block("large", SHAPE, lambda: conv(128, 5).eval())


@pytest.mark.parametrize("backend", [*CPU_BACKENDS, pytest.param("torch_cuda", marks=needs_gpu)])
def test_larger_blocks_take_longer(backend: str) -> None:
    table = measure([SMALL, LARGE], backend=backend)
    assert table.latency_us("large") > 1.5 * table.latency_us("small") > 0
    assert table.overhead_us >= 0
    assert (table.backend, table.threads, table.batch_size) == (backend, 1, 1)
    assert table.dtype == "float32"
    assert table.device
    assert table.version == BACKENDS[backend].version()


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_larger_networks_take_longer(backend: str) -> None:
    small, large = (
        measure_module(block.build(), SHAPE, backend=backend) for block in (SMALL, LARGE)
    )
    assert large.median_us > 1.5 * small.median_us > 0
    assert small.iqr_us >= 0


def test_equal_blocks_are_built_and_measured_once() -> None:
    built = []

    def build() -> nn.Module:
        built.append(1)
        return nn.ReLU()

    others = [Block(f"other{index}", SHAPE, nn.ReLU) for index in range(4)]
    table = measure([Block("relu", SHAPE, build), *others, Block("relu", SHAPE, build)])
    assert set(table.entries) == {"relu", *(block.key for block in others)}
    assert len(built) == 1


def test_groups_are_alike() -> None:
    blocks = [Block(str(index), (1,), nn.ReLU) for index in range(35)]
    for count in (1, 3, 16, 17, 35):
        groups = list(latency_probe._groups(blocks[:count]))
        sizes = [len(group) for group in groups]
        assert sorted(block.key for group in groups for block in group) == sorted(
            block.key for block in blocks[:count]
        )
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= latency_probe.GROUP


def test_measuring_leaves_torch_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(16, 8, 1), nn.BatchNorm2d(8)).train()
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    measure([SMALL], backend="torch_cpu", threads=threads + 1)
    measure_module(network, SHAPE, threads=threads + 1)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training
    assert int(network[1].num_batches_tracked) == 0


def test_batches_take_longer() -> None:
    one, eight = (measure([LARGE], batch_size=size) for size in (1, 8))
    assert eight.batch_size == 8
    assert eight.latency_us("large") > 3 * one.latency_us("large")


def test_a_prediction_is_near_the_measured_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loosely, since other work may run beside the tests; `measure --check` is the measure."""
    monkeypatch.setattr(backends, "SECONDS", 0.15)
    space = GPUNet(Config(preset="gpunet_28"))
    architecture = space.presets["gpunet1"]
    predicted_ms = measure(space.blocks(architecture)).network_ms(space.blocks(architecture))
    measured_us = measure_module(space.build(architecture), space.in_shape).median_us
    assert 0.6 < predicted_ms * 1e3 / measured_us < 1.7


def test_bad_requests_are_refused() -> None:
    with pytest.raises(ValueError, match=r"backend: 'tflite' is unknown; allowed: \['onnxruntime'"):
        measure([SMALL], backend="tflite")
    with pytest.raises(ValueError, match="blocks: none given"):
        measure([])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU here")
def test_a_gpu_is_asked_for_where_there_is_none() -> None:
    with pytest.raises(BackendError, match="backend: 'torch_cuda' needs a CUDA GPU"):
        measure([SMALL], backend="torch_cuda")
