"""Reports on their way out of Train's controller, which is to import nothing else of ours."""

from __future__ import annotations

from typing import Any

from ray import train
from ray.util.queue import Queue


class Forward(train.UserCallback):
    """Hands the first rank's reports to whoever reads the queue."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any
    ) -> None:
        """Put a report into the queue; Train calls it with those of all ranks."""
        self.queue.put(metrics[0])
