"""Every setting, checked when it is made; the only module that reads environment variables.

:class:`Settings` configures the runtime, :class:`ExecutionUtilsConfig` the documents' ``ExecutionUtils``, and
:class:`ExecutorConfig` is the checked form of the dict that the documents' ``OperationExecutor`` takes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_type_hints

import yaml
from dotenv import dotenv_values
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource, SettingsConfigDict

from aiecs_ray.errors import InvalidConfigError
from aiecs_ray.quoting import nearest, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic_settings import PydanticBaseSettingsSource

PREFIX = "AIECS_RAY_"
"""What the names of the environment variables of :class:`Settings` start with."""
ENV_FILE = ".env"
MAX_SECONDS = 1e9
"""The longest duration that is believed (30 years)."""


def _not_bool(value: object) -> object:
    """Python takes True for 1; a setting does not."""
    if isinstance(value, bool):
        raise ValueError("Input should be a number")  # noqa: TRY004  # pydantic reports a ValueError, not a TypeError
    return value


_NotBool = BeforeValidator(_not_bool)
Count = Annotated[int, _NotBool, Field(ge=0, le=2**53)]
Positive = Annotated[int, _NotBool, Field(ge=1, le=2**53)]
Attempts = Annotated[int, _NotBool, Field(ge=1, le=100)]
Seconds = Annotated[float, _NotBool, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False)]
SecondsOrZero = Annotated[float, _NotBool, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]


class Settings(BaseSettings):
    """How a runtime behaves. Made with keywords it reads nothing else; :meth:`load` reads environment and files.

    Raises:
        InvalidConfigError: a name is unknown (the message has the nearest known one) or a value out of range.

    >>> Settings(window=4).window
    4
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=PREFIX,
        env_ignore_empty=True,
        dotenv_filtering="match_prefix",
    )

    namespace: Annotated[str, Field(pattern=r"\A[A-Za-z][A-Za-z0-9_.-]{0,63}\z")] = "aiecs_ray"
    """Ray namespace of the shared actors."""
    inline_limit: Annotated[int, _NotBool, Field(ge=0, le=16 * 1024 * 1024)] = 65_536
    """Bytes up to which a value travels inside messages; a larger one goes through the object store."""
    result_ttl: Seconds = 3600.0
    """Seconds for which the results of a finished run are kept."""
    result_fraction: Annotated[float, _NotBool, Field(gt=0, le=1, allow_inf_nan=False)] = 0.1
    """Share of the object store that results of finished runs may fill."""
    window: Annotated[int, _NotBool, Field(ge=1, le=1000)] = 2
    """How many steps a replica may run ahead of what was read."""
    grace: Annotated[float, _NotBool, Field(ge=0, le=3600, allow_inf_nan=False)] = 2.0
    """Seconds between asking an operation to stop and killing its process."""
    idle_timeout: Seconds = 300.0
    """Seconds after which an idle replica is stopped, unless its tool says otherwise."""
    init_timeout: Seconds = 600.0
    """Seconds that a tool's constructor may take, unless its tool says otherwise."""
    init_pause: SecondsOrZero = 5.0
    """Seconds for which the error of a constructor stands; then work for its tool has it tried again."""
    max_result_bytes: Positive = 4 * 2**30
    """Bytes that one result may have."""
    chunk_seconds: Annotated[float, _NotBool, Field(gt=0, le=60, allow_inf_nan=False)] = 0.05
    """Seconds of work that are sent to a replica in one chunk of small operations."""
    cache_entries: Count = 10_000
    """Entries of the shared cache; 0 switches it off."""
    cache_bytes: Count | None = None
    """Bytes that the values of the shared cache may take together; None: three tenths of its node's object store."""
    cache_ttl: SecondsOrZero = 3600.0
    """Seconds for which a cached value lives, unless its operation says otherwise; 0: for ever."""
    cache_user_share: Annotated[float, _NotBool, Field(gt=0, le=1, allow_inf_nan=False)] = 1.0
    """Share of ``cache_bytes`` that the results of one user may fill; global results belong to nobody."""
    cache_dir: str | None = None
    """Directory in which cached results survive the cluster; the cache's node must be able to write to it."""
    cache_dir_bytes: Count = 10 * 2**30
    """Bytes that the files in ``cache_dir`` may take together."""
    event_limit: Positive = 100_000
    """Events kept of one run; the oldest go first."""
    max_queued: Positive = 1_000_000
    """Operations that may wait in the coordinator; more are refused with ``BusyError``."""
    history_url: str | None = None
    """Where runs are recorded: the URL of a database as SQLAlchemy has it, or "off". None: on Ray a file of the user
    on the head node, ``aiecs_ray/history.sqlite3`` in ``$XDG_STATE_HOME`` or ``~/.local/state``; in process nowhere."""
    history_detail: Count = 1000
    """Steps up to which a run is recorded step by step; of a longer one, those that fail, and the others together."""
    history_value_bytes: Count = 65_536
    """Bytes up to which the result of such a step is kept; at most ``inline_limit``, and 0 keeps none."""
    history_days: Annotated[float, _NotBool, Field(gt=0, le=36_525, allow_inf_nan=False)] = 30.0
    """Days for which a run is kept."""
    history_runs: Positive = 100_000
    """Runs that are kept; the oldest go first."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] | None = None
    """From which level on this package writes logs to standard error, in the client, the shared actors and replicas;
    None: nothing is configured."""
    log_json: bool = False
    """Whether these logs are JSON, one object a line."""
    metrics: bool = True
    """Measure operations, cache, queues and replicas, and publish it on Ray's metrics port."""
    connect_timeout: Annotated[float, _NotBool, Field(gt=0, le=3600, allow_inf_nan=False)] = 2.0
    """Seconds within which a cluster's address must answer."""

    def __init__(self, **values: Any) -> None:
        _refuse_unknown(values, type(self).model_fields)
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _explain(error) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  # pydantic-settings passes all of these by name
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the constructor take its keywords only: the same code gives the same value on every machine."""
        return (init_settings,)

    @classmethod
    def load(cls, path: str | Path | None = None, *, env_file: str | Path | None = ENV_FILE, **overrides: Any) -> Self:
        """Return the settings of this process.

        A keyword wins over ``AIECS_RAY_<NAME>`` in the environment, that over the same in ``env_file``, that over the
        YAML file at ``path``, and that over the default. ``env_file`` need not exist; ``path`` must when given.

        Raises:
            InvalidConfigError: a name is unknown, a value out of range, or the file cannot be read.
        """
        from_file = _read_yaml(path) if path is not None else {}
        from_env_file = DotEnvSettingsSource(cls, env_file=env_file)()
        _refuse_unknown(from_file, cls.model_fields)
        _refuse_unknown(from_env_file, cls.model_fields, PREFIX)
        given = [name.upper().removeprefix(PREFIX) for name in os.environ if name.upper().startswith(PREFIX)]
        _refuse_unknown(map(str.lower, given), cls.model_fields, PREFIX)
        return cls(**{**from_file, **from_env_file, **EnvSettingsSource(cls)(), **overrides})


def user_history() -> str:
    """Return the URL of this user's history."""
    folder = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return f"sqlite:///{Path(folder) / 'aiecs_ray' / 'history.sqlite3'}"


