"""The history in a database: its schema, what is written, and what is asked. SQLite by default, any by its URL.

One thread at a time uses a store.
"""

from __future__ import annotations

import contextlib
import json
import os
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from aiecs_ray.errors import HistoryError, InvalidConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from aiecs_ray.history_rows import Row, Rows

SILENCE = 60.0
"""Seconds without a word of a coordinator after which its runs are taken for lost."""
_WAIT = 10.0
"""Seconds that a writer waits for another one."""
_PART = 500
"""Runs that are deleted in one statement."""

_metadata = sa.MetaData()
_version = sa.Table("aiecs_history", _metadata, sa.Column("version", sa.Integer, nullable=False))
_feeds = sa.Table(
    "feeds",
    _metadata,
    sa.Column("feed", sa.String(64), primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("seen", sa.Double, nullable=False),
    sa.Column("lost", sa.Integer, nullable=False),
)
_runs = sa.Table(
    "runs",
    _metadata,
    sa.Column("id", sa.String(128), primary_key=True),
    sa.Column("feed", sa.String(64), nullable=False),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("task_id", sa.Text, nullable=False),
    sa.Column("mode", sa.String(16), nullable=False),
    sa.Column("steps", sa.Integer, nullable=False),
    sa.Column("detach", sa.Boolean, nullable=False),
    sa.Column("compact", sa.Boolean, nullable=False),
    sa.Column("began", sa.Double, nullable=False, index=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("ended", sa.Double),
    sa.Column("seconds", sa.Double),
    sa.Column("counts", sa.Text, nullable=False),
)
_steps = sa.Table(
    "steps",
    _metadata,
    sa.Column("run_id", sa.String(128), primary_key=True),
    sa.Column("step", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("id", sa.String(128)),
    sa.Column("spec", sa.String(256), nullable=False),
    sa.Column("tool", sa.String(128), nullable=False, index=True),
    sa.Column("operation", sa.String(128), nullable=False),
    sa.Column("params", sa.Text, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("from_cache", sa.Boolean, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("summary", sa.Text, nullable=False),
    sa.Column("preview", sa.Text, nullable=False),
    sa.Column("cache_key", sa.String(256)),
    sa.Column("replica", sa.Text, nullable=False),
    sa.Column("node", sa.Text, nullable=False),
    sa.Column("ended", sa.Double),
    sa.Column("code", sa.String(8)),
    sa.Column("message", sa.Text),
    sa.Column("value", sa.LargeBinary),
    sa.Column("value_missing", sa.Text, nullable=False),
)
_events = sa.Table(
    "events",
    _metadata,
    sa.Column("run_id", sa.String(128), primary_key=True),
    sa.Column("first", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("last", sa.Integer, nullable=False),
    sa.Column("content", sa.Text, nullable=False),
)
_bulk = sa.Table(
    "bulk",
    _metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.String(128), nullable=False, index=True),
    sa.Column("spec", sa.String(256), nullable=False),
    sa.Column("tool", sa.String(128), nullable=False, index=True),
    sa.Column("operation", sa.String(128), nullable=False),
    sa.Column("counts", sa.Text, nullable=False),
    sa.Column("seconds", sa.LargeBinary, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("from_cache", sa.Integer, nullable=False),
    sa.Column("retries", sa.Integer, nullable=False),
    sa.Column("ended", sa.Double, nullable=False),
)
_OF_RUNS = (_steps, _events, _bulk)
_LISTED = [column for column in _steps.columns if column.name != "value"]


def _first_schema(connection: sa.Connection) -> None:
    _metadata.create_all(connection)


MIGRATIONS: tuple[Callable[[sa.Connection], None], ...] = (_first_schema,)
"""What makes of each version of the schema the next one; version *n* is what the first *n* of them made."""


class HistoryStore:
    """A database of runs.

    Args:
        url: as SQLAlchemy has it, ``sqlite:////path/to/file``. The file and its folder are made where they are not
            there, readable by their owner only.
        migrations: how the schema came to be.

    Raises:
        InvalidConfigError: the URL is none, or its driver is not installed.
        HistoryError: the database cannot be opened, or a newer aiecs-ray made it.
    """

    def __init__(self, url: str, migrations: Sequence[Callable[[sa.Connection], None]] = MIGRATIONS) -> None:
        try:
            address = make_url(url)
            is_file = address.get_backend_name() == "sqlite"
            if is_file and address.database and address.database != ":memory:":
                _make_private(Path(address.database))
            options: dict[str, Any] = {"connect_args": {"timeout": _WAIT}} if is_file else {}
            self._engine = sa.create_engine(address, **options)
        except (ArgumentError, ImportError) as error:
            raise InvalidConfigError("history_url", f"it is no URL of a database: {error}") from error
        except OSError as error:
            raise HistoryError(f"the history cannot be kept in {url}: {error}") from error
        if is_file:
            sa.event.listen(self._engine, "connect", _prepare_sqlite)
            sa.event.listen(self._engine, "begin", _begin_sqlite)
        self._url = address.render_as_string(hide_password=True)
        with self._transaction(writes=True) as connection:
            self._migrate(connection, migrations)

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    # --- writing -------------------------------------------------------------------------------------------

    def write(self, feed: str, number: int, time: float, lost: int, rows: Rows) -> bool:
        """Write a batch, whole or not at all; return False for one that was written before."""
        with self._transaction(writes=True) as connection:
            known = connection.execute(sa.select(_feeds.c.number).where(_feeds.c.feed == feed)).scalar()
            if known is not None and known >= number:
                return False
            seen = {"number": number, "seen": time, "lost": lost}
            if known is None:
                connection.execute(_feeds.insert(), {"feed": feed, **seen})
            else:
                connection.execute(_feeds.update().where(_feeds.c.feed == feed), seen)
            for table, new in ((_runs, rows.runs), (_steps, rows.steps), (_events, rows.events), (_bulk, rows.bulk)):
                if new:
                    connection.execute(table.insert(), new)
            if rows.ended_steps:
                chosen = (_steps.c.run_id == sa.bindparam("run")) & (_steps.c.step == sa.bindparam("place"))
                connection.execute(_steps.update().where(chosen), rows.ended_steps)
            if rows.ended_runs:
                connection.execute(_runs.update().where(_runs.c.id == sa.bindparam("run_id")), rows.ended_runs)
        return True

    def prune(self, before: float | None, keep: int | None) -> int:
        """Delete the runs that ended before a time, and the oldest beyond ``keep``; return how many."""
        chosen = []
        ended = sa.select(_runs.c.id).where(_runs.c.status != "running")
        if before is not None:
            chosen.append(sa.select(_runs.c.id).where(_runs.c.began < before))
        if keep is not None:
            chosen.append(ended.order_by(_runs.c.began.desc(), _runs.c.id).offset(keep).limit(2**62))
        with self._transaction(writes=True) as connection:
            ids = {run for query in chosen for run in connection.execute(query).scalars()}
            listed = sorted(ids)
            for start in range(0, len(listed), _PART):
                part = listed[start : start + _PART]
                for table in _OF_RUNS:
                    connection.execute(table.delete().where(table.c.run_id.in_(part)))
                connection.execute(_runs.delete().where(_runs.c.id.in_(part)))
        return len(ids)

    # --- asking --------------------------------------------------------------------------------------------

    def runs(self, now: float, filters: Mapping[str, Any], limit: int) -> list[Row]:
        """Return the latest runs first; filters: ``user_id``, ``task_id``, ``tool``, ``since``, ``status``, ``id``."""
        query = _filtered(sa.select(_runs, _feeds.c.seen), filters).order_by(_runs.c.began.desc(), _runs.c.id)
        wanted = filters.get("status")
        found: list[Row] = []
        with self._transaction(writes=False) as connection:
            for row in connection.execute(query).mappings():
                shown = _shown_run(dict(row), now)
                if wanted is None or shown["status"] == wanted:
                    found.append(shown)
                if len(found) == limit:
                    break
        return found

    def steps(self, run: str) -> list[Row]:
        """Return the steps of a run that are recorded one by one, without their values."""
        query = sa.select(*_LISTED).where(_steps.c.run_id == run).order_by(_steps.c.step)
        return [dict(row) for row in self._all(query)]

    def bulk(self, run: str) -> list[Row]:
        """Return what is recorded of a run's steps together: per operation their number, by status, and sizes."""
        groups: dict[str, Row] = {}
        for row in self._all(sa.select(_bulk).where(_bulk.c.run_id == run).order_by(_bulk.c.number)):
            group = groups.setdefault(row["spec"], {"spec": row["spec"], "counts": {}, "size": 0, "from_cache": 0})
            _add(group["counts"], json.loads(row["counts"]))
            group["size"] += row["size"]
            group["from_cache"] += row["from_cache"]
        return list(groups.values())

    def events(self, run: str) -> list[list[Any]]:
        """Return the events of a run: number, kind, time, step, data."""
        query = sa.select(_events.c.content).where(_events.c.run_id == run).order_by(_events.c.first)
        return [event for row in self._all(query) for event in json.loads(row["content"])]

    def value(self, run: str, step: int) -> Row | None:
        """Return what is kept of the result of a step."""
        columns = (_steps.c.status, _steps.c.code, _steps.c.message, _steps.c.value, _steps.c.value_missing)
        rows = self._all(sa.select(*columns).where(_steps.c.run_id == run, _steps.c.step == step))
        return dict(rows[0]) if rows else None

    def timings(self, filters: Mapping[str, Any]) -> Iterator[Row]:
        """Yield, per step or group of steps: spec, counts by status, seconds of those computed, size, from_cache."""
        names = ("spec", "status", "seconds", "from_cache", "size", "attempts")
        one_by_one = sa.select(*(_steps.c[name] for name in names)).join(_runs, _runs.c.id == _steps.c.run_id)
        for row in self._all(_narrowed(one_by_one, _steps, filters)):
            computed = row["status"] == "completed" and not row["from_cache"]
            yield {
                "spec": row["spec"],
                "counts": {row["status"]: 1},
                "seconds": (row["seconds"],) if computed else (),
                "size": row["size"],
                "from_cache": int(row["from_cache"]),
                "retries": max(0, row["attempts"] - 1),
            }
        together = sa.select(_bulk).join(_runs, _runs.c.id == _bulk.c.run_id)
        for row in self._all(_narrowed(together, _bulk, filters)):
            yield {**row, "counts": json.loads(row["counts"]), "seconds": array("d", row["seconds"])}

    def facts(self) -> Row:
        """Return where the history is, its version, how many runs and steps it has, and what was lost."""
        with self._transaction(writes=False) as connection:
            count = sa.select(sa.func.count())
            return {
                "url": self._url,
                "version": connection.execute(sa.select(_version.c.version)).scalar(),
                "runs": connection.execute(count.select_from(_runs)).scalar(),
                "steps": connection.execute(count.select_from(_steps)).scalar(),
                "lost": int(connection.execute(sa.select(sa.func.sum(_feeds.c.lost))).scalar() or 0),
            }

    # --- how -----------------------------------------------------------------------------------------------

    def _all(self, query: sa.Select[Any]) -> Sequence[Mapping[str, Any]]:
        with self._transaction(writes=False) as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    @contextlib.contextmanager
    def _transaction(self, *, writes: bool) -> Iterator[sa.Connection]:
        try:
            connection = self._engine.connect().execution_options(aiecs_writes=writes)
            with connection, connection.begin():
                yield connection
        except SQLAlchemyError as error:
            text = f"the history in {self._url} failed: {str(error).splitlines()[0][:300]}"
            raise HistoryError(text) from error

    def _migrate(self, connection: sa.Connection, migrations: Sequence[Callable[[sa.Connection], None]]) -> None:
        there = sa.inspect(connection).has_table(_version.name)
        version = connection.execute(sa.select(_version.c.version)).scalar() if there else None
        if version is not None and version > len(migrations):
            text = f"{self._url} was made by a newer aiecs-ray (schema {version}, this one knows {len(migrations)})"
            raise HistoryError(f"{text}; use that version, or another file (history_url)")
        for step in migrations[version or 0 :]:
            step(connection)
        if version is None:
            connection.execute(_version.insert(), {"version": len(migrations)})
        elif version < len(migrations):
            connection.execute(_version.update(), {"version": len(migrations)})


def _make_private(file: Path) -> None:
    """Make a file that only its owner reads; SQLite gives its other files the same rights."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))


def _prepare_sqlite(connection: Any, _: object) -> None:
    # Transactions are begun by hand: Python's driver would begin one at the first write only.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("aiecs_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _filtered(query: sa.Select[Any], filters: Mapping[str, Any]) -> sa.Select[Any]:
    query = query.join(_feeds, _feeds.c.feed == _runs.c.feed, isouter=True)
    for name in ("id", "user_id", "task_id"):
        if filters.get(name) is not None:
            query = query.where(_runs.c[name] == filters[name])
    if filters.get("since") is not None:
        query = query.where(_runs.c.began >= filters["since"])
    if filters.get("tool") is not None:
        ids = sa.union(*(sa.select(table.c.run_id).where(table.c.tool == filters["tool"]) for table in (_steps, _bulk)))
        query = query.where(_runs.c.id.in_(ids))
    return query


def _narrowed(query: sa.Select[Any], table: sa.Table, filters: Mapping[str, Any]) -> sa.Select[Any]:
    for name in ("tool", "operation"):
        if filters.get(name) is not None:
            query = query.where(table.c[name] == filters[name])
    for name in ("user_id", "task_id"):
        if filters.get(name) is not None:
            query = query.where(_runs.c[name] == filters[name])
    return query if filters.get("since") is None else query.where(_runs.c.began >= filters["since"])


def _shown_run(row: Mapping[str, Any], now: float) -> Row:
    shown = {name: value for name, value in row.items() if name not in ("feed", "seen")}
    shown["counts"] = json.loads(shown["counts"])
    if shown["status"] == "running" and now - (row["seen"] or 0.0) > SILENCE:
        shown["status"] = "lost"
    return shown


def _add(counts: dict[str, int], more: Mapping[str, int]) -> None:
    for name, number in more.items():
        counts[name] = counts.get(name, 0) + number
