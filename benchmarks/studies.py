"""Studies that a benchmark runs: each by the command line, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from orchestrator import Study, load


def run(study: str, directory: Path, settings: Iterable[str], *, executor: str = "ray") -> Study:
    """Run a ready study with settings (`key=value`), and load it.

    One that is there already goes on, and is not run again where it is complete. Where it fails,
    the benchmark ends with its exit code; what went wrong is on the screen by then.
    """
    command = [sys.executable, "-m", "orchestrator", "run", study]
    where = ["--dir", str(directory), "--executor", executor]
    ended = subprocess.run([*command, *where, *(f"--set={each}" for each in settings)])
    if ended.returncode:
        sys.exit(ended.returncode)
    return load(str(directory))
