"""The life of a mount: open the kernel's device, serve it, close it; and what to tune once it is there.

pyfuse3 keeps one mount per process in module globals, so there is one `Mount` per process, too.

After a crash the mountpoint stays, and answers "Transport endpoint is not connected": an empty folder in its place
would look to a mirror job like "all files deleted". Whoever supervises the process clears it (`synofs umount`,
`fusermount3 -uz`); that is why libfuse's `auto_unmount` is not used.
"""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import pyfuse3
import trio

from synofs.fs.filesystem import Filesystem
from synofs.fuse.calls import Calls
from synofs.fuse.connection import CONNECTIONS, abort, device_number, keep_guard
from synofs.fuse.invalidation import KernelNotifier
from synofs.fuse.operations import Operations
from synofs.fuse.turns import kept_while_answers_are_at_hand

log = logging.getLogger(__name__)

_LET_GO_SECONDS = 10.0  # for a message to the kernel to be taken, when no call is served any longer


@dataclass(frozen=True, slots=True)
class MountOptions:
    mountpoint: str
    source: str  # the first column of mount(8); a colon in it tells coreutils that the mount is remote
    allow_other: bool = False
    read_only: bool = True
    noexec: bool = False
    deadline_seconds: float = 20.0  # a handler that has no answer by then fails with ETIMEDOUT: a disk takes up to 15
    max_tasks: int = 200  # calls served at once; with pyfuse3's 99, slow reads of many files would block everything
    kernel_read_ahead_bytes: int = 1024 * 1024
    max_background: int = 64


class Mount:
    def __init__(self, fs: Filesystem, options: MountOptions, notifier: KernelNotifier) -> None:
        self._fs = fs
        self._options = options
        self._notifier = notifier
        self._stopping = False
        self._stop_asked = trio.Event()
        self._unmounted = False
        self.calls = Calls()
        notifier.mind(self.calls)

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Mount, report as started, and serve until somebody unmounts or `stop` is called.

        Raises `OSError` or `RuntimeError` when the kernel does not take the mount.
        """
        options = self._options
        operations = Operations(self._fs, options.deadline_seconds, self.calls)
        pyfuse3.init(operations, options.mountpoint, self._kernel_options())
        kernel_let_go = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._notifier.run)
                nursery.start_soon(keep_guard, options.mountpoint)
                nursery.start_soon(tune_kernel, options)
                nursery.start_soon(self._end_when_asked)
                task_status.started()
                with kept_while_answers_are_at_hand():
                    await pyfuse3.main(max_tasks=options.max_tasks)
                kernel_let_go = self._stopping = True
                nursery.cancel_scope.cancel()
        finally:
            if self._notifier.delivering:
                abort(options.mountpoint)
            # Anything else is a crash, here or beside us: then the mountpoint stays, as the preface says.
            pyfuse3.close(unmount=(kernel_let_go or self._stopping) and not self._unmounted)

    def stop(self, *, unmounted: bool = False) -> None:
        """Stop serving; `serve` unmounts and returns. May be called more than once.

        `unmounted`: nothing of ours is at the mountpoint any more, so that what is there by now must stay.
        """
        if not self._stopping:
            self._stopping = True
            self._unmounted = unmounted
            self._stop_asked.set()

    async def _end_when_asked(self) -> None:
        await self._stop_asked.wait()
        with trio.move_on_after(_LET_GO_SECONDS):
            if self._notifier.delivering:
                self.calls.give_up()
            await self._notifier.fall_silent()
        pyfuse3.terminate()

    def _kernel_options(self) -> set[str]:
        options = {f"fsname={self._options.source.replace(',', '_')}", "subtype=synofs"}
        if self._options.read_only:
            options.add("ro")
        if self._options.noexec:
            options.add("noexec")
        if self._options.allow_other:
            # Other users are checked by the kernel against the mode bits. For the mounting user alone we answer
            # access(2) ourselves from the NAS's rights: the kernel would tell root "yes" whatever the NAS thinks.
            options |= {"allow_other", "default_permissions"}
        return options


async def tune_kernel(options: MountOptions) -> None:
    """Raise the kernel's limits for this mount, where we may (read-ahead: root only; the queue: the mounting user).

    libfuse gives no way to set them. Without it the kernel keeps about two reads of 128 KiB in flight, which at
    5 ms per request is 44 MB/s; with 1 MiB read-ahead the same reader gets 16 times as much. Failing to set them costs
    speed and nothing else.
    """
    # Abandoned at an end that comes first: its question to ourselves is then answered by the unmount.
    await trio.to_thread.run_sync(_tune, options, abandon_on_cancel=True)


def _tune(options: MountOptions) -> None:
    # Once this is answered the kernel's INIT is over, which would lower read-ahead to 128 KiB again.
    with contextlib.suppress(OSError):
        os.stat(options.mountpoint)
    device = device_number(options.mountpoint)
    if device is None:
        return
    major, minor = device
    bdi = Path(f"/sys/class/bdi/{major}:{minor}/read_ahead_kb")
    connection = CONNECTIONS / str(minor)
    settings = {
        bdi: options.kernel_read_ahead_bytes // 1024,
        connection / "max_background": options.max_background,
        connection / "congestion_threshold": options.max_background * 3 // 4,
    }
    for path, value in settings.items():
        with contextlib.suppress(OSError):
            path.write_text(f"{value}\n")
            log.debug("set %s to %d", path, value)
