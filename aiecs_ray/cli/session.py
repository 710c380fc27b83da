"""What the commands have in common: options, a connection, interrupts."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiecs_ray.cli.ending import CommandError, ExitCode
from aiecs_ray.cli.output import Output
from aiecs_ray.cli.prints import kept_apart
from aiecs_ray.config import Settings, named_cluster, user_history
from aiecs_ray.connecting import connect
from aiecs_ray.errors import InvalidConfigError
from aiecs_ray.history import HistoryView
from aiecs_ray.registry import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aiecs_ray.runtime import Runtime

SHIPPED = {"pandas_tool", "stats_tool", "chart_tool", "report_tool"}
"""The tools of the extra ``tools``, which are found by their names."""
CONFIG_FILE = "aiecs-ray.yaml"


@dataclasses.dataclass
class Session:
    """The options before the command, and what they mean."""

    address: str | None = None
    namespace: str | None = None
    config: str | None = None
    load: tuple[str, ...] = ()
    yes: bool = False
    output: Output = dataclasses.field(default_factory=Output)
    command: str = ""

    def settings(self) -> Settings:
        """Return the settings: options over environment over files over defaults."""
        given = {} if self.namespace is None else {"namespace": self.namespace}
        return Settings.load(self.settings_file(), **given)

    def settings_file(self) -> str | None:
        """Return the file of settings: the one that was named, or the one in this folder."""
        return self.config or (CONFIG_FILE if Path(CONFIG_FILE).exists() else None)

    def load_tools(self, more: Sequence[str] = ()) -> None:
        """Import the modules that define tools.

        Raises:
            CommandError: one cannot be imported.
        """
        # A console script does not look where it is called; `python -m` does.
        if "" not in sys.path:
            sys.path.insert(0, "")
        for target in (*self.load, *more):
            try:
                DEFAULT.discover(target)
            except ImportError as error:
                raise CommandError(ExitCode.INVALID, f"the tools of {target!r} cannot be imported: {error}") from error

    def load_shipped(self, names: Sequence[str]) -> None:
        """Import the tools of the extra if one of them is meant.

        Raises:
            CommandError: the extra is not installed.
        """
        missing = [name for name in names if name in SHIPPED and not DEFAULT.has(name)]
        if not missing:
            return
        try:
            for cls in importlib.import_module("aiecs_ray.tools").TOOLS:
                DEFAULT.register(cls)
        except ModuleNotFoundError as error:
            text = f'{missing[0]} needs the extra: pip install "aiecs-ray[tools]" ({error})'
            raise CommandError(ExitCode.EXTRA_MISSING, text) from error

    @contextlib.contextmanager
    def runtime(self, *, existing: bool = False) -> Iterator[Runtime]:
        """Connect; with ``existing`` only to a cluster that is there already."""
        address = self.address or named_cluster() or ("auto" if existing else None)
        if address is None:
            self.output.note("starting a private local Ray; --address says which cluster to use instead")
        with kept_apart(), connect(address, settings=self.settings()) as rt, interruptible():
            yield rt

    @contextlib.contextmanager
    def history(self) -> Iterator[HistoryView]:
        """Open the history: the cluster's where one is named, else the file."""
        if self.address or named_cluster():
            with self.runtime() as rt:
                yield rt.history
            return
        settings = self.settings()
        if settings.history_url == "off":
            raise InvalidConfigError("history_url", "no history is kept ('off')")
        url = settings.history_url or user_history()
        # SQLAlchemy takes half a second to import: only who asks the history pays.
        actor = importlib.import_module("aiecs_ray.actors.history").History
        store = importlib.import_module("aiecs_ray.history_store").HistoryStore
        history = actor(settings, lambda: store(url))
        try:
            yield HistoryView(lambda method, *args: getattr(history, method)(*args))
        finally:
            history.close()

    def confirm(self, text: str) -> None:
        """Ask before something is destroyed, unless ``--yes`` was given.

        Raises:
            CommandError: nobody agreed.
        """
        if self.yes:
            return
        if not sys.stdin.isatty():
            raise CommandError(ExitCode.USAGE, f"{text} needs --yes where nobody can be asked")
        sys.stderr.write(f"{text}? [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise CommandError(ExitCode.USAGE, "nothing was done")


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM end the work in order, and the second one the process at once.

    Raises:
        CommandError: the work was ended that way.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def leave(number: int, _: object) -> None:
        os._exit(128 + number)

    def ask(number: int, _: object) -> None:
        for each in before:
            signal.signal(each, leave)
        sys.stderr.write("\naiecs-ray: cancelling; once more leaves at once\n")
        raise KeyboardInterrupt(number)

    try:
        for number in before:
            signal.signal(number, ask)
    except ValueError:
        # Only the main thread may.
        yield
        return
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise CommandError(interrupted(interrupt), "cancelled") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupted(interrupt: KeyboardInterrupt) -> ExitCode:
    """Return the exit code of what was ended by a signal."""
    return ExitCode.TERMINATED if interrupt.args == (signal.SIGTERM,) else ExitCode.CANCELLED


def pairs(given: Sequence[str]) -> dict[str, Any]:
    """Return ``name=value`` options as a dict; a value that is JSON is read as such, anything else is text.

    >>> pairs(["n=3", "name=tea"])
    {'n': 3, 'name': 'tea'}
    """
    found: dict[str, Any] = {}
    for one in given:
        name, sign, text = one.partition("=")
        if not sign or not name:
            raise CommandError(ExitCode.USAGE, f"expected name=value, got {one!r}")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found