def named_cluster() -> str | None:
    """Return the address in ``RAY_ADDRESS``."""
    return os.environ.get("RAY_ADDRESS") or None


def origins(path: str | Path | None = None, *, env_file: str | Path | None = ENV_FILE) -> dict[str, str]:
    """Return, for each setting, where :meth:`Settings.load` takes its value from."""
    from_file = _read_yaml(path) if path is not None else {}
    from_env_file = DotEnvSettingsSource(Settings, env_file=env_file)()
    from_environment = EnvSettingsSource(Settings)()
    found = {}
    for name in Settings.model_fields:
        if name in from_environment:
            found[name] = f"environment ({PREFIX}{name.upper()})"
        elif name in from_env_file:
            found[name] = f"file {env_file}"
        else:
            found[name] = f"file {path}" if name in from_file else "default"
    return found


@dataclass(frozen=True)
class ExecutionUtilsConfig:
    """What ``ExecutionUtils`` is made from (document S1, "配置选项"); each name is also a class attribute.

    >>> ExecutionUtilsConfig.CACHE_SIZE, ExecutionUtilsConfig(CACHE_SIZE=5).CACHE_SIZE
    (1000, 5)
    """

    CACHE_SIZE: Count = 1000
    """Entries; 0 switches the cache off."""
    CACHE_TTL: SecondsOrZero = 3600
    """Seconds; 0: for ever."""
    RETRY_ATTEMPTS: Attempts = 3
    """All attempts, the first one too."""
    RETRY_BACKOFF: SecondsOrZero = 1.0
    """Seconds before the second attempt; doubled for each further one, from 1 s up to 10 s."""
    DEFAULT_TIMEOUT: Seconds = 30
    """Seconds an attempt may take when the caller says nothing."""
    MAX_CONCURRENT_OPERATIONS: Positive = 100
    CACHE_CLEANUP_INTERVAL: Seconds = 300
    """Seconds between two sweeps of entries whose time has passed."""
    MAX_WORKERS: Positive | None = None
    """Operations that a tool executor runs at once; None: as many as it can."""

    def __post_init__(self) -> None:
        for name, adapter in _adapters(ExecutionUtilsConfig).items():
            object.__setattr__(self, name, _check(name, getattr(self, name), adapter))

    @classmethod
    def from_env(cls, *, env_file: str | Path | None = ENV_FILE, **overrides: Any) -> Self:
        """Return the configuration of this process.

        A keyword wins over ``EXECUTION_<NAME>``, that over ``TOOL_EXECUTOR_<NAME>``, that over the default
        (contradiction C-28). Either may stand in ``env_file``; the environment wins over it.

        Raises:
            InvalidConfigError: a keyword is unknown or a value out of range; the message has the variable's name.
        """
        names = [f.name for f in fields(cls)]
        _refuse_unknown(overrides, names)
        variables = {**(dotenv_values(env_file) if env_file is not None else {}), **os.environ}
        values: dict[str, Any] = {}
        for name, adapter in _adapters(ExecutionUtilsConfig).items():
            for variable in (f"EXECUTION_{name}", f"TOOL_EXECUTOR_{name}"):
                if text := variables.get(variable):
                    values[name] = _check(variable, text, adapter)
                    break
        return cls(**{**values, **overrides})


