"""A study as one YAML file: its form, its loading, and what is refused before anything starts."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from cost_models.latency_probe import BACKENDS
from orchestrator.yaml_text import NotYamlError, parsed
from search_spaces import SPACES
from workers.costs import COSTS, Machines
from workers.datasets import DATASETS
from workers.errors import InputError
from workers.executors.work import Resources, check_amount
from workers.methods import METHODS
from workers.records import adapter, from_json, to_json
from workers.storage import Storage, StorageError, parent_and_name
from workers.training import Recipe

MOST_THREADS = 1024  # of one call; a mistyped number would be handed to the operating system
COMPONENTS: Mapping[str, Mapping[str, Any]] = {
    "method": METHODS,
    "space": SPACES,
    "dataset": DATASETS,
}


@dataclass(frozen=True)
class Proxy:
    """The share of the training and validation data that a search sees (finishing sees all)."""

    classes: float | None = None
    images: float | None = None

    def __post_init__(self) -> None:
        """Refuse shares outside (0, 1]."""
        for name in ("classes", "images"):
            share = getattr(self, name)
            if share is not None and not 0 < share <= 1:
                raise ValueError(f"{name}: {share} is outside (0, 1]")


@dataclass(frozen=True)
class Latency:
    """How block latencies are found: a table measured elsewhere, or a probe on this cluster.

    `resources` are Ray resources that the probing task asks for, so that it lands on a target.
    """

    table: str | None = None
    backend: str = "onnxruntime"
    threads: int = 1
    resources: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse back-ends, thread counts and amounts that cannot be."""
        if self.backend not in BACKENDS:
            raise ValueError(f"backend: {self.backend!r} is unknown; allowed: {sorted(BACKENDS)}")
        if not 1 <= self.threads <= MOST_THREADS:
            raise ValueError(f"threads: {self.threads} is outside 1 to {MOST_THREADS}")
        for kind, amount in self.resources.items():
            check_amount(f"resources.{kind}", amount)

    @property
    def asked(self) -> dict[str, float]:
        """What the probe asks of one node, in Ray's names; no other work shares its GPU."""
        gpu = {"GPU": 1.0} if BACKENDS[self.backend].uses_gpu else {}
        asked = gpu | (self.resources or {"CPU": float(self.threads)})
        return {kind: amount for kind, amount in asked.items() if amount}


@dataclass(frozen=True)
class Search:
    """Which sweep points become trials.

    `grid` runs the product of the sweep's lists; `random` and `optuna` run `num_trials` points,
    after `points_to_evaluate`. Optuna proposes `batch` points at a time, so that a run repeats.
    """

    sampler: Literal["grid", "random", "optuna"] = "grid"
    num_trials: int | None = None
    batch: int = 4
    points_to_evaluate: tuple[dict[str, Any], ...] = ()
    time_budget_s: float | None = None

    def __post_init__(self) -> None:
        """Refuse counts that cannot be."""
        if self.sampler != "grid" and (self.num_trials is None or self.num_trials < 1):
            raise ValueError(f"num_trials: sampler {self.sampler!r} needs a number of at least 1")
        if self.sampler == "grid" and self.num_trials is not None:
            raise ValueError("num_trials: the grid decides; allowed for samplers random and optuna")
        if self.batch < 1:
            raise ValueError(f"batch: {self.batch} is below 1")
        if self.time_budget_s is not None and self.time_budget_s <= 0:
            raise ValueError(f"time_budget_s: {self.time_budget_s} is not positive")


@dataclass(frozen=True)
class Report:
    """What the report holds: test figures of the front only, or of every finished network."""

    test_all: bool = False


