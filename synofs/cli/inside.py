"""Paths inside mounts, and what the NAS is asked to do with them: questions, progress, and paths in answers."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer

from synofs.app.config import wrong_option
from synofs.app.control import ControlClient
from synofs.app.errors import Failure, Problem
from synofs.app.mounts import MountEntry, find_mount_above, list_mounts
from synofs.cli.progress import News, bar
from synofs.cli.terminal import say

OnNews = Callable[[News], None]


@dataclass(frozen=True)
class Place:
    """A path as the user wrote it, the mount that holds it, and the path inside."""

    written: str
    mount: MountEntry
    inside: str

    @property
    def name(self) -> str:
        return os.path.basename(self.inside)


def place(path: str) -> Place:
    """Raises `NOT_INSIDE` for a path that no synofs mount holds."""
    try:
        path.encode()
    except UnicodeEncodeError as exc:
        raise Failure(Problem.MISSING, path=path, detail="the NAS has no names that are not UTF-8") from exc
    found = find_mount_above(path)
    if found is None:
        raise Failure(Problem.NOT_INSIDE, path=path)
    return Place(path, *found)


def somewhere(path: str | None) -> Place:
    """For questions about a whole mount: the one that holds the path; without one that of the current folder, or
    the user's only one."""
    if path is not None or find_mount_above(".") is not None:
        return place(path if path is not None else ".")
    mounts = [mount for mount in list_mounts() if mount.owner_uid == os.getuid()]
    if len(mounts) != 1:
        raise Failure(Problem.NOT_INSIDE, path=os.getcwd())
    return Place(mounts[0].mountpoint, mounts[0], "/")


def same_mount(first: Place, second: Place) -> None:
    if first.mount.mountpoint != second.mount.mountpoint:
        raise Failure(Problem.OTHER_MOUNT, path=first.written, other=second.written)


class Asking:
    """One connection to a mount's process, with a progress bar on a terminal while it works."""

    def __init__(self, daemon: ControlClient, mount: MountEntry, command: str) -> None:
        self._daemon = daemon
        self._mount = mount
        self._command = command

    def __call__(self, command: str, *, doing: str = "", on_news: OnNews | None = None, **arguments: object) -> News:
        with bar(doing) as show:

            def take(news: News) -> None:
                if "progress" in news:
                    show(news["progress"])
                elif on_news is not None:
                    on_news(news)

            return self._daemon.follow(command, {**arguments, "as": self._command}, take)

    def local(self, answer: News) -> News:
        """The answer with its `path` as one of this machine; what the mount does not show has none."""
        inside = answer.get("path")
        path = None if inside is None else self._mount.mountpoint + inside.rstrip("/")
        return {**answer, "path": path or (self._mount.mountpoint if inside else None)}

    def shown(self, answer: News) -> str:
        """Where something is, for people."""
        return str(self.local(answer)["path"] or answer.get("nas_path") or "?")


@contextmanager
def asking(mount: MountEntry, command: str) -> Iterator[Asking]:
    with ControlClient.connect(mount) as daemon:
        yield Asking(daemon, mount, command)


# ----- output ---------------------------------------------------------------------------------------------------


def put(text: str) -> None:
    """A line of the result. Names keep their bytes in a pipe; on a terminal nothing in them can steer it."""
    if sys.stdout.isatty():
        text = "".join(c if c.isprintable() or c == "\t" else "?" for c in text)
    sys.stdout.flush()
    try:
        raw = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # text that stands for no bytes, and so for no name of a file
        raw = text.encode("utf-8", "backslashreplace")
    sys.stdout.buffer.write(raw + b"\n")
    sys.stdout.buffer.flush()


def put_json(value: object) -> None:
    put(json.dumps(value, indent=2, sort_keys=True))


# ----- secrets --------------------------------------------------------------------------------------------------


def find_password(ask: bool, file: str | None, what: str, command: str, *, twice: bool = False) -> str | None:
    """From a file, or asked for at the terminal; never from the command line, where everyone can read it."""
    if file is not None:
        try:
            lines = Path(file).read_text().splitlines()
        except (OSError, UnicodeError) as exc:
            raise wrong_option(f"--password-file: {exc}", command) from exc
        if not lines or not lines[0]:
            raise wrong_option("--password-file: its first line is empty", command)
        return lines[0]
    if not ask:
        return None
    if not sys.stdin.isatty():
        raise wrong_option("--password asks at a terminal, and there is none; use --password-file FILE", command)
    password: str = typer.prompt(f"Password for {what}", hide_input=True, confirmation_prompt=twice, err=True)
    return password


def confirm(question: str, *, yes: bool) -> None:
    """Go on only if somebody says so."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Failure(Problem.NOT_CONFIRMED)
    if not typer.confirm(question, err=True):
        say("nothing was done")
        raise typer.Exit(Problem.NOT_CONFIRMED.exit_code)
