"""The settings of a run: the only file that sees a configuration.

Each setting is declared once, by its field: what it can be, whether it may change when a run goes
on and, as its default, what a run did whose release did not have it yet.
"""

import dataclasses
import difflib
import importlib.util
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from absl import logging
from ml_collections import ConfigDict

import clef_jax
from clef_jax import models
from clef_jax.data.batches.rows import RecordsPerPatient
from clef_jax.errors import ClefError
from clef_jax.methods import MethodError, describe_options, read_options
from clef_jax.methods.options import Options
from clef_jax.nested import flatten, nest
from clef_jax.train.evaluators.evaluator import NEVER
from clef_jax.train.evaluators.registry import EVALUATORS

# As `configs/` make it; other files only hand it on.
Configuration: TypeAlias = ConfigDict


class ConfigError(ClefError):
    """A configuration that cannot be run; the message names the key, its value and the choices."""


class _Rule(NamedTuple):
    """What a setting can be, and how that is said."""

    allows: Callable[[Any], bool]
    expected: str


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool)


def _is_whole(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool)


def _one_of(*names: str) -> _Rule:
    listed = " or ".join(names) if len(names) == 2 else f"one of {', '.join(names)}"
    return _Rule(lambda x: x in names, f"choose {listed}")


_COUNT = _Rule(lambda x: _is_whole(x) and x >= 1, "it must be a whole number, at least 1")
_WHOLE = _Rule(lambda x: _is_whole(x) and x >= 0, "it must be a whole number, 0 or more")
_PERIOD = _Rule(
    lambda x: _is_whole(x) and x >= NEVER,
    "it must be a number of steps, or 0 for the end only, or -1 for never",
)
_RATE = _Rule(lambda x: _is_number(x) and 0 <= x < math.inf, "it must be 0 or more")
_SCALE = _Rule(lambda x: _is_number(x) and 0 < x < math.inf, "it must be above 0")
_LIMIT = _Rule(lambda x: x is None or _SCALE.allows(x), "it must be above 0, or unset")
_FRACTION = _Rule(
    lambda x: x is None or (_is_number(x) and 0 <= x < 1),
    "it must be from 0 to below 1, or unset",
)
_SWITCH = _Rule(lambda x: isinstance(x, bool), "choose True or False")
_PATHS = _Rule(lambda x: isinstance(x, str), "it must be a path, or empty")


def _is_range_of_steps(x: Any) -> bool:
    found = re.fullmatch(r"([0-9]{1,12}):([0-9]{1,12})", x) if isinstance(x, str) else None
    return found is not None and 2 <= int(found[1]) < int(found[2])


_STEPS = _Rule(
    lambda x: x == "" or _is_range_of_steps(x),
    "write START:STOP, the first of some steps, at least 2 as step 1 compiles, and the one after "
    "the last; or nothing",
)


def _setting(rule: _Rule, *, free: bool = False, before: Any = dataclasses.MISSING) -> Any:
    """Declares a setting.

    Args:
        rule: What it can be.
        free: Whether it may change when a run goes on, as it alters nothing that a step computes,
            or as what it points to is compared instead.
        before: What a run did whose release did not have it yet.
    """
    return dataclasses.field(default=before, metadata={"rule": rule, "free": free}, kw_only=True)


