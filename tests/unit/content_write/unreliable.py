"""A NAS whose answers are lost, and that does some of what it was asked when nobody waits for it any more.

That happens to what lies in its queue, or on the line, when a connection breaks: the caller is told, looks, finds
nothing done, and a moment later it is.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from io import BytesIO
from typing import BinaryIO, TypeVar

import trio

from synofs.remote import OnPage, OnProgress, RemoteEntry, RemoteError, TimedOut, Unreachable
from tests.unit.content_write.nas import Nas

LATEST_SECONDS = 4.0

T = TypeVar("T")


class UnreliableNas(Nas):
    """Reliable until `rng` and `nursery` are given, and again when it is `calm`."""

    def __init__(self, *shares: str) -> None:
        super().__init__(*shares)
        self.calm = True
        self.rng = random.Random(0)
        self.nursery: trio.Nursery | None = None
        self.told: list[str] = []

    def be_unreliable(self, seed: str, nursery: trio.Nursery) -> None:
        self.rng, self.nursery, self.calm = random.Random(seed), nursery, False

    async def _change(self, what: str, work: Callable[[], Awaitable[T]], *, may_be_late: bool = True) -> T:
        late = 8 if may_be_late else 0
        how = "done" if self.calm else self.rng.choices(("done", "never", "lost", "late"), (80, 5, 7, late))[0]
        self.told.append(f"{trio.current_time():.2f} {what}: {how}")
        if how == "done":
            return await self._told(what, work)
        if how == "lost":
            await self._told(what, work)
            raise TimedOut("no answer")
        if how == "late":
            assert self.nursery is not None
            self.nursery.start_soon(self._later, what, self.rng.uniform(0.0, LATEST_SECONDS), work)
        await trio.sleep(self.rng.choice((0.0, 0.5)))
        raise Unreachable("it hung up")

    async def _told(self, what: str, work: Callable[[], Awaitable[T]]) -> T:
        try:
            return await work()
        except RemoteError as error:
            self.told.append(f"{trio.current_time():.2f} {what}: {error!r}")
            raise

    async def _later(self, what: str, seconds: float, work: Callable[[], Awaitable[object]]) -> None:
        await trio.sleep(seconds)
        self.told.append(f"{trio.current_time():.2f} {what}: now")
        with contextlib.suppress(RemoteError):
            await self._told(what, work)

    async def _look(self, what: str) -> None:
        if not self.calm and self.rng.random() < 0.08:
            self.told.append(f"{trio.current_time():.2f} {what}: not answered")
            raise Unreachable("it hung up")

    # ----- RemoteStore ------------------------------------------------------------------------------------------------

    async def list_dir(self, path: str, on_page: OnPage) -> None:
        await self._look(f"list {path}")
        await super().list_dir(path, on_page)

    async def get_entries(self, paths: Sequence[str]) -> list[RemoteEntry | None]:
        await self._look(f"getinfo {paths}")
        found = await super().get_entries(paths)
        self.told.append(f"{trio.current_time():.2f} getinfo {paths}: {[entry is not None for entry in found]}")
        return found

    async def upload(
        self,
        path: str,
        source: BinaryIO,
        size: int,
        mtime_ns: int | None,
        *,
        overwrite: bool,
        on_progress: OnProgress | None = None,
    ) -> None:
        content = source.read(size)

        async def work() -> None:
            await Nas.upload(self, path, BytesIO(content), size, mtime_ns, overwrite=overwrite)

        # Of a form that was cut off nothing is left to be done late.
        await self._change(f"upload {path} {content[:20]!r}", work, may_be_late=False)

    async def make_dir(self, path: str) -> RemoteEntry:
        return await self._change(f"make_dir {path}", lambda: Nas.make_dir(self, path))

    async def rename(self, path: str, new_name: str) -> RemoteEntry:
        return await self._change(f"rename {path} {new_name}", lambda: Nas.rename(self, path, new_name))

    async def move(self, path: str, dest_dir: str, *, overwrite: bool) -> RemoteEntry:
        def work() -> Awaitable[RemoteEntry]:
            return Nas.move(self, path, dest_dir, overwrite=overwrite)

        return await self._change(f"move {path} {dest_dir} {overwrite}", work)

    async def remove(self, path: str) -> None:
        await self._change(f"remove {path}", lambda: Nas.remove(self, path))
