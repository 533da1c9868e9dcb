"""Log lines of a process that serves many trials name the trial that they are of, and no other."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from io import StringIO

import pytest

from workers.trial import Trial
from workers.trial_tags import NAMES, current_tags, log_with_tags, tagged

STUDY = {"study": "s", "method": {"name": "prunet", "phi": 1.1, "alpha": 9}, "seed": 3}


@pytest.fixture
def lines() -> Iterator[StringIO]:
    """What this process would log if it were a worker."""
    logger, written = logging.getLogger("workers"), StringIO()
    kept = logger.level, list(logger.handlers)
    logger.handlers.clear()
    log_with_tags()
    log_with_tags()  # as for the next trial of a reused process
    (handler,) = logger.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written)
    yield written
    logger.setLevel(kept[0])
    logger.handlers[:] = kept[1]


def test_a_trial_is_named_by_its_point_and_else_by_its_method() -> None:
    trial = Trial("t003", "search", STUDY, "", 1, point={"alpha": 0.2, "seed": 7})
    assert trial.tags == {
        "study": "s",
        "stage": "search",
        "trial": "t003",
        "alpha": "0.2",
        "lambda": "",
        "phi": "1.1",
        "seed": "7",
    }
    assert tuple(trial.tags) == NAMES
    assert Trial("supernet", "pretrain", STUDY, "", 1).tags["seed"] == "3"


def test_tags_are_of_one_trial_and_gone_after_it() -> None:
    with tagged({"trial": "a", "alpha": "0.1"}):
        assert current_tags() == {"trial": "a", "alpha": "0.1"}
    assert current_tags() == {}
    with pytest.raises(ValueError, match="of its own making"), tagged({"trial": "b"}):
        raise ValueError("of its own making")
    with tagged({"trial": "c"}):
        assert current_tags() == {"trial": "c"}


def test_log_lines_carry_the_tags_of_their_trial(lines: StringIO) -> None:
    logger = logging.getLogger("workers.methods.some")
    with tagged({"trial": "a", "alpha": "0.1", "phi": ""}):
        logger.info("one")
    with pytest.raises(ValueError, match="odd"), tagged({"trial": "b"}):
        raise ValueError("odd")
    logger.warning("between")
    written = [line.split(" ", 2)[2] for line in lines.getvalue().splitlines()]
    assert written == [
        "INFO [trial=a alpha=0.1] begins",
        "INFO [trial=a alpha=0.1] one",
        "INFO [trial=a alpha=0.1] ended",
        "INFO [trial=b] begins",
        "INFO [trial=b] failed: ValueError: odd",
        "WARNING [] between",
    ]
