"""TensorRT's trtexec, which is not here: a script in its place prints logs in its form.

The logs in `recorded` are composed, not recorded: their lines have the form that TensorRT's own
samples/common/sampleReporting.cpp, sampleDevice.cpp and trtexec.cpp print in the version that the
file's name gives, their numbers are made up (such that each line has numbers of its own). On a
machine with TensorRT, the command in a log's first line records a real one.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from torch import nn

from cost_models import trtexec
from cost_models.backends import BackendError
from cost_models.latency_probe import measure, measure_module
from cost_models.trtexec import parse
from search_spaces.base import Block

RECORDED = Path(__file__).parent / "recorded"
SHAPE = (4, 8, 8)


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of the PATH, but for what the script in it needs."""
    trtexec._here.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def install(path: Path, log: str, code: int = 0) -> None:
    """Put a trtexec on the PATH that keeps its arguments and models, and prints a log."""
    script = path / "trtexec"
    script.write_text(
        "#!/bin/sh\nPATH=/usr/bin:/bin\n"
        f'echo "$@" >> {path}/arguments\n'
        f'cp "${{1#--onnx=}}" {path}/model-$(wc -l < {path}/arguments).onnx\n'
        f"cat {RECORDED / log}\nexit {code}\n"
    )
    script.chmod(0o755)


@pytest.mark.parametrize(
    ("log", "device", "version", "median_us", "iqr_us"),
    [
        ("trtexec_8.6_composed.txt", "NVIDIA Made-Up 100", "8.6.1", 15.625, 1.4649),
        ("trtexec_10.12_composed.txt", "NVIDIA Made-Up 200", "10.12.0", 31.25, 1.4649),
    ],
)
def test_a_log_tells_the_times_of_the_gpu(
    log: str, device: str, version: str, median_us: float, iqr_us: float
) -> None:
    report = parse((RECORDED / log).read_text())
    assert (report.device, report.version) == (device, version)
    assert report.timing.median_us == pytest.approx(median_us)
    assert report.timing.iqr_us == pytest.approx(iqr_us)


def test_a_table_says_what_ran_where(path: Path) -> None:
    install(path, "trtexec_8.6_composed.txt")
    blocks = [Block(name, SHAPE, lambda: nn.Conv2d(4, 4, 1)) for name in ("one", "two", "one")]
    table = measure(blocks, backend="trtexec", batch_size=2)
    assert (table.device, table.backend) == ("NVIDIA Made-Up 100", "trtexec")
    assert (table.version, table.dtype, table.batch_size) == ("8.6.1", "float16", 2)
    # A cut costs 2 t(f) - t(f, f), and the script says the same time for both.
    assert table.overhead_us == pytest.approx(15.625)
    assert set(table.entries) == {"one", "two"}
    models = [onnx.load(file) for file in sorted(path.glob("model-*.onnx"))]
    assert len(models) == 2 + 2 + 1  # blocks, cuts, and a run for the device's name
    dims = models[0].graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims] == [2, *SHAPE]
    for arguments in (path / "arguments").read_text().splitlines():
        assert set(trtexec.OPTIONS) < set(arguments.split())


def test_a_network_is_measured_once(path: Path) -> None:
    install(path, "trtexec_10.12_composed.txt")
    timing = measure_module(nn.ReLU(), SHAPE, backend="trtexec")
    assert timing.median_us == pytest.approx(31.25)
    assert len((path / "arguments").read_text().splitlines()) == 1


def test_without_trtexec_the_error_says_so() -> None:
    with pytest.raises(BackendError, match="backend: 'trtexec' needs TensorRT's trtexec; there is"):
        measure_module(nn.ReLU(), SHAPE, backend="trtexec")


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("trtexec_10.12_build_failed_composed.txt", r"Error\[10\]: .* node /0/Conv\.\)"),
        ("trtexec_11.0_option_refused_composed.txt", "Unknown option: --fp16"),
    ],
)
def test_a_failure_names_its_cause(path: Path, log: str, reason: str) -> None:
    """The first error of the log: the last one is that the engine's set-up failed."""
    install(path, log, code=1)
    with pytest.raises(BackendError, match=f"^backend: 'trtexec' failed: {reason}$"):
        measure_module(nn.ReLU(), SHAPE, backend="trtexec")


def test_output_of_another_form_is_refused() -> None:
    log = (RECORDED / "trtexec_8.6_composed.txt").read_text()
    with pytest.raises(BackendError, match="its output has no line 'GPU Compute Time'"):
        parse(log.replace("percentile(25%)", "percentile(90%)"))
    with pytest.raises(BackendError, match="no line 'Selected Device', and ends 'Cuda failure: x'"):
        parse("&&&& RUNNING TensorRT.trtexec [TensorRT v8601]\nCuda failure: x\n")
