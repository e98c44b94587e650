"""The end of a mount, in the face of a kernel that waits for it."""

from __future__ import annotations

import errno
import threading
from types import SimpleNamespace

import pyfuse3
import pytest
import trio

from synofs.content.reader import Reader, ReaderOptions
from synofs.fs.filesystem import Filesystem, FsOptions
from synofs.fs.inodes import ROOT_NUMBER
from synofs.fuse import invalidation, mountpoint
from synofs.fuse.invalidation import KernelNotifier
from synofs.fuse.mountpoint import Mount, MountOptions
from synofs.fuse.operations import Operations
from tests.unit.memory_store import MemoryStore

pytestmark = pytest.mark.trio

CTX = pyfuse3.RequestContext()


class Kernel:
    """Takes the place of pyfuse3's functions. A name is taken by it only when the folder is not locked any more."""

    def __init__(self) -> None:
        self.operations: Operations | None = None
        self.terminated = trio.Event()
        self.told = trio.Event()
        self.unlocked = threading.Event()
        self.taken = False

    def init(self, operations: Operations, mountpoint: str, options: set[str]) -> None:
        self.operations = operations

    async def main(self, max_tasks: int) -> None:
        await self.terminated.wait()

    def terminate(self) -> None:
        self.terminated.set()

    def close(self, unmount: bool) -> None:
        pass

    def invalidate_inode(self, number: int, attributes_only: bool) -> None:
        pass

    def invalidate_entry(self, directory: int, name: bytes, deleted: int = 0) -> None:
        trio.from_thread.run_sync(self.told.set)
        self.taken = self.unlocked.wait(10)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()
    names = ("init", "main", "terminate", "close", "invalidate_inode", "invalidate_entry")
    pyfuse3_like = SimpleNamespace(**{name: getattr(kernel, name) for name in names})
    monkeypatch.setattr(mountpoint, "pyfuse3", pyfuse3_like)
    monkeypatch.setattr(invalidation, "pyfuse3", pyfuse3_like)
    return kernel


async def test_the_end_answers_calls_until_the_kernel_has_taken_what_it_is_told(
    kernel: Kernel, tmp_path, expect_logs
) -> None:
    """A thread waits in the kernel for a folder that a call keeps locked. Did we end before that is answered, and
    before those that come in the meantime are, neither would ever end, and the programs neither."""
    expect_logs("the mount is being ended")
    store = MemoryStore()
    store.gate("list_dir")  # a NAS that does not answer
    notifier = KernelNotifier()
    fs = Filesystem(store, FsOptions(), Reader(store, ReaderOptions()), notifier)
    mount = Mount(fs, MountOptions(str(tmp_path), "nas:/"), notifier)
    with trio.fail_after(8):
        async with trio.open_nursery() as nursery:
            await nursery.start(fs.run)
            served = trio.Event()

            async def serve() -> None:
                await mount.serve()
                served.set()

            nursery.start_soon(serve)
            await trio.testing.wait_all_tasks_blocked()
            notifier.entry_appeared(fs.inodes.root, b"a")
            await kernel.told.wait()
            errnos: list[int] = []

            async def look_up() -> None:
                assert kernel.operations is not None
                try:
                    await kernel.operations.lookup(ROOT_NUMBER, b"b", CTX)
                except pyfuse3.FUSEError as refusal:
                    errnos.append(refusal.errno)

            nursery.start_soon(look_up)  # it came too late for the thread to wait for it
            await trio.testing.wait_all_tasks_blocked()
            mount.stop()
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert errnos == [errno.ETIMEDOUT]
            assert not kernel.terminated.is_set(), "calls are not answered any more"
            await look_up()
            assert errnos == [errno.ETIMEDOUT] * 2
            notifier.entry_appeared(fs.inodes.root, b"later")
            kernel.unlocked.set()
            await served.wait()
            assert kernel.taken
            nursery.cancel_scope.cancel()
