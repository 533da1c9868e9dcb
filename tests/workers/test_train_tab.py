"""The Train tab of Ray's dashboard knows a pretraining: its run, its workers and how it ended."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# A Ray with a dashboard, in a process of its own: that of the other tests has none. The address
# without v1 at its end is that of Train V1.
SCRIPT = """
import os, sys, time, urllib.error, urllib.request
import numpy as np
import ray
from tests.workers.work import Task, count
from workers.executors.connection import ENVIRONMENT
from workers.executors.ray_cluster import RayCluster
from workers.executors.work import Resources

os.environ.update(ENVIRONMENT)
context = ray.init(
    num_cpus=2,
    include_dashboard=True,
    log_to_driver=False,
    _temp_dir=sys.argv[2],
    runtime_env={"env_vars": ENVIRONMENT},
)
cluster = RayCluster(Resources())
shared = {"numbers": cluster.share(np.ones(2))}
task = Task("supernet", sys.argv[1], stage="pretrain")
cluster.train_sharded(count, task, shared, lambda row: None, folder=f"{sys.argv[1]}/tune/pretrain")
for second in range(60):  # the dashboard's own process has yet to find what keeps the runs
    try:
        url = f"http://{context.dashboard_url}/api/train/v2/runs/v1"
        print(urllib.request.urlopen(url).read().decode())
        break
    except urllib.error.HTTPError as error:
        print(error.read().decode(), file=sys.stderr)
        time.sleep(1)
"""


@pytest.mark.slow
def test_the_train_tab_shows_a_pretraining(short_tmp: Path, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(short_tmp / "train")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    (run,) = json.loads(ended.stdout.splitlines()[-1])["train_runs"]
    assert run["name"] == "pretrain"
    assert run["status"] == "FINISHED"
    assert [len(attempt["workers"]) for attempt in run["attempts"]] == [1]
