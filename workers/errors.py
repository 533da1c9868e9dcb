"""What a user is told in one line instead of a traceback."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input: one line that names the key or file, what was given and what is allowed."""


class RunError(RuntimeError):
    """The study failed: one line that says where and why."""
