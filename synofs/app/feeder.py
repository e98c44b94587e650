"""Brings the NAS's thumbnails to the desktop: of the folder that a person looks at, and of nothing else.

    a file manager has read a folder --> its pictures without a valid thumbnail are queued (a newer folder replaces
    an older one) --> a few at a time, when the NAS has nothing better to do --> the desktop's cache --> the file
    manager is told that something is new about the file, looks again, and finds it

*Told*: all that file managers listen to is inotify, and only a change through the mount makes the kernel speak. So the
picture's mode is "changed" to what it is, which the filesystem takes without asking the NAS.

Asking for a thumbnail changes its folder's mtime on the NAS. Nothing here depends on that time, and a picture whose
thumbnail is there, or that the NAS has none of, is not asked for again, so a listing that is read anew ends in rest.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from synofs.app.thumbnail_cache import NotAPicture, ThumbnailCache, file_uri
from synofs.fs.callers import Caller
from synofs.fs.inodes import Inode
from synofs.fs.names import printable
from synofs.fs.sparing import is_image
from synofs.remote import Fingerprint, NotFound, RemoteError, Rights, Unavailable

log = logging.getLogger(__name__)

NAS_SIZE = "medium"  # 320 pixels: enough for the desktop's 256


@dataclass(frozen=True, slots=True)
class FeederOptions:
    mountpoint: str
    root: str  # the NAS path that the mountpoint shows, "/" or "/share"
    at_once: int = 3
    most_of_a_folder: int = 500
    pauses_seconds: tuple[float, ...] = (2.0, 10.0)  # before asking again for one that the NAS has not made yet
    counting_seconds: float = 2.0
    remembered: int = 20_000


class Feeder:
    """Keeps the promise of `synofs.fs.sparing.Desktop`. Everything but `run` returns at once."""

    def __init__(
        self, fetch: Callable[[str, str], Awaitable[bytes]], cache: ThumbnailCache, options: FeederOptions
    ) -> None:
        self._fetch = fetch
        self._cache = cache
        self._options = options
        self._uid = os.geteuid()
        # Those that the NAS has been asked for before come first: the top of the folder, where somebody looks, is
        # complete before its end is begun. Then what a thumbnailer wants.
        self._again: OrderedDict[int, Inode] = OrderedDict()
        self._asked_for: OrderedDict[int, Inode] = OrderedDict()
        self._of_the_folder: OrderedDict[int, Inode] = OrderedDict()
        self._under_way: set[int] = set()
        self._none_there: OrderedDict[int, Fingerprint] = OrderedDict()  # pictures that the NAS has no thumbnail of
        self._tries: dict[int, int] = {}  # answers of "none, or none yet" so far
        self._later: set[int] = set()  # will be asked for again
        self._folder: Inode | None = None  # where somebody is
        self._visits: OrderedDict[int, float] = OrderedDict()
        self._wake = trio.Event()
        self._nursery: trio.Nursery | None = None
        self.fed = 0

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            for _ in range(self._options.at_once):
                nursery.start_soon(self._work)

    # ----- what the filesystem tells ------------------------------------------------------------------------------

    def visited(self, directory: Inode, caller: Caller, opened_at: float) -> None:
        listing = directory.listing
        if caller.uid != self._uid or listing is None or self._is_a_count(directory, opened_at):
            return
        pictures = [inode for inode in listing.entries if self._is_wanted(inode)]
        if not pictures:
            return
        self._folder = directory
        self._again.clear()
        self._of_the_folder.clear()
        for inode in pictures[: self._options.most_of_a_folder]:
            self._of_the_folder[inode.number] = inode
        self._rouse()

    def _is_a_count(self, directory: Inode, opened_at: float) -> bool:
        """Some file managers open each folder in a folder, right after it, to show how many things are in it."""
        self._visits[directory.number] = opened_at
        self._visits.move_to_end(directory.number)
        while len(self._visits) > self._options.remembered:
            self._visits.popitem(last=False)
        parent = directory.parent.number if directory.parent is not None else directory.number
        seen = self._visits.get(parent) if parent != directory.number else None
        return seen is not None and 0 <= opened_at - seen < self._options.counting_seconds

    def looked_at(self, picture: Inode, caller: Caller) -> bool:
        if self._none_there.get(picture.number) == picture.fingerprint:
            return True
        if caller.uid == self._uid and self._is_wanted(picture):
            self._folder = self._folder or picture.parent
            self._asked_for[picture.number] = picture
            self._rouse()
        return False

    def _rouse(self) -> None:
        self._wake.set()
        self._wake = trio.Event()

    def _is_wanted(self, inode: Inode) -> bool:
        return (
            not inode.is_dir
            and not inode.gone
            and inode.size > 0
            and inode.staged is None  # the NAS has another version of it, or none yet
            and bool(inode.rights & Rights.READ)
            and is_image(inode.name)
            and inode.number not in self._under_way
            and inode.number not in self._later
            and self._none_there.get(inode.number) != inode.fingerprint
        )

    # ----- work -----------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            queue = self._again or self._asked_for or self._of_the_folder
            if not queue:
                await self._wake.wait()
                continue
            _, inode = queue.popitem(last=False)
            self._of_the_folder.pop(inode.number, None)
            if not self._is_wanted(inode):
                continue
            self._under_way.add(inode.number)
            try:
                await self._feed(inode)
            except Unavailable as error:
                log.debug("thumbnails wait: %s", error)
                for queue in (self._again, self._asked_for, self._of_the_folder):
                    queue.clear()  # whoever comes again finds the rest
            except (RemoteError, NotAPicture, OSError) as error:
                log.info("%s: no thumbnail (%s)", printable(inode.path()), error)
                self._give_up(inode, inode.fingerprint)
            finally:
                self._under_way.discard(inode.number)

    async def _feed(self, inode: Inode) -> None:
        version, nas_path = inode.fingerprint, inode.path()
        local = os.fsencode(self._options.mountpoint) + os.fsencode(
            nas_path.removeprefix(self._options.root.rstrip("/"))
        )
        uri = file_uri(local)
        mtime = (inode.mtime_ns if inode.shown_mtime_ns is None else inode.shown_mtime_ns) // 10**9
        if await trio.to_thread.run_sync(self._cache.has, uri, mtime):
            return
        try:
            picture = await self._fetch(nas_path, NAS_SIZE)
        except NotFound:
            self._try_later(inode)
            return
        self._tries.pop(inode.number, None)
        if inode.fingerprint != version or inode.path() != nas_path:
            return  # it changed meanwhile; the next visit sees to it
        await trio.to_thread.run_sync(self._cache.put, uri, mtime, version.size, picture)
        self.fed += 1
        await trio.to_thread.run_sync(_tell, local)

    def _try_later(self, inode: Inode) -> None:
        """The NAS may still be making it. While somebody is in the folder, it is asked again, a few times."""
        tries = self._tries.pop(inode.number, 0)
        if tries == len(self._options.pauses_seconds):
            self._give_up(inode, inode.fingerprint)
            return
        self._tries[inode.number] = tries + 1
        assert self._nursery is not None
        self._later.add(inode.number)
        self._nursery.start_soon(self._queue_again, inode, self._options.pauses_seconds[tries])

    async def _queue_again(self, inode: Inode, pause_seconds: float) -> None:
        await trio.sleep(pause_seconds)
        self._later.discard(inode.number)
        if inode.parent is self._folder:
            self._again[inode.number] = inode
            self._rouse()
        else:
            self._tries.pop(inode.number, None)

    def _give_up(self, inode: Inode, version: Fingerprint) -> None:
        self._none_there[inode.number] = version
        while len(self._none_there) > self._options.remembered:
            self._none_there.popitem(last=False)


def _tell(path: bytes) -> None:
    """Make the kernel tell whoever watches the file that something is new about it. In vain on a read-only mount."""
    with contextlib.suppress(OSError):
        os.chmod(path, os.stat(path).st_mode & 0o7777)
