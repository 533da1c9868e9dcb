"""Values of YAML 1.2 text, where `no` is text and `1e-3` a number, without types of its own."""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError


class NotYamlError(ValueError):
    """Text that is not YAML; the message says why, `line` (from 1) where, if that is known."""

    def __init__(self, error: Exception) -> None:
        mark = getattr(error, "problem_mark", None)
        self.line: int | None = mark.line + 1 if mark else None
        super().__init__(getattr(error, "problem", None) or str(error).splitlines()[0])


def parsed(text: str | bytes) -> Any:
    """Return the value of a text.

    Raises:
        NotYamlError: it is not YAML.
    """
    try:
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        # Beyond bad form: a date that cannot be, and a list within itself.
        raise NotYamlError(error) from error
