"""What names a process's current trial in its log lines and metrics.

One process serves many trials, one after another: tags are there while a trial runs and gone when
it has ended, however it ends.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

NAMES = ("study", "stage", "trial", "alpha", "lambda", "phi", "seed")
FORMAT = "%(asctime)s %(levelname)s [%(tags)s] %(message)s"
LOG = logging.getLogger(__name__)
_current: dict[str, str] = {}


@contextmanager
def tagged(tags: Mapping[str, str]) -> Iterator[None]:
    """Give this process's log lines and metrics these tags and no others, and log the ends."""
    _current.clear()
    _current.update(tags)
    LOG.info("begins")
    try:
        yield
        LOG.info("ended")
    except Exception as error:
        LOG.info("failed: %s: %s", type(error).__name__, error)
        raise
    finally:
        _current.clear()


def current_tags() -> dict[str, str]:
    """Return the tags of the trial that runs in this process; empty between trials."""
    return dict(_current)


def log_with_tags() -> None:
    """Let this process write the log lines of `workers`, each with the tags of its trial.

    Without this they go wherever the process has logging configured.
    """
    logger = logging.getLogger("workers")
    logger.setLevel(logging.INFO)
    if not logger.handlers:  # a reused process has it
        handler = logging.StreamHandler()
        handler.addFilter(_add_tags)
        handler.setFormatter(logging.Formatter(FORMAT))
        logger.addHandler(handler)


def _add_tags(record: logging.LogRecord) -> bool:
    shown = {name: value for name, value in _current.items() if value}
    record.tags = " ".join(f"{name}={value}" for name, value in shown.items())
    return True
