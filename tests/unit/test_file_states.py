"""What identifies the state of files and folders."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from aiecs_ray.actors import file_states
from aiecs_ray.actors.file_states import FILE_UNKNOWN, FOLDER_TOO_LARGE, STOPPED, Looked, look_at
from aiecs_ray.messages import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KINDS = ("mtime", "content")


def look(path: Path, kind: str) -> Looked:
    return look_at(((str(path), kind),))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a file, a folder with a file, and a link to a file outside of it."""
    made = tmp_path / "folder"
    (made / "deep").mkdir(parents=True)
    (tmp_path / "outside").write_text("far")
    for name in ("a", "deep/b"):
        (made / name).write_text(name)
    (made / "link").symlink_to(tmp_path / "outside")
    (made / "nowhere").symlink_to(tmp_path / "missing")
    return made


def rewrite(path: Path) -> None:
    path.write_text(path.read_text() + "!")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "change",
    [
        lambda folder: rewrite(folder / "a"),
        lambda folder: rewrite(folder / "deep" / "b"),
        lambda folder: rewrite(folder / "link"),
        lambda folder: (folder / "new").touch(),
        lambda folder: (folder / "deep" / "new").mkdir(),
        lambda folder: (folder / "a").unlink(),
        lambda folder: (folder / "a").rename(folder / "c"),
        lambda folder: ((folder / "nowhere").unlink(), (folder / "nowhere").symlink_to("elsewhere")),
    ],
)
def test_every_change_beneath_a_folder_is_another_state(
    folder: Path, kind: str, change: Callable[[Path], object]
) -> None:
    before = look(folder, kind)

    change(folder)
    after = look(folder, kind)

    assert before.states
    assert after.states
    assert before != after
    assert look(folder, kind) == after


def test_content_is_the_same_wherever_and_whenever_it_was_written(folder: Path, tmp_path: Path) -> None:
    states = {kind: look(folder, kind) for kind in KINDS}

    os.utime(folder / "a", (1, 1))
    touched = {kind: look(folder, kind) for kind in KINDS}
    moved = look(folder.rename(tmp_path / "moved"), "content")

    assert touched["mtime"] != states["mtime"]
    assert touched["content"] == states["content"] == moved


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_too_many_entries_has_no_state(folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_states, "MOST_ENTRIES", 5)
    assert look(folder, kind).states

    (folder / "sixth").touch()

    assert look(folder, kind) == Looked(reason=FOLDER_TOO_LARGE)


def test_a_folder_that_links_to_itself_ends(folder: Path) -> None:
    for name in ("one", "two"):
        (folder / name).symlink_to(folder, target_is_directory=True)

    assert look(folder, "mtime") == Looked(reason=FOLDER_TOO_LARGE)


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_looked_at_has_no_state(tmp_path: Path, kind: str) -> None:
    assert look(tmp_path / "missing", kind) == Looked(reason=FILE_UNKNOWN)
    assert look_at((("a\0b", kind),)) == Looked(reason=FILE_UNKNOWN)


@pytest.mark.timeout(10)
def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    assert look(tmp_path / "pipe", "content") == Looked(reason=FILE_UNKNOWN)
    assert look(tmp_path, "content") == Looked(reason=FILE_UNKNOWN)


def test_looking_ends_when_the_body_was_told_to(folder: Path) -> None:
    outcome = file_states.with_states(Outcome(0, 1, "value"), ((str(folder / "a"), "content"),), lambda: True)

    assert (outcome.files, outcome.uncacheable) == ((), STOPPED)


def test_without_files_there_is_nothing_to_look_at() -> None:
    assert look_at(()) == Looked()