@dataclasses.dataclass(frozen=True)
class EncoderSettings:
    """The encoder, and what it starts from."""

    model: str = _setting(_one_of(*models.list_models()))
    dtype: str = _setting(_one_of("float32", "bfloat16"))
    remat: bool = _setting(_SWITCH, before=False)
    rows_at_once: int = _setting(_WHOLE, free=True, before=0)
    init: str = _setting(_PATHS, free=True)
    tune: bool = _setting(_SWITCH, free=True, before=False)


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """What a batch is made of, and how it is read."""

    batch_size: int = _setting(_COUNT)
    records_per_patient: RecordsPerPatient = _setting(_one_of("first", "random", "all"))
    annotations: str = _setting(_PATHS, free=True, before="")
    validation_fraction: float | None = _setting(_FRACTION, free=True, before=None)
    noise: str = _setting(_PATHS, free=True)
    num_threads: int = _setting(_COUNT, free=True)
    num_workers: int = _setting(_WHOLE, free=True)


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """AdamW, its learning rate over the steps, the average of what it gives, where they lie."""

    learning_rate: float = _setting(_RATE)
    weight_decay: float = _setting(_RATE)
    schedule: str = _setting(_one_of("warm_restarts", "warmup_cosine"))
    warmup_steps: int = _setting(_WHOLE)
    clip_norm: float | None = _setting(_LIMIT, before=None)
    ema_decay: float | None = _setting(_FRACTION, before=None)
    shard_state: bool = _setting(_SWITCH, free=True, before=False)


@dataclasses.dataclass(frozen=True)
class CadenceSettings:
    """How long the run goes on, and what it writes when."""

    epochs: int = _setting(_COUNT, free=True)
    steps: int = _setting(_WHOLE, free=True)
    log_steps: int = _setting(_COUNT, free=True)
    checkpoint_steps: int = _setting(_COUNT, free=True)
    keep_checkpoints: int = _setting(_COUNT, free=True)
    patience: int = _setting(_WHOLE, free=True)
    tensorboard: bool = _setting(_SWITCH, free=True, before=False)
    profile: str = _setting(_STEPS, free=True, before="")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The settings of a run, each of them possible.

    Attributes:
        seed: Of weights, order of the records, augmentation.
        encoder: Keys `model`, `dtype`, `remat`, `rows_at_once`, `init`, `tune`.
        data: Keys of the batches.
        method: Options of the method of learning, from `config.method`.
        optimizer: Keys of the optimiser.
        cadence: Keys of the run's length, logging and checkpoints.
        evaluators: Steps from one evaluation to the next by the name of every evaluator, from
            `config.evaluators`; all but `NEVER` are due at the end as well.
        record: All of them as JSON has them, by their keys.
    """

    seed: int = _setting(_WHOLE)
    encoder: EncoderSettings
    data: DataSettings
    method: Options
    optimizer: OptimizerSettings
    cadence: CadenceSettings
    evaluators: Mapping[str, int]
    record: Mapping[str, Any]


# The groups of settings whose keys are flat, as nearly all of a configuration are.
_GROUPS = {
    "encoder": EncoderSettings,
    "data": DataSettings,
    "optimizer": OptimizerSettings,
    "cadence": CadenceSettings,
}
_SEED = next(field for field in dataclasses.fields(RunSettings) if field.name == "seed")
_FIELDS = (
    {"seed": _SEED}
    | {field.name: field for group in _GROUPS.values() for field in dataclasses.fields(group)}
    | {
        f"evaluators.{name}": _setting(_PERIOD, free=True, before=kind.before)
        for name, kind in EVALUATORS.items()
    }
)
# Keys of earlier releases and what they are called now.
RENAMED = {
    "eval_steps": "evaluators.validation",
    "objective": "method",
    "profile_steps": "profile",
}


def describe_unlisted() -> dict[str, str]:
    """Returns what may be set by the names of methods and evaluators, and what each setting is.

    A configuration need not list them, as there may be more than it makes use of.
    """
    options = {f"method.{name}": about for name, about in describe_options().items()}
    periods = {
        f"evaluators.{name}": f"Steps from one evaluation to the next ({kind.before} unless set)."
        for name, kind in EVALUATORS.items()
        if kind.before is not dataclasses.MISSING
    }
    return options | periods


def read_settings(config: Configuration) -> RunSettings:
    """Returns the settings of a configuration, of the form of those in `configs/`.

    Raises:
        ConfigError: A key is unknown or missing, or no data or device could make its value
            possible.
    """
    nested = config.to_dict()
    method = nested.pop("method", {})
    values = flatten(nested)
    _require_known(values)
    if not isinstance(method, Mapping):
        raise ConfigError(f"config.method is {method!r}; it must hold a name and options")
    if "name" not in method:
        raise _missing("method.name")
    for key, field in _FIELDS.items():
        values.setdefault(key, field.default)
        if values[key] is dataclasses.MISSING:
            raise _missing(key)
        rule = field.metadata["rule"]
        if not rule.allows(values[key]):
            raise ConfigError(f"config.{key} is {values[key]!r}; {rule.expected}")
    groups = {
        name: group(**{f.name: values[f.name] for f in dataclasses.fields(group)})
        for name, group in _GROUPS.items()
    }
    settings = RunSettings(
        seed=values["seed"],
        method=_read_method(method),
        evaluators={name: values[f"evaluators.{name}"] for name in EVALUATORS},
        record=nest(values) | {"method": method},
        **groups,
    )
    if settings.cadence.tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise ConfigError("config.tensorboard needs: pip install 'clef-jax[tensorboard]'")
    if settings.cadence.patience and settings.evaluators["validation"] == NEVER:
        raise ConfigError(
            f"config.patience is {settings.cadence.patience}, but config.evaluators.validation is "
            f"{NEVER}, never; set one of them otherwise"
        )
    return settings


def _read_method(given: Mapping[str, Any]) -> Options:
    try:
        return read_options(given)
    except MethodError as error:
        raise ConfigError(f"config.{error}") from None


def _missing(key: str) -> ConfigError:
    return ConfigError(f"config.{key} is missing; configs/clef_small.py has every setting")


def _require_known(values: Mapping[str, Any]) -> None:
    for key in sorted(values.keys() - _FIELDS):
        outermost = key.split(".")[0]
        if outermost in RENAMED:
            raise ConfigError(f"config.{outermost} is called config.{RENAMED[outermost]} now")
        (near,) = difflib.get_close_matches(key, _FIELDS, n=1, cutoff=0)
        raise ConfigError(f"config.{key}: there is no such setting; the nearest is config.{near}")


def without_paths(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `RunSettings.record` without the settings that say where something lies."""
    paths = {key for key, field in _FIELDS.items() if field.metadata["rule"] is _PATHS}
    return nest({key: value for key, value in flatten(record).items() if key not in paths})


