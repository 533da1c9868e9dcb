"""Settings records (plain frozen dataclasses) from JSON values and back, strictly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import ConfigDict, TypeAdapter

STRICT = ConfigDict(
    extra="forbid",
    strict=True,
    allow_inf_nan=False,
    # A field whose name is a Python keyword ends in an underscore; files spell it without.
    alias_generator=lambda name: name.rstrip("_"),
)


def from_json(cls: type, values: Mapping[str, Any]) -> Any:
    """Build a record from JSON values.

    Raises:
        pydantic.ValidationError: an unknown key, a wrong type or an impossible value.
        TypeError: a value that JSON does not know.
    """
    return adapter(cls).validate_json(json.dumps(values))


def to_json(record: Any) -> dict[str, Any]:
    """Return a record as JSON values, every default written out."""
    values: dict[str, Any] = adapter(type(record)).dump_python(record, mode="json", by_alias=True)  # type: ignore[arg-type]
    return values


@cache
def adapter(cls: type) -> TypeAdapter[Any]:
    """Return the strict validator of a record."""
    if not hasattr(cls, "__pydantic_config__"):
        # pydantic reads its configuration off the class; the records themselves stay plain.
        strict = type(cls.__name__, (cls,), {"__pydantic_config__": STRICT, "__doc__": cls.__doc__})
        cls = dataclass(frozen=True)(strict)
    return TypeAdapter(cls)
