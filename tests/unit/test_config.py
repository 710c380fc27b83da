"""Settings are checked when they are made, and come from keywords, environment, files and defaults in that order."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from aiecs_ray.config import PREFIX, ExecutionUtilsConfig, ExecutorConfig, Settings
from aiecs_ray.errors import InvalidConfigError


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of this machine and no .env of this folder takes part."""
    for name in list(os.environ):
        if name.upper().startswith((PREFIX, "EXECUTION_", "TOOL_EXECUTOR_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text("window: 3\ngrace: 1.5\nnamespace: from_file\n", encoding="utf-8")
    return path


def test_the_defaults_are_the_designs() -> None:
    assert Settings.load().model_dump() == {
        "namespace": "aiecs_ray",
        "inline_limit": 65_536,
        "result_ttl": 3600.0,
        "result_fraction": 0.1,
        "window": 2,
        "grace": 2.0,
        "idle_timeout": 300.0,
        "init_timeout": 600.0,
        "init_pause": 5.0,
        "max_result_bytes": 4 * 2**30,
        "chunk_seconds": 0.05,
        "cache_entries": 10_000,
        "cache_bytes": None,
        "cache_ttl": 3600.0,
        "cache_user_share": 1.0,
        "cache_dir": None,
        "cache_dir_bytes": 10 * 2**30,
        "event_limit": 100_000,
        "max_queued": 1_000_000,
        "history_url": None,
        "history_detail": 1000,
        "history_value_bytes": 65_536,
        "history_days": 30.0,
        "history_runs": 100_000,
        "log_level": None,
        "log_json": False,
        "metrics": True,
        "connect_timeout": 2.0,
    }


def test_a_keyword_wins_over_the_environment_over_env_file_over_file_over_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path
) -> None:
    (tmp_path / ".env").write_text("AIECS_RAY_GRACE=9\nAIECS_RAY_WINDOW=5\n", encoding="utf-8")
    monkeypatch.setenv("AIECS_RAY_WINDOW", "7")
    monkeypatch.setenv("AIECS_RAY_CACHE_TTL", "10")

    settings = Settings.load(file, cache_ttl=20)

    assert settings.cache_ttl == 20.0
    assert settings.window == 7
    assert settings.grace == 9.0
    assert settings.namespace == "from_file"
    assert settings.idle_timeout == 300.0


def test_an_env_file_may_be_named_or_left_out(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("AIECS_RAY_WINDOW=5\n", encoding="utf-8")
    (tmp_path / "other.env").write_text("AIECS_RAY_WINDOW=6\n", encoding="utf-8")

    found = [Settings.load(env_file=name).window for name in (".env", tmp_path / "other.env", None, "absent.env")]

    assert found == [5, 6, 2, 2]


def test_variables_of_others_in_the_env_file_are_not_ours(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DATABASE_URL=x\nEXECUTION_CACHE_SIZE=5\nAIECS_RAY_WINDOW=5\n", encoding="utf-8")

    assert Settings.load().window == 5


def test_the_constructor_reads_its_keywords_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIECS_RAY_WINDOW", "7")
    (tmp_path / ".env").write_text("AIECS_RAY_GRACE=9\n", encoding="utf-8")

    settings = Settings(idle_timeout=5)

    assert (settings.window, settings.grace, settings.idle_timeout) == (2, 2.0, 5.0)


def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIECS_RAY_WINDOW", "")

    assert Settings.load().window == 2


def test_an_empty_file_says_nothing(file: Path) -> None:
    file.write_text("", encoding="utf-8")

    assert Settings.load(file) == Settings()


def test_settings_do_not_change_and_travel_to_other_processes() -> None:
    settings = Settings(window=9)

    with pytest.raises(ValidationError, match="frozen"):
        settings.window = 3

    assert pickle.loads(pickle.dumps(settings)) == settings
    assert settings.window == 9


def test_an_unknown_keyword_is_answered_with_the_nearest_known_one() -> None:
    with pytest.raises(InvalidConfigError, match=r"'windw': there is no such setting \(did you mean 'window'\?\)"):
        Settings(windw=3)
    with pytest.raises(InvalidConfigError, match="did you mean 'cache_ttl'"):
        Settings.load(cach_ttl=3)


def test_an_unknown_variable_is_answered_with_the_nearest_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIECS_RAY_IDLE_TIMEOUTS", "3")

    with pytest.raises(
        InvalidConfigError, match=r"'AIECS_RAY_IDLE_TIMEOUTS'.*did you mean 'AIECS_RAY_IDLE_TIMEOUT'\?"
    ) as caught:
        Settings.load()

    assert caught.value.nearest == ("AIECS_RAY_IDLE_TIMEOUT",)


def test_an_unknown_variable_in_the_env_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("AIECS_RAY_WINDOWS=5\n", encoding="utf-8")

    with pytest.raises(InvalidConfigError, match="did you mean 'AIECS_RAY_WINDOW'"):
        Settings.load()


def test_an_unknown_key_in_the_file_is_answered_with_the_nearest_known_one(file: Path) -> None:
    file.write_text("name_space: x\n", encoding="utf-8")

    with pytest.raises(InvalidConfigError, match="did you mean 'namespace'"):
        Settings.load(file)


def test_a_key_that_is_no_name_is_refused(file: Path) -> None:
    file.write_text("1: x\n", encoding="utf-8")

    with pytest.raises(InvalidConfigError, match="'1': there is no such setting"):
        Settings.load(file)


@pytest.mark.parametrize(
    ("content", "problem"),
    [("- a\n- b\n", "must hold names and values"), ("a: [\n", "is not YAML"), ("3\n", "must hold names and values")],
)
def test_a_file_that_holds_no_settings_is_refused(file: Path, content: str, problem: str) -> None:
    file.write_text(content, encoding="utf-8")

    with pytest.raises(InvalidConfigError, match=problem):
        Settings.load(file)


def test_a_file_that_is_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfigError, match="the file cannot be read: No such file"):
        Settings.load(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("namespace", ""),
        ("namespace", "a/b"),
        ("namespace", "x" * 65),
        ("namespace", "name\n"),
        ("inline_limit", -1),
        ("inline_limit", 2**25),
        ("inline_limit", 1.5),
        ("result_ttl", 0),
        ("result_ttl", float("nan")),
        ("result_ttl", float("inf")),
        ("result_ttl", 1e300),
        ("result_fraction", 0),
        ("result_fraction", 1.1),
        ("window", 0),
        ("window", True),
        ("grace", -0.1),
        ("idle_timeout", "x"),
        ("chunk_seconds", 61),
        ("cache_entries", -1),
        ("cache_ttl", False),
        ("event_limit", 0),
        ("max_queued", None),
        ("connect_timeout", 0),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidConfigError, match=f"Setting '{name}': "):
        Settings(**{name: value})


@pytest.mark.parametrize(
    ("kind", "ends"),
    [
        (Settings, {"inline_limit": (0, 2**24), "window": (1, 1000), "grace": (0, 3600), "cache_entries": (0, 2**53)}),
        (Settings, {"result_fraction": (0.001, 1), "event_limit": (1, 2**53), "idle_timeout": (0.001, 1e9)}),
        (Settings, {"cache_ttl": (0, 1e9), "connect_timeout": (0.001, 3600), "chunk_seconds": (0.001, 60)}),
        (ExecutionUtilsConfig, {"RETRY_ATTEMPTS": (1, 100), "CACHE_SIZE": (0, 2**53), "MAX_WORKERS": (1, None)}),
        (ExecutorConfig, {"rate_limit_requests_per_second": (0.001, 100_000), "batch_size": (1, 1_000_000)}),
        (ExecutorConfig, {"timeout": (0.001, 1e9)}),
    ],
)
def test_the_ends_of_each_range_are_taken(kind: Any, ends: dict[str, tuple[Any, Any]]) -> None:
    for name, values in ends.items():
        for value in values:
            assert getattr(kind(**{name: value}), name) == value


def test_the_message_shows_range_and_value() -> None:
    with pytest.raises(InvalidConfigError) as caught:
        Settings(window=0)

    assert str(caught.value) == "Setting 'window': Input should be greater than or equal to 1, not 0"
    assert isinstance(caught.value, ValueError)
    assert caught.value.error_code == "E001"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


# --- ExecutionUtilsConfig -------------------------------------------------------------------------------


def test_the_documents_constants_are_readable_on_the_class() -> None:
    kind = ExecutionUtilsConfig

    assert (kind.CACHE_SIZE, kind.CACHE_TTL, kind.RETRY_ATTEMPTS, kind.RETRY_BACKOFF) == (1000, 3600, 3, 1.0)
    assert (kind.DEFAULT_TIMEOUT, kind.MAX_CONCURRENT_OPERATIONS, kind.CACHE_CLEANUP_INTERVAL) == (30, 100, 300)


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("EXECUTION_CACHE_SIZE", "7", "CACHE_SIZE", 7),
        ("EXECUTION_CACHE_TTL", "8", "CACHE_TTL", 8.0),
        ("EXECUTION_RETRY_ATTEMPTS", "9", "RETRY_ATTEMPTS", 9),
        ("EXECUTION_RETRY_BACKOFF", "0.5", "RETRY_BACKOFF", 0.5),
        ("EXECUTION_DEFAULT_TIMEOUT", "45", "DEFAULT_TIMEOUT", 45.0),
        ("TOOL_EXECUTOR_CACHE_SIZE", "0", "CACHE_SIZE", 0),
        ("TOOL_EXECUTOR_CACHE_TTL", "0", "CACHE_TTL", 0.0),
        ("TOOL_EXECUTOR_MAX_WORKERS", "4", "MAX_WORKERS", 4),
    ],
)
def test_each_documented_variable_sets_its_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, name: str, value: float
) -> None:
    monkeypatch.setenv(variable, text)

    config = ExecutionUtilsConfig.from_env()

    assert getattr(config, name) == value
    assert config != ExecutionUtilsConfig()