def setting_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Compares the record of a run's settings with that of the settings it would go on with.

    Args:
        old: `RunSettings.record` as this or an earlier release wrote it, with the keys of now.
        new: This release's.

    Returns:
        A phrase for each setting that would alter what the next steps compute.
    """
    differing = _method_differences(old["method"], new["method"])
    old, new = (flatten({k: v for k, v in r.items() if k != "method"}) for r in (old, new))
    free = {key for key, field in _FIELDS.items() if field.metadata["free"]}
    if new["schedule"] == "warmup_cosine":
        free -= {"epochs", "steps"}  # The length of the run shapes the cosine.
    for key in sorted((old.keys() | new.keys()) - free):
        before = _FIELDS[key].default if key in _FIELDS else dataclasses.MISSING
        if key not in new:
            differing.append(
                f"config.{key} was {old[key]!r}, a key that clef_jax {clef_jax.__version__} does "
                "not know"
            )
        elif (found := old.get(key, before)) is dataclasses.MISSING:
            logging.warning("config.%s came after the run began; it is %r now", key, new[key])
        elif found != new[key]:
            differing.append(f"config.{key} was {found!r} and is {new[key]!r}")
    return differing


def _method_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Compares methods by what their options come to, whether set, a preset's or a default.

    So an option that a run lacks has its default, which must mean what runs did before it.
    """
    if old["name"] != new["name"]:
        return [f"config.method.name was {old['name']!r} and is {new['name']!r}"]
    try:
        before = dataclasses.asdict(read_options(old))
    except MethodError as error:
        return [f"config.{error}: a choice that clef_jax {clef_jax.__version__} does not know"]
    now = dataclasses.asdict(read_options(new))
    return [
        f"config.method.{key} was {before[key]!r} and is {now[key]!r}"
        for key in now
        if before[key] != now[key]
    ]
