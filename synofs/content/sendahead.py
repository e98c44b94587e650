"""Sending the beginning of a big file while a program still writes the rest, so that close has less to wait for.

An upload announces its length, so as one request it cannot begin before the file is closed; in slices it can
(`GrowingUpload`). That is done for a file that is new or was emptied, and has been written from its beginning to its
end so far, as copies, downloads and recordings are. As soon as something changes a byte that is on its way, what was
sent is void, and the file is sent as a whole when it is closed. So it is when the NAS does not take part: this is a
head start and no more, and the upload proper (`content/put.py`) decides, sends the last slice and proves the whole.

No lock is needed: nothing is under the file's name, nor under that of its hidden copy, before the last slice.
"""

from __future__ import annotations

import logging
import posixpath
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

import trio

from synofs.content.headstart import HeadStart
from synofs.content.hidden import HiddenFolders
from synofs.content.stagedfile import StagedFile
from synofs.remote import (
    BeginningLost,
    Exists,
    GrowingUpload,
    NoSpace,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    RemoteError,
    RemoteStore,
)

log = logging.getLogger(__name__)


_TRIAL = b"abc"


@dataclass(frozen=True, slots=True)
class SendAheadOptions:
    from_bytes: int = 16 * 1024**2  # a smaller file is sent in one request
    slice_bytes: int = 8 * 1024**2  # a slice has at least so many, each costs a round trip
    ready_bytes: int = 4 * 1024**2  # from here on what slices need is made ready


class SendAhead:
    def __init__(
        self, store: RemoteStore, hidden: HiddenFolders, may_send: Callable[[int], bool], options: SendAheadOptions
    ) -> None:
        """`may_send`: uploads are not held up, and the NAS has room for so many bytes that may turn out useless."""
        self._store = store
        self._hidden = hidden
        self._may_send = may_send
        self._options = options
        self._nursery: trio.Nursery | None = None
        self._trial = trio.Lock()
        self._takes_slices: bool | None = None  # None: not known yet

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    def grew(self, staged: StagedFile) -> None:
        """Something was written to it."""
        if staged.head is not None:
            staged.head.grew()
        elif staged.size >= self._options.ready_bytes and staged.is_appended_only and self._may_begin(staged):
            staged.head = head = HeadStart()
            assert self._nursery is not None
            self._nursery.start_soon(self._follow, staged, head)

    def _may_begin(self, staged: StagedFile) -> bool:
        whole = staged.complete and not staged.unlinked and not staged.frozen and staged.attempt is None
        return whole and self._takes_slices is not False and self._nursery is not None and self._may_send(staged.size)

    async def _follow(self, staged: StagedFile, head: HeadStart) -> None:
        path = staged.path
        async with AsyncExitStack() as stack:
            stack.callback(head.idle.set)
            try:
                with head.scope:
                    source = stack.enter_context(staged.open_source())
                    target = await self._place(stack, path, staged)
                    head.upload = self._store.begin_upload(target, overwrite=staged.base is not None)
                    if head.upload is not None and await self._is_possible(path):
                        await self._send(staged, head, head.upload, source, path)
            except RemoteError as error:
                head.void()
                self._judge(path, error)
            except OSError as error:
                head.void()
                log.debug("%s: it is sent as a whole when it is closed: %s", path, error)
            except Exception:  # a head start and no more: it must not end the mount
                head.void()
                log.exception("%s: sending its beginning failed in a way nobody foresaw", path)
            head.idle.set()
            await head.closed.wait()  # until then the hidden folder is in use

    async def _place(self, stack: AsyncExitStack, path: str, staged: StagedFile) -> str:
        """Where the upload proper will want it."""
        if staged.base is None:
            return path
        folder, name = posixpath.split(path)
        return f"{await stack.enter_async_context(self._hidden.use(folder))}/{name}"

    async def _is_possible(self, path: str) -> bool:
        """Does this NAS put together a file that grew after its first slice? It is not documented: tried once in a
        mount, out of sight. A NAS that knows no slices would take the first one for the whole file."""
        async with self._trial:
            if self._takes_slices is None:
                self._takes_slices = await self._try(posixpath.dirname(path))
                log.debug("files are put together from slices: %s", self._takes_slices)
        return self._takes_slices

    async def _try(self, folder: str) -> bool:
        source, moment = BytesIO(_TRIAL), time.time_ns()
        async with self._hidden.use(folder) as hidden:
            path = f"{hidden}/slices"
            trial = self._store.begin_upload(path, overwrite=True)
            if trial is None:
                return False
            await trial.append(source, 1, 2, moment)
            await trial.finish(source, len(_TRIAL), moment)
            (entry,) = await self._store.get_entries([path])
        return entry is not None and entry.size == len(_TRIAL)

    async def _send(
        self, staged: StagedFile, head: HeadStart, upload: GrowingUpload, source: BinaryIO, path: str
    ) -> None:
        while not head.asked_to_end:
            if staged.unlinked or staged.path != path:
                head.void()
                return
            end = staged.size - 1  # the last slice cannot be empty
            is_worth_it = staged.size >= self._options.from_bytes and end - upload.sent >= self._options.slice_bytes
            if is_worth_it and self._may_send(end):
                head.end = end
                await upload.append(source, end, staged.size, staged.effective_mtime_ns)
            else:
                await head.step()

    def _judge(self, path: str, error: RemoteError) -> None:
        log.debug("%s: it is sent as a whole when it is closed: %s", path, error)
        about_the_file = isinstance(error, Exists | NoSpace | QuotaExceeded | PermissionDenied | NotFound)
        if isinstance(error, BeginningLost) or not (error.temporary or about_the_file):
            self._takes_slices = False
            log.info("this NAS does not take files in slices; big files are sent when they are closed: %s", error)
