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
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import BinaryIO

import trio

from synofs.content.headstart import HeadStart
from synofs.content.hidden import HiddenFolders
from synofs.content.slicetrial import HiddenFile, SliceTrial
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


@dataclass(frozen=True, slots=True)
class SendAheadOptions:
    from_bytes: int = 16 * 1024**2  # a smaller file is sent in one request
    slice_bytes: int = 8 * 1024**2  # a slice has at least so many, each costs a round trip
    ready_bytes: int = 4 * 1024**2  # from here on what slices need is made ready


class SendAhead:
    def __init__(
        self,
        store: RemoteStore,
        hidden: HiddenFolders,
        hidden_file: HiddenFile,
        may_send: Callable[[int], bool],
        options: SendAheadOptions,
    ) -> None:
        """`may_send`: uploads are not held up, and the NAS has room for so many bytes that may turn out useless."""
        self._store = store
        self._hidden = hidden
        self._hidden_file = hidden_file
        self._may_send = may_send
        self._options = options
        self._nursery: trio.Nursery | None = None
        self._heads: set[HeadStart] = set()  # of files that are being written
        self._trial: SliceTrial | None = None  # under way, or passed
        self._takes_slices = True  # as far as is known

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
        return whole and self._takes_slices and self._nursery is not None and self._may_send(staged.size)

    async def _follow(self, staged: StagedFile, head: HeadStart) -> None:
        path = staged.path
        async with AsyncExitStack() as stack:
            stack.callback(head.idle.set)
            self._heads.add(head)
            stack.callback(self._heads.discard, head)
            try:
                with head.scope:
                    source = stack.enter_context(staged.open_source())
                    trial = self._trial_in(posixpath.dirname(path))
                    target = await self._place(stack, path, staged)
                    head.upload = self._store.begin_upload(target, overwrite=staged.base is not None)
                    if head.upload is not None:
                        await trial.may_begin()
                        await self._send(staged, head, head.upload, source, path)
                        await trial.passed()
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

    def _trial_in(self, folder: str) -> SliceTrial:
        """The trial that this mount makes once. One that was cut off is made again."""
        if self._trial is None:
            self._trial = SliceTrial(self._store, self._hidden_file)
            assert self._nursery is not None
            self._nursery.start_soon(self._try, self._trial, folder)
        return self._trial

    async def _try(self, trial: SliceTrial, folder: str) -> None:
        await trial.run(folder)
        log.debug("files are put together from slices: %s", trial.error or "yes")
        if trial.error is not None:
            self._trial = None
            self._judge(folder, trial.error)
            for head in list(self._heads):
                head.void()

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
        final = isinstance(error, BeginningLost) or not (error.temporary or about_the_file)
        if final and self._takes_slices:
            self._takes_slices = False
            log.info("this NAS does not take files in slices; big files are sent when they are closed: %s", error)