def test_explicit_wins_over_execution_over_tool_executor_over_default(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [ExecutionUtilsConfig.from_env().CACHE_SIZE]
    monkeypatch.setenv("TOOL_EXECUTOR_CACHE_SIZE", "1")
    found.append(ExecutionUtilsConfig.from_env().CACHE_SIZE)
    monkeypatch.setenv("EXECUTION_CACHE_SIZE", "2")
    found.append(ExecutionUtilsConfig.from_env().CACHE_SIZE)

    found.append(ExecutionUtilsConfig.from_env(CACHE_SIZE=3).CACHE_SIZE)

    assert found == [1000, 1, 2, 3]


def test_the_env_file_is_read_and_the_environment_wins_over_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("EXECUTION_CACHE_SIZE=5\nEXECUTION_CACHE_TTL=6\n", encoding="utf-8")
    monkeypatch.setenv("EXECUTION_CACHE_TTL", "7")

    config = ExecutionUtilsConfig.from_env()

    assert (config.CACHE_SIZE, config.CACHE_TTL) == (5, 7.0)
    assert ExecutionUtilsConfig.from_env(env_file=None).CACHE_SIZE == 1000


def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXECUTION_RETRY_ATTEMPTS", "many")

    with pytest.raises(InvalidConfigError, match=r"'EXECUTION_RETRY_ATTEMPTS': .*not many"):
        ExecutionUtilsConfig.from_env()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CACHE_SIZE", -1),
        ("CACHE_SIZE", True),
        ("CACHE_TTL", -1),
        ("RETRY_ATTEMPTS", 0),
        ("RETRY_ATTEMPTS", 101),
        ("RETRY_BACKOFF", float("nan")),
        ("DEFAULT_TIMEOUT", 0),
        ("MAX_CONCURRENT_OPERATIONS", 0),
        ("CACHE_CLEANUP_INTERVAL", 0),
        ("MAX_WORKERS", 0),
    ],
)
def test_a_constant_out_of_range_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidConfigError, match=name):
        ExecutionUtilsConfig(**{name: value})


