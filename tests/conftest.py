"""What all tests share: a small Ray, the data folder, and nothing of the developer's own set-up."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import object_store

ROOT = Path(__file__).resolve().parent.parent

# Before anything imports Ray or MLflow: no token is written into the home folder, nothing is sent
# anywhere, and no cluster or tracking server of the developer's is touched.
os.environ.update(
    RAY_AUTH_MODE="disabled",
    RAY_USAGE_STATS_ENABLED="0",
    MLFLOW_DISABLE_TELEMETRY="true",
    PARETORAY_CACHE=str(ROOT / ".pytest_cache" / "paretoray"),
)
for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "MLFLOW_TRACKING_URI"):
    os.environ.pop(name, None)


@pytest.fixture(scope="session")
def short_tmp() -> Iterator[Path]:
    """A temporary folder with a short path: Ray's sockets may not be longer than 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def local_ray(short_tmp: Path) -> Iterator[None]:
    """A Ray of two CPUs in this process, which `RayCluster` finds and uses."""
    import ray  # here, so that only the tests that ask for it pay for it

    from workers.executors.connection import ENVIRONMENT

    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=str(short_tmp),
        runtime_env={"env_vars": ENVIRONMENT},
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object_store.ObjectStore]:
    """An object store on this machine, and the environment that it needs."""
    log = tmp_path_factory.mktemp("s3") / "requests.txt"
    with pytest.MonkeyPatch.context() as patch, object_store.running(log) as store:
        for name, value in object_store.CREDENTIALS.items():
            patch.setenv(name, value)
        yield store


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets; tests that need one are skipped where there is none."""
    root = Path(os.environ.get("PARETORAY_DATA", ROOT.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no data: {root} is not a folder (PARETORAY_DATA names it)")
    return root
