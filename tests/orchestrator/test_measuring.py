"""A latency table of a whole space, resumed where it was interrupted."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from cost_models.latency_table import LatencyTable
from orchestrator import measuring
from orchestrator.config import Latency, load_config, validate
from orchestrator.measuring import (
    MOST_BLOCKS,
    measurable_blocks,
    measure_space,
    measured,
    named_space,
)
from orchestrator.plan import checked
from orchestrator.view import View
from search_spaces.gpunet import GPUNet
from tests.orchestrator import tiny
from workers.errors import InputError

SMALL = {"preset": "gpunet_8", "granularity": 64, "max_expand_ratio": 2}
OPTIONS = [f"--set={key}={value}" for key, value in SMALL.items()]


@pytest.fixture
def view() -> View:
    return View(Console(quiet=True))


def test_the_command_measures_every_block_and_says_where(tmp_path: Path) -> None:
    out = tmp_path / "table.parquet"
    ended = tiny.paretoray("measure", "gpunet", "--out", out, "--backend=torch_cpu", *OPTIONS)
    assert (ended.code, ended.out) == (0, f"{out}\n"), ended.err
    table = LatencyTable.read(out)
    space = GPUNet(validate(GPUNet.Config, SMALL))
    assert (table.backend, table.threads) == ("torch_cpu", 1)
    assert table.network_ms(space.blocks(space.presets["max"])) > 0
    assert set(table.entries) == {block.key for block in space.all_blocks()}


def test_an_interrupted_command_goes_on_where_it_was(tmp_path: Path) -> None:
    line = ("measure", "gpunet", "--out", tmp_path / "table.parquet", *OPTIONS)
    ended = tiny.paretoray(*line, changes=[tiny.die_after("table.parquet", signal.SIGINT)])
    assert (ended.code, ended.out) == (130, "")
    assert ended.line == "paretoray: interrupted; the same line goes on"
    kept = LatencyTable.read(tmp_path / "table.parquet")
    ended = tiny.paretoray(*line, "--json")
    assert ended.code == 0
    whole = LatencyTable.read(tmp_path / "table.parquet")
    assert f"{len(whole.entries)} blocks, {len(kept.entries)} of them done before" in ended.err
    assert len(kept.entries) < len(whole.entries)
    assert all(whole.entries[key] == timing for key, timing in kept.entries.items())
    printed = json.loads(ended.out)
    assert (printed["blocks"], printed["backend"]) == (len(whole.entries), "onnxruntime")
    assert printed["overhead_us"] == whole.overhead_us


def test_parts_are_kept_and_not_measured_again() -> None:
    blocks = tiny.blocks()
    kept: list[LatencyTable] = []
    sizes: list[int] = []

    def probe(parts: measuring.Parts) -> Iterator[LatencyTable]:
        for part in parts:
            if len(kept) == 2:
                raise KeyboardInterrupt
            yield tiny.made_up_table(part)

    with pytest.raises(KeyboardInterrupt):
        measured(blocks, None, probe, save=kept.append, advance=sizes.append)
    assert len(kept[-1].entries) == sum(sizes)
    assert max(sizes) <= measuring.BLOCKS_PER_PART
    left = measuring.missing(blocks, kept[-1])
    assert len(left) == len(blocks) - sum(sizes)
    seen: list[str] = []

    def again(parts: measuring.Parts) -> Iterator[LatencyTable]:
        for part in parts:
            seen.extend(block.key for block in part)
            yield tiny.made_up_table(part)

    table = measured(blocks, kept[-1], again, save=kept.append, advance=sizes.append)
    assert sorted(seen) == sorted(block.key for block in left)
    assert set(table.entries) == {block.key for block in blocks}


def test_a_table_measured_in_another_way_is_left_alone(tmp_path: Path, view: View) -> None:
    out = tmp_path / "table.parquet"
    out.write_bytes(tiny.made_up_table(tiny.blocks()).to_bytes())
    before = out.read_bytes()
    with pytest.raises(InputError, match="measured with threads 1, not 2; choose another --out"):
        measure_space(named_space("gpunet", {"preset": "gpunet_8"}), Latency(threads=2), out, view)
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gpu_net", {}, r"SPACE: 'gpu_net' is unknown; did you mean 'gpunet'"),
        ("gpunet", {"preset": "gpunet_9"}, r"space\.preset: 'gpunet_9' is unknown"),
        ("gpunet", {"presett": "gpunet_8"}, r"space\.presett: unknown key"),
    ],
)
def test_unknown_spaces_and_options_are_named(
    name: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        named_space(name, options)


def test_a_file_that_is_no_table_is_named_once(tmp_path: Path, view: View) -> None:
    out = tmp_path / "table.parquet"
    out.write_bytes(b"something else")
    with pytest.raises(InputError, match=f"^{re.escape(str(out))}: not a latency table: ") as error:
        measure_space(named_space("gpunet", SMALL), Latency(), out, view)
    assert str(error.value).count(out.name) == 1


def test_a_backend_that_cannot_run_here_is_one_line(tmp_path: Path, view: View) -> None:
    out = tmp_path / "table.parquet"
    line = ("measure", "gpunet", "--out", out, "--backend=trtexec", *OPTIONS)
    ended = tiny.paretoray(*line, environment={"PATH": str(tmp_path)})
    assert (ended.code, ended.out) == (2, "")
    assert ended.line == (
        "paretoray: backend: 'trtexec' needs TensorRT's trtexec; there is none on the PATH"
    )
    assert "Traceback" not in ended.err
    assert not out.exists()


def test_a_space_of_too_many_blocks_is_refused_with_the_option_that_helps() -> None:
    """Widths of 1, 2, 3, ...: its blocks would be measured for days."""
    with pytest.raises(InputError, match=r"'keyword_nets' has more than 20,000 .*channel_multiple"):
        measurable_blocks(named_space("keyword_nets", {"model": "ds_cnn", "size": "l"}))
    coarse = {"model": "ds_cnn", "size": "l", "channel_multiple": 46}
    assert len(measurable_blocks(named_space("keyword_nets", coarse))) < MOST_BLOCKS
    with pytest.raises(InputError, match="'slimmable_resnet' has more than 20,000"):
        checked(load_config("clipped_lasso_digits", ["cost=latency_ms"]))