class ExecutorConfig(BaseModel):
    """The configuration of ``OperationExecutor`` (document S0, "配置参数"), checked as a whole (contradiction C-69).

    Raises:
        InvalidConfigError: a name is unknown (the message has the nearest known one) or a value out of range.

    >>> ExecutorConfig(**{"batch_size": 50}).batch_size
    50
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    rate_limit_requests_per_second: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] | None = 5.0
    """Operations that may start in any second; None: no limit."""
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    enable_cache: bool = True
    """False switches the cache off on every path."""
    timeout: Annotated[float, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False)] | None = 30.0
    """Seconds an attempt may take; None: no limit."""
    parallel_step_naming: Literal["prefixed", "spec"] = "prefixed"
    """How a parallel step is called: ``parallel_0_tool.op`` or ``tool.op`` (contradiction C-13)."""
    strict_references: bool = True
    """Refuse a run with a reference that can never resolve before anything starts (contradiction C-04)."""

    def __init__(self, **values: Any) -> None:
        _refuse_unknown(values, type(self).model_fields)
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _explain(error) from None


def _refuse_unknown(names: Iterable[str], known: Iterable[str], prefix: str = "") -> None:
    choices = list(known)
    for name in names:
        if name not in choices:
            hints = tuple(_spelled(prefix, choice) for choice in nearest(name, choices, 1))
            raise InvalidConfigError(_spelled(prefix, str(name)), "there is no such setting", hints)


def _spelled(prefix: str, name: str) -> str:
    return f"{prefix}{name.upper()}" if prefix else name


def _read_yaml(path: str | Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidConfigError(str(path), f"the file cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidConfigError(str(path), f"the file is not YAML: {shorten(str(error), 200)}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InvalidConfigError(str(path), "the file must hold names and values, one per line")
    return content


@cache
def _adapters(cls: type) -> Mapping[str, TypeAdapter[Any]]:
    return {name: TypeAdapter(hint) for name, hint in get_type_hints(cls, include_extras=True).items()}


def _check(name: str, value: object, adapter: TypeAdapter[Any]) -> Any:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise _explain(error, name) from None


def _explain(error: ValidationError, name: str | None = None) -> InvalidConfigError:
    """Return the first problem that pydantic found; its own text is many lines long."""
    first = error.errors(include_url=False)[0]
    problem = first["msg"].removeprefix("Value error, ")
    return InvalidConfigError(name or str(first["loc"][0]), f"{problem}, not {shorten(first['input'])}")
