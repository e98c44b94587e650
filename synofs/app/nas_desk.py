"""Between a command's words and the services of the NAS: paths, and what has to happen before and after.

Commands speak of paths inside the mount and get such paths back; here they become paths of the NAS. What was written
here and is not sent yet is sent first, so that the NAS works with what programs see, and after a change the
filesystem and the kernel look again, so that programs see what the NAS did.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from synofs.app.assembly import Parts
from synofs.app.commands import Request
from synofs.app.config import Settings
from synofs.app.control import Tell
from synofs.app.errors import Failure, Problem, problem_of
from synofs.content.errors import ContentError
from synofs.filestation import archives
from synofs.filestation.tasks import OnTaskProgress, Progress
from synofs.fs.errors import FilesystemError
from synofs.remote import (
    Exists,
    InvalidName,
    InvalidRequest,
    IsADirectory,
    NameTooLong,
    NoSpace,
    NotADirectory,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    RemoteEntry,
    RemoteError,
)

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 0.2  # between two lines about it
KERNEL_SECONDS = 2.0  # the kernel may be busy in the very folder

# What the NAS's refusals mean where a command is about a file. The rest is told as everywhere.
PROBLEMS: dict[type[RemoteError], Problem] = {
    NotFound: Problem.MISSING,
    Exists: Problem.EXISTS,
    PermissionDenied: Problem.FORBIDDEN,
    QuotaExceeded: Problem.NO_ROOM,
    NoSpace: Problem.NO_ROOM,
    InvalidRequest: Problem.NOT_POSSIBLE,
    InvalidName: Problem.NOT_POSSIBLE,
    NameTooLong: Problem.NOT_POSSIBLE,
    IsADirectory: Problem.NOT_POSSIBLE,
    NotADirectory: Problem.NOT_POSSIBLE,
}

Handler = Callable[[Any, Tell], Awaitable[dict[str, Any]]]
Handlers = dict[type[Request], Handler]


class NasDesk:
    """What all services need of a running mount."""

    def __init__(self, parts: Parts, settings: Settings) -> None:
        self._parts = parts
        self._settings = settings
        self.client = parts.client
        self.services = parts.client.services
        self._root = f"/{settings.share}" if settings.share else ""

    async def guarded(self, handler: Handler, request: Request, tell: Tell) -> dict[str, Any]:
        """With what the NAS refuses put into words about the user's own paths."""
        try:
            return await handler(request, tell)
        except RemoteError as exc:
            problem = PROBLEMS.get(type(exc)) or problem_of(exc)
            if exc.code == archives.WRONG_PASSWORD:
                problem = Problem.ARCHIVE_PASSWORD
            raise Failure(
                problem,
                path=self.local(exc.path) if exc.path else self._settings.mountpoint,
                nas=self._settings.url,
                user=self._settings.user,
                detail=exc,
                command=request.as_,
            ) from exc

    # ----- paths --------------------------------------------------------------------------------------------------

    def path(self, inside: str) -> str:
        """The NAS's path for one inside the mount."""
        return f"{self._root}{inside}".rstrip("/") or "/"

    def below_shares(self, inside: str) -> str:
        path = self.path(inside)
        if path == "/":
            raise InvalidRequest("name a share, or something in one", path=path)
        return path

    def inside(self, path: str) -> str | None:
        """The path inside the mount, None for what the mount does not show."""
        if self._root and path != self._root and not path.startswith(f"{self._root}/"):
            return None
        return path[len(self._root) :] or "/"

    def local(self, path: str) -> str:
        inside = self.inside(path)
        return path if inside is None else self._settings.mountpoint + inside.rstrip("/")

    def places(self, path: str) -> dict[str, Any]:
        return {"path": self.inside(path), "nas_path": path}

    async def shares(self) -> list[str]:
        found: list[RemoteEntry] = []
        await self.client.list_dir("/", found.extend)
        return [f"/{entry.name}" for entry in found]

    async def entry(self, path: str) -> RemoteEntry:
        entry = (await self.client.get_entries([path]))[0]
        if entry is None:
            raise NotFound("nothing is there", path=path)
        return entry

    # ----- before and after ---------------------------------------------------------------------------------------

    def need_writable(self) -> None:
        if self._settings.read_only:
            raise Failure(Problem.READ_ONLY_MOUNT)

    async def settle(self, path: str, *, closed: bool = False) -> None:
        """Send what was written at and below a path. `closed`: and nobody may have it open for writing."""
        writes = self._parts.filesystem.writes
        if writes is None:
            return
        for entry in list(writes.queue.entries):
            inode = entry.item
            where = inode.path()
            if path not in ("/", where) and not where.startswith(f"{path}/"):
                continue
            try:
                await writes.sync(inode)
            except (RemoteError, FilesystemError, ContentError, OSError) as exc:
                raise Failure(Problem.NOT_SENT, path=self.local(where), detail=exc) from exc
            if closed and inode.writers:
                raise Failure(Problem.OPEN_FOR_WRITING, path=self.local(where))

    async def look_again(self, *paths: str) -> None:
        """Have the filesystem, and then the kernel, see what has changed at these paths."""
        for path in dict.fromkeys(paths):
            try:
                await self._parts.filesystem.refresh(path)
            except RemoteError as exc:
                log.info("looking again at a folder failed: %s", exc)
        with trio.move_on_after(KERNEL_SECONDS):
            await self._parts.notifier.delivered()

    @asynccontextmanager
    async def reporting(self, tell: Tell) -> AsyncIterator[OnTaskProgress]:
        """Gives a function that takes every step, and tells as many of them as a person can read."""
        latest: list[Progress] = []

        async def report() -> None:
            while True:
                await trio.sleep(PROGRESS_SECONDS)
                if latest:
                    progress = latest.pop()
                    latest.clear()
                    with contextlib.suppress(trio.BrokenResourceError):  # the control socket sees to that
                        await tell({"progress": progress._asdict()})

        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(report)
            try:
                yield latest.append
            except Exception as exc:
                failure = exc
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure  # as it is, and not in the nursery's group


def described(entry: RemoteEntry) -> dict[str, Any]:
    return {"is_dir": entry.is_dir, "size": entry.size, "mtime": entry.mtime_ns // 10**9}
