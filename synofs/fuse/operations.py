"""The kernel's calls: unpack, ask the filesystem, pack.

Every handler sits behind `_guarded`, because in pyfuse3 anything but a `FUSEError` that leaves a handler ends the
mount for everyone, and because the kernel waits for a reply whatever happens: a process stays in D state until it
comes. So each call that may wait has a deadline, and each ends in a reply.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import pyfuse3
import trio

from synofs.fs.callers import Caller
from synofs.fs.errors import (
    DeadlineExceeded,
    FilesystemError,
    InvalidArgument,
    NoEntry,
    NotSupported,
    ReadOnlyFilesystem,
)
from synofs.fs.filesystem import Filesystem
from synofs.fs.inodes import Inode
from synofs.fs.names import printable
from synofs.fuse.calls import Calls
from synofs.fuse.convert import kernel_entry, missing_entry, new_entry, statvfs, valid_seconds
from synofs.fuse.errno_table import UNFORESEEN, verdict
from synofs.remote import RemoteError

log = logging.getLogger(__name__)

# An upload may go on for hours while it moves; without progress the layers below give up within a minute.
_CHANGE_DEADLINE_SECONDS = 24 * 3600.0

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Handler = Callable[Concatenate["Operations", _P], Coroutine[Any, Any, _R]]


def _guarded(handler: _Handler[_P, _R]) -> _Handler[_P, _R]:
    """Bound the call, turn every failure into its errno, log it once."""
    return _guard(handler)


def _prompt(handler: _Handler[_P, _R]) -> _Handler[_P, _R]:
    """The same for calls that wait for nothing."""
    return _guard(handler, at_hand=lambda *_: True)


def _prompt_if(
    at_hand: Callable[Concatenate[Operations, _P], bool], *, changes: bool = False
) -> Callable[[_Handler[_P, _R]], _Handler[_P, _R]]:
    """The same for calls that wait for nothing if `at_hand` says so (fs/athand.py): a bound costs a tenth of such a
    call. Otherwise they are bounded like the others."""
    return lambda handler: _guard(handler, changes=changes, at_hand=at_hand)


def _unhurried(handler: _Handler[_P, _R]) -> _Handler[_P, _R]:
    """The same for calls that change the NAS or wait for an upload. They are bounded below, by progress: a big upload
    takes its time, and ending a change half-way would only leave its outcome unknown (fs/patience.py). The bound here
    is the last."""
    return _guard(handler, changes=True)


def _guard(
    handler: _Handler[_P, _R],
    *,
    changes: bool = False,
    at_hand: Callable[..., bool] | None = None,  # the handler's arguments: will it wait for nothing?
) -> _Handler[_P, _R]:
    verb = getattr(handler, "__name__", "call")

    async def guarded(self: Operations, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        seconds = self.change_deadline_seconds if changes else self.deadline_seconds
        call = self.calls.begin(verb, args)
        try:
            if at_hand is not None and at_hand(self, *args):
                result = await handler(self, *args, **kwargs)
            else:
                with self.calls.limited_to(call, seconds) as limit:
                    result = await handler(self, *args, **kwargs)
                if limit.cancelled_caught:
                    raise trio.TooSlowError
        except pyfuse3.FUSEError as refusal:
            self.calls.end(call, refusal.errno)
            raise
        except trio.TooSlowError:
            why = "the mount is being ended" if self.calls.given_up else f"no answer within {seconds:.0f} s"
            error: BaseException = DeadlineExceeded(why)
        except trio.Cancelled:
            # The mount ends while the call waits. Without a reply its caller would hang for ever; the cancellation
            # comes again at this task's next step.
            error = DeadlineExceeded("the mount is being ended")
        except Exception as caught:
            error = caught
        else:
            self.calls.end(call, 0)
            return result
        number = _report(verb, error, args)
        self.calls.end(call, number)
        raise pyfuse3.FUSEError(number) from None

    return wraps(handler)(guarded)  # type: ignore[return-value]  # same signature


def _report(verb: str, error: BaseException, args: Sequence[object]) -> int:
    errno, level = verdict(error)
    if level == UNFORESEEN.log_level:
        log.error("%s%r failed in a way nobody foresaw", verb, args, exc_info=error)
    elif log.isEnabledFor(level):
        path = error.path if isinstance(error, RemoteError) else None
        text = f"{printable(path)}: {error}" if path else printable(str(error))
        log.log(level, "%s: %s (%s)", verb, text, os.strerror(errno))
    return errno


class Operations(pyfuse3.Operations):
    supports_dot_lookup = True
    enable_writeback_cache = False
    enable_acl = False

    def __init__(self, fs: Filesystem, deadline_seconds: float, calls: Calls | None = None) -> None:
        super().__init__()
        self.calls = calls or Calls()
        self.fs = fs
        self.deadline_seconds = deadline_seconds
        self.change_deadline_seconds = max(deadline_seconds, _CHANGE_DEADLINE_SECONDS)
        self._table = fs.inodes

    # ----- names and attributes ---------------------------------------------------------------------------------

    @_prompt_if(lambda self, parent_inode, name, ctx: self.fs.at_hand.name(self._table.get(parent_inode), name))
    async def lookup(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        parent = self._table.get(parent_inode)
        inode = await self.fs.lookup(parent, name)
        if inode is None:
            valid_seconds = self.fs.missing_valid_seconds(parent)
            if valid_seconds <= 0:
                raise NoEntry(parent.path())
            return missing_entry(valid_seconds)
        try:
            await self.fs.getattr(inode)
            entry = self._entry(inode)
            self._table.count_lookup(inode)
        finally:
            self._table.release(inode)  # should it have no attributes, and no listing either
        return entry

    @_prompt_if(lambda self, inode, ctx: self.fs.at_hand.attributes(self._table.get(inode)))
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        found = self._table.get(inode)
        await self.fs.getattr(found)
        return self._entry(found)

    def _entry(self, inode: Inode) -> pyfuse3.EntryAttributes:
        return kernel_entry(self.fs, inode)

    # The base class says coroutine; handlers.pxi calls it as a plain function.
    def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:  # type: ignore[override]
        for number, count in inode_list:
            self._table.forget(number, count)

    @_prompt_if(lambda self, inode, mode, ctx: self.fs.at_hand.attributes(self._table.get(inode)))
    async def access(self, inode: int, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        await self.fs.access(self._table.get(inode), mode)
        return True

    @_guarded
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        return statvfs(self.fs.statfs())

    # ----- directories ------------------------------------------------------------------------------------------

    @_prompt
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        return await self.fs.opendir(self._table.get(inode), Caller(ctx.pid, ctx.uid))

    @_prompt_if(lambda self, fh, start_id, token: self.fs.at_hand.entries(fh, max(0, start_id - 2)))
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """Cookies: 1 is behind `.`, 2 behind `..`, n + 2 behind the n-th entry of the handle's list."""
        handle, entries = await self.fs.readdir(fh, max(0, start_id - 2))
        directory = handle.inode
        if start_id == 0 and not pyfuse3.readdir_reply(token, b".", self._entry(directory), 1):
            return
        if start_id <= 1:
            parent = directory.parent or directory
            if not pyfuse3.readdir_reply(token, b"..", self._entry(parent), 2):
                return
        fs, reply, count_lookup = self.fs, pyfuse3.readdir_reply, self._table.count_lookup
        checked_at = None
        for index in range(max(0, start_id - 2), len(entries)):
            inode = entries[index]
            if inode.gone or inode.parent is not directory:
                continue
            entry = inode.kernel_entry
            if not isinstance(entry, pyfuse3.EntryAttributes):
                entry = new_entry(fs, inode)
            if inode.checked_at != checked_at:  # mostly all were listed together
                checked_at = inode.checked_at
                name_seconds, attribute_seconds = valid_seconds(fs, inode)
            entry.entry_timeout, entry.attr_timeout = name_seconds, attribute_seconds
            if not reply(token, inode.name, entry, index + 3):
                return
            count_lookup(inode)

    @_prompt
    async def releasedir(self, fh: int) -> None:
        await self.fs.releasedir(fh)

    @_prompt
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        """Nothing to do: names are changed on the NAS before the call that changes them returns."""

    # ----- files ------------------------------------------------------------------------------------------------

    @_prompt_if(lambda self, inode, flags, ctx: self.fs.at_hand.opening(self._table.get(inode), flags))
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        fh, keep_pages = await self.fs.open(self._table.get(inode), flags, Caller(ctx.pid, ctx.uid))
        return pyfuse3.FileInfo(fh=fh, keep_cache=keep_pages)

    @_guarded
    async def read(self, fh: int, off: int, size: int) -> bytes:
        # pyfuse3 takes any contiguous buffer: a view of a cached piece goes to the kernel without a copy.
        return await self.fs.read(fh, off, size)  # type: ignore[return-value]

    @_prompt_if(lambda self, fh: self.fs.at_hand.release(fh), changes=True)
    async def release(self, fh: int) -> None:
        await self.fs.release(fh)

    # ----- what File Station does not have ----------------------------------------------------------------------

    @_guarded
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        raise NotSupported("File Station shows no symbolic links")

    @_guarded
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        raise self._refusal("symbolic links")

    @_guarded
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        raise self._refusal("hard links")

    @_guarded
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        raise self._refusal("special files")

    def _refusal(self, what: str) -> FilesystemError:
        if self.fs.read_only:
            return ReadOnlyFilesystem(what)
        return NotSupported(f"File Station has no {what}")

    # ----- changes ------------------------------------------------------------------------------------------------

    def _begins_at_once(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> bool:
        return self.fs.at_hand.new_name(self._table.get(parent_inode), name)

    @_prompt_if(_begins_at_once)
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        inode, fh = await self.fs.create(self._table.get(parent_inode), name, flags)
        entry = self._entry(inode)
        self._table.count_lookup(inode)
        return pyfuse3.FileInfo(fh=fh, keep_cache=False), entry

    # It never waits for the NAS, but a copy of a big file takes its time.
    @_prompt_if(lambda self, fh, off, buf: self.fs.at_hand.room(fh, len(buf)), changes=True)
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return await self.fs.write(fh, off, buf)

    @_prompt_if(lambda self, fh: self.fs.at_hand.closing(fh), changes=True)
    async def flush(self, fh: int) -> None:
        await self.fs.flush(fh)

    @_unhurried
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self.fs.fsync(fh)

    @_unhurried
    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        found = self._table.get(inode)
        await self.fs.setattr(
            found,
            size=attr.st_size if fields.update_size else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
            number=fh,
        )
        return self._entry(found)

    @_unhurried
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        inode = await self.fs.mkdir(self._table.get(parent_inode), name)
        entry = self._entry(inode)
        self._table.count_lookup(inode)
        return entry

    @_unhurried
    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self.fs.unlink(self._table.get(parent_inode), name)

    @_unhurried
    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self.fs.rmdir(self._table.get(parent_inode), name)

    @_unhurried
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        if flags & ~pyfuse3.RENAME_NOREPLACE:
            raise InvalidArgument("only RENAME_NOREPLACE is supported")
        await self.fs.rename(
            self._table.get(parent_inode_old),
            name_old,
            self._table.get(parent_inode_new),
            name_new,
            replace=not flags & pyfuse3.RENAME_NOREPLACE,
        )