def test_a_misspelt_constant_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(InvalidConfigError, match="did you mean 'CACHE_SIZE'"):
        ExecutionUtilsConfig.from_env(CASH_SIZE=3)


# --- ExecutorConfig -------------------------------------------------------------------------------------


def test_the_executors_defaults_are_the_documents() -> None:
    assert ExecutorConfig().model_dump() == {
        "rate_limit_requests_per_second": 5,
        "batch_size": 10,
        "enable_cache": True,
        "timeout": 30.0,
        "parallel_step_naming": "prefixed",
        "strict_references": True,
    }


def test_an_executor_may_be_without_limits() -> None:
    config = ExecutorConfig(rate_limit_requests_per_second=None, batch_size=50, timeout=None)

    assert (config.rate_limit_requests_per_second, config.batch_size, config.timeout) == (None, 50, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rate_limit_requests_per_second", 0),
        ("rate_limit_requests_per_second", -1),
        ("rate_limit_requests_per_second", "x"),
        ("rate_limit_requests_per_second", "5"),
        ("rate_limit_requests_per_second", True),
        ("rate_limit_requests_per_second", float("inf")),
        ("batch_size", 0),
        ("batch_size", -1),
        ("batch_size", "x"),
        ("batch_size", 2.5),
        ("batch_size", True),
        ("batch_size", None),
        ("enable_cache", "no"),
        ("enable_cache", 1),
        ("timeout", 0),
        ("timeout", -1),
        ("timeout", "30"),
        ("timeout", float("nan")),
        ("parallel_step_naming", "other"),
        ("strict_references", "yes"),
    ],
)
def test_an_executors_value_out_of_range_is_a_value_error(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"Setting '{name}': "):
        ExecutorConfig(**{name: value})


def test_a_misspelt_executor_key_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(InvalidConfigError, match="did you mean 'batch_size'"):
        ExecutorConfig(batchsize=5)


# --- documentation --------------------------------------------------------------------------------------


def test_the_documentation_has_every_setting_with_its_default() -> None:
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    documented = dict(re.findall(r"^\| `([a-z_]+)` \| `?([^|`]+)`? \|", text, re.MULTILINE))

    for kind in (Settings, ExecutorConfig):
        for name, field in kind.model_fields.items():
            shown = documented[name].strip().strip('"')
            same = shown.lower() == str(field.default).lower()
            assert same or float(shown) == field.default, name
