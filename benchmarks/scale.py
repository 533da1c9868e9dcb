"""A million candidates: what compacting them, their front, a comparison and a page take.

    python benchmarks/scale.py [--rows 1000000] [--dir FOLDER]

Rows are made up, 1,000 to a merged file, all of them finished networks; architectures are drawn
from the GPUNet space, so that rows are as long as real ones. Every command is a process of its own;
peak memory is the kernel's count for it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.pareto import pareto_front
from orchestrator.results import SCHEMAS, Results
from orchestrator.table_files import HELD, MERGED, SUFFIX
from search_spaces.base import digest, sample
from search_spaces.gpunet import GPUNet
from workers.storage import Storage

SPACE = GPUNet(GPUNet.Config(preset="gpunet_28"))
ROWS_PER_FILE = 1000
SAMPLES = 1000  # of the validation split, which the front has predictions of
STUDY = """\
study: scale
method: {name: random}
space: {name: gpunet, preset: gpunet_28}
dataset: {name: digits}
cost: macs
"""
PAGE = """
import sys
from pathlib import Path
from orchestrator.loading import load, shown
from orchestrator.report import render
Path(sys.argv[2]).write_text(render(load(sys.argv[1], shown)))
"""


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dir", help="of the study that is made up (default: a temporary one)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        directory = arguments.dir or f"{scratch}/study"
        make_up(Storage(directory), arguments.rows)
        show_files("made up", directory)
        command = [sys.executable, "-m", "orchestrator"]
        measure("a command that reads no study", [*command, "front", "--help"])
        measure("compact", [*command, "compact", directory])
        show_files("compacted", directory)
        measure("compact again", [*command, "compact", directory])
        measure("front", [*command, "front", directory])
        measure("front --json", [*command, "front", directory, "--json"])
        measure("compare with itself", [*command, "compare", directory, directory])
        page = f"{scratch}/report.html"
        measure("report", [sys.executable, "-c", PAGE, directory, page])
        print(f"the page: {Path(page).stat().st_size / 2**20:.1f} MiB")


def make_up(storage: Storage, rows: int) -> None:
    """Write a study of so many finished candidates, its front decided."""
    rng = np.random.default_rng(0)
    cost = rng.lognormal(16, 0.5, rows).round()
    accuracy = 0.9 - 2e6 / cost + rng.normal(0, 0.01, rows)
    on_front = pareto_front(np.column_stack((1 - accuracy, cost)))
    networks = [sample(SPACE, random.Random(seed)) for seed in range(ROWS_PER_FILE)]
    same = {
        "architecture": [json.dumps(network, sort_keys=True) for network in networks],
        "digest": [digest(SPACE, network) for network in networks],
    }
    storage.write_bytes("study.yaml", STUDY.encode())
    results = Results(storage)
    for start in range(0, rows, ROWS_PER_FILE):
        span = slice(start, min(start + ROWS_PER_FILE, rows))
        table = candidates(start, accuracy[span], cost[span], on_front[span], same)
        held = {HELD: json.dumps(dict.fromkeys(table["candidate"].to_pylist(), 1))}
        file = pa.BufferOutputStream()
        pq.write_table(table.replace_schema_metadata(held), file)
        name = f"{MERGED}{start // ROWS_PER_FILE:06d}{SUFFIX}"
        storage.write_bytes(f"results/candidates/{name}", file.getvalue().to_pybytes())
    predict(results, [name_of(index) for index in np.flatnonzero(on_front)], rng)


def candidates(
    start: int,
    accuracy: np.ndarray,
    cost: np.ndarray,
    on_front: np.ndarray,
    same: dict[str, list[str]],
) -> pa.Table:
    """Return the rows of one search trial."""
    count = len(cost)
    constant = {
        "study": "scale",
        "method": "random",
        "space": "gpunet",
        "dataset": "digits",
        "stage": "finished",
        "trial": name_of(start).split(".")[0],
        "cost_name": "macs",
        "params": json.dumps({"seed": 0}),
        "metrics": json.dumps({"search_val_accuracy": 0.5}),
        "versions": json.dumps({"torch": "2"}),
        "seed": 0,
        "wall_s": 1.0,
    }
    columns = {key: [value] * count for key, value in constant.items()}
    columns |= {key: values[:count] for key, values in same.items()}
    columns |= {"candidate": [name_of(start + index) for index in range(count)]}
    columns |= {"val_accuracy": accuracy, "cost": cost, "on_front": on_front}
    columns |= {"macs": cost.astype(np.int64), "num_params": cost.astype(np.int64) // 20}
    schema = SCHEMAS["candidates"]
    known = [columns.get(name, [None] * count) for name in schema.names]
    return pa.table(known, schema=schema)


def predict(results: Results, names: Sequence[str], rng: np.random.Generator) -> None:
    """Write labels, and predictions of the front."""
    labels = rng.integers(0, 10, SAMPLES)
    results.write_labels(dataset="digits", split="val", classes=labels)
    about = {"study": "scale", "dataset": "digits", "split": "val"}
    for name in names:
        classes = np.where(rng.random(SAMPLES) < 0.1, 0, labels)
        results.write_predictions(**about, candidate=name, classes=classes)


def name_of(index: int) -> str:
    """Return a candidate's name: of trial and place."""
    return f"t{index // ROWS_PER_FILE:04d}.{index % ROWS_PER_FILE:03d}"


def show_files(what: str, directory: str) -> None:
    """Print how many files the candidates are in, and their size."""
    files = list(Path(directory, "results", "candidates").iterdir())
    size = sum(file.stat().st_size for file in files)
    print(f"{what}: {len(files)} files of candidates, {size / 2**20:.0f} MiB")


def measure(what: str, command: Sequence[str]) -> None:
    """Run a command and print its wall clock and its peak memory."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - started
    if status:
        raise RuntimeError(f"{what}: {' '.join(command)} ended with {status}")
    busy_s = usage.ru_utime + usage.ru_stime
    print(f"{what}: {wall_s:.1f} s ({busy_s:.1f} s busy), {usage.ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