@dataclass(frozen=True)
class StudyConfig:
    """One study. `method`, `space` and `dataset` are a name, or a mapping with `name` and options.

    `storage` is the folder, or URI, that its directory is made in. `sweep` maps settings of the
    method (and `seed`) to lists, or is a list of such mappings whose grids are joined; samplers
    other than `grid` also take `{low, high, log}`. `cost` is what the front sets against the error:
    `latency_ms` (of the table), a cost model, or one that is drawn anew for every network that a
    method asks about: `measured_latency_ms`, measured where the trial runs, or
    `network_latency_ms`, on the machines of `network`. `finish: none` trains no chosen candidate by
    itself, for methods that train them together.
    """

    study: str
    method: dict[str, Any]
    space: dict[str, Any]
    dataset: dict[str, Any]
    storage: str = "runs"
    cost: str = "latency_ms"
    seed: int = 0
    sweep: dict[str, Any] | tuple[dict[str, Any], ...] = field(default_factory=dict)
    search: Search = Search()
    proxy: Proxy = Proxy()
    training: Recipe = Recipe()
    finish: Literal["best", "all", "none"] = "best"
    baselines: tuple[str, ...] = ()
    latency: Latency = Latency()
    network: Machines = Machines()
    resources: Resources = Resources()
    report: Report = Report()
    reference: str | None = None

    def __post_init__(self) -> None:
        """Refuse names and costs that do not exist, and seeds that no generator takes."""
        if self.seed < 0:
            raise ValueError(f"seed: {self.seed} is negative")
        if self.sweep == ():
            raise ValueError("sweep: the list is empty; a study without a sweep leaves it out")
        if not self.study or set(self.study) & set("/\\\0") or self.study.startswith("."):
            raise ValueError(f"study: {self.study!r} cannot be a folder's name")
        if self.cost not in COSTS:
            raise ValueError(f"cost: {self.cost!r} is unknown; allowed: {list(COSTS)}")
        if self.finish == "none" and METHODS[self.method["name"]].fuse is None:
            known = [name for name, method in METHODS.items() if method.fuse is not None]
            raise ValueError(
                f"finish: none leaves no network; allowed for methods that fuse networks: {known}"
            )
        if self.resources.trial_workers > 1 and METHODS[self.method["name"]].predictor is not None:
            raise ValueError(
                f"resources.trial_workers: {self.resources.trial_workers}; allowed: 1, since the"
                f" trials of {self.method['name']} share processes that evaluate for all of them"
            )

    def component(self, key: str, overrides: Mapping[str, Any] | None = None) -> Any:
        """Return the validated settings of `method`, `space` or `dataset`, with overrides.

        Raises:
            InputError: a setting is unknown, of the wrong type, or impossible.
        """
        options = {**getattr(self, key), **(overrides or {})}
        name = options.pop("name")
        for axis in METHODS[name].auto if key == "method" else ():
            if options.get(axis) == "auto":
                raise InputError(
                    f"{key}.{axis}: auto makes a list of values; allowed in `sweep` alone, with"
                    " search.sampler grid"
                )
        return validate(COMPONENTS[key][name].Config, options, key)

    def as_dict(self) -> dict[str, Any]:
        """Return the study as JSON values, every default written out."""
        return to_json(self)


def load_config(source: str, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read a study from a YAML file, or a ready study by its name, with `a.b=value` overrides.

    The file may be in an object store, as that of a study that is resumed.

    Raises:
        InputError: anything about it is wrong; nothing has been started or written.
    """
    values = _read_stored(source) if "://" in source else read_yaml(_locate(source))
    for override in overrides:
        _override(values, override)
    _check_plain(values, ())
    for key, registry in COMPONENTS.items():
        if key in values:
            values[key] = _component(key, values[key], registry)
    config: StudyConfig = validate(StudyConfig, values)
    return dataclasses.replace(
        config,
        method=_written_out(config, "method"),
        space=_written_out(config, "space"),
        dataset=_written_out(config, "dataset"),
    )


def read_settings(overrides: Sequence[str]) -> dict[str, Any]:
    """Return `a.b=value` settings as a mapping.

    Raises:
        InputError: one of them has another form, or a number that is not finite.
    """
    values: dict[str, Any] = {}
    for override in overrides:
        _override(values, override)
    _check_plain(values, ())
    return values


def ready_studies() -> list[str]:
    """Return the names of the studies that come with the package."""
    folder = resources.files("orchestrator.studies")
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.suffix == ".yaml")  # type: ignore[attr-defined]


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML 1.2 mapping (`no` is text and `1e-3` a number there).

    Raises:
        InputError: the file is absent, unreadable, not YAML, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    return _mapping(text, str(path))


def validate(cls: type, values: Mapping[str, Any], key: str | None = None) -> Any:
    """Build a settings record from JSON values, strictly; `key` prefixes the names in errors.

    Raises:
        InputError: names the first wrong key, what was given and what is allowed.
    """
    try:
        return from_json(cls, values)
    except TypeError as error:
        raise InputError(f"{key or 'study'}: {error}") from error
    except ValidationError as error:
        raise InputError(_one_line(cls, error, key)) from error


def study_schema() -> dict[str, Any]:
    """Return the JSON Schema of a study file, with the options of every component."""
    schema = adapter(StudyConfig).json_schema(by_alias=True)
    definitions = schema.setdefault("$defs", {})
    for key, registry in COMPONENTS.items():
        variants: list[dict[str, Any]] = [{"enum": sorted(registry)}]
        for name, entry in registry.items():
            variant = adapter(entry.Config).json_schema(by_alias=True)
            definitions.update(variant.pop("$defs", {}))
            variant.setdefault("properties", {})["name"] = {"const": name}
            variant["required"] = ["name", *variant.get("required", [])]
            variants.append({**variant, "title": f"{key} {name}"})
        schema["properties"][key] = {"anyOf": variants}
    return schema | {"$schema": "https://json-schema.org/draft/2020-12/schema"}


def nearest(name: str, known: Sequence[str]) -> str:
    """Return `; did you mean ...?` for a misspelt name, else an empty string."""
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _read_stored(uri: str) -> dict[str, Any]:
    folder, name = parent_and_name(uri)
    try:
        return _mapping(Storage(folder).read_bytes(name).decode(), uri)
    except StorageError as error:
        raise InputError(str(error)) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{uri}: cannot be read: {error}") from error


def _mapping(text: str, name: str) -> dict[str, Any]:
    try:
        values = parsed(text)
    except NotYamlError as error:
        line = f", line {error.line}" if error.line else ""
        raise InputError(f"{name}{line}: not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{name}: a study is a mapping of keys, got {_shown(values)}")
    return values


def _locate(source: str) -> Path:
    if source.endswith((".yaml", ".yml")) or "/" in source:
        path = Path(source)
        if not path.is_file():
            raise InputError(f"{source}: no such study file")
        return path
    known = ready_studies()
    if source not in known:
        raise InputError(
            f"study {source!r} is unknown{nearest(source, known)} (ready: {', '.join(known)};"
            " or give a path that ends in .yaml)"
        )
    return Path(str(resources.files("orchestrator.studies") / f"{source}.yaml"))


def _override(values: dict[str, Any], override: str) -> None:
    path, sign, text = override.partition("=")
    keys = path.split(".")
    if not sign or not all(keys):
        raise InputError(f"--set {override!r}: expected key=value, as in search.batch=4")
    try:
        value = parsed(text)
    except NotYamlError as error:
        raise InputError(f"--set {override!r}: {text!r} is not a YAML value") from error
    target = values
    for key in keys[:-1]:
        inner = target.setdefault(key, {})
        if isinstance(inner, str) and key in COMPONENTS:
            inner = target[key] = {"name": inner}
        if not isinstance(inner, dict):
            raise InputError(f"--set {override!r}: {key!r} is {_shown(inner)}, not a mapping")
        target = inner
    if keys[-1] in COMPONENTS and isinstance(value, str) and len(keys) == 1:
        value = {"name": value}
    target[keys[-1]] = value


def _component(key: str, given: Any, registry: Mapping[str, Any]) -> dict[str, Any]:
    options = {"name": given} if isinstance(given, str) else given
    if not isinstance(options, dict) or not isinstance(options.get("name"), str):
        raise InputError(
            f"{key}: expected a name or a mapping with `name`, got {_shown(given)};"
            f" known: {sorted(registry)}"
        )
    name = options["name"]
    if name not in registry:
        known = sorted(registry)
        raise InputError(f"{key}: {name!r} is unknown{nearest(name, known)}; allowed: {known}")
    return options


def _written_out(config: StudyConfig, key: str) -> dict[str, Any]:
    return {"name": getattr(config, key)["name"], **to_json(config.component(key))}


def _check_plain(value: Any, path: tuple[str, ...]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise InputError(f"{'.'.join(path) or 'study'}: key {key!r} is not text")
            _check_plain(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _check_plain(inner, (*path, str(index)))
    elif isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{'.'.join(path)}: {value} is not a finite number")
    elif not isinstance(value, str | int | float | None):
        kind = type(value).__name__
        raise InputError(f"{'.'.join(path)}: {value} is a {kind}; in quotes it is text")


def _one_line(cls: type, error: ValidationError, prefix: str | None) -> str:
    first = error.errors()[0]
    # A choice of types adds its branches to the location; keys and positions are what users wrote.
    loc = [str(part) for part in first["loc"] if not str(part).startswith(("dict[", "tuple["))]
    key = ".".join([prefix, *loc] if prefix else loc)
    kind, given = first["type"], _shown(first["input"])
    if kind == "unexpected_keyword_argument":
        siblings = _field_names(cls, loc[:-1])
        return f"{key}: unknown key{nearest(loc[-1], siblings)}; allowed: {siblings}"
    if kind in ("missing", "missing_argument"):
        return f"{key}: is missing"
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if kind == "value_error":
        return f"{key}.{message}" if key else message
    return f"{key}: {message}, got {given}"


def _field_names(cls: type, path: Sequence[str]) -> list[str]:
    schema = adapter(cls).json_schema(by_alias=True)
    node = schema
    for part in path:
        node = node.get("properties", {}).get(part, {})
        reference = node.get("$ref") or next(
            (option["$ref"] for option in node.get("anyOf", ()) if "$ref" in option), None
        )
        if reference:
            node = schema["$defs"][reference.rsplit("/", 1)[-1]]
    return list(node.get("properties", {}))


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
