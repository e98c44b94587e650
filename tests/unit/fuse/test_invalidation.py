from __future__ import annotations

import errno
import threading

import pytest
import trio
import trio.testing

from synofs.fs.inodes import Inode, InodeTable
from synofs.fuse import invalidation
from synofs.fuse.calls import Calls
from synofs.fuse.invalidation import KernelNotifier
from synofs.remote import Fingerprint

pytestmark = pytest.mark.trio


class Kernel:
    """Takes the place of pyfuse3's calls."""

    def __init__(self) -> None:
        self.told: list[tuple] = []
        self.awaited = 0
        self.all_told = trio.Event()
        self.fails: dict[tuple, int] = {}

    def invalidate_inode(self, number: int, attributes_only: bool) -> None:
        self._tell("inode", number, attributes_only)

    def invalidate_entry(self, directory: int, name: bytes, deleted: int = 0) -> None:
        self._tell("entry", directory, name, deleted)

    def _tell(self, *call) -> None:
        self.told.append(call)
        if len(self.told) == self.awaited:
            trio.from_thread.run_sync(self.all_told.set)
        if call in self.fails:
            raise OSError(self.fails[call], "the kernel says no")


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()
    monkeypatch.setattr(invalidation, "pyfuse3", kernel)
    return kernel


@pytest.fixture
def table() -> InodeTable:
    return InodeTable("/")


def known(table: InodeTable, name: bytes, is_dir: bool = False) -> Inode:
    inode = table.obtain(table.root, name, is_dir)
    table.count_lookup(inode)
    return inode


async def deliver(notifier: KernelNotifier, kernel: Kernel, count: int) -> None:
    """Run the notifier until so many calls were made."""
    kernel.awaited = count
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(notifier.run)
            await kernel.all_told.wait()
            nursery.cancel_scope.cancel()


async def test_changed_content_voids_pages_and_attributes(kernel: Kernel, table: InodeTable) -> None:
    inode = known(table, b"a")
    inode.kernel_cached = Fingerprint(1, 1)
    notifier = KernelNotifier()
    notifier.content_changed(inode)
    await deliver(notifier, kernel, 1)
    assert kernel.told == [("inode", inode.number, False)]
    assert inode.kernel_cached is None, "the next open must not keep the pages"


async def test_changed_attributes_void_attributes_only(kernel: Kernel, table: InodeTable) -> None:
    inode = known(table, b"a")
    notifier = KernelNotifier()
    notifier.attributes_changed(inode)
    await deliver(notifier, kernel, 1)
    assert kernel.told == [("inode", inode.number, True)]


async def test_changes_are_told_once_and_the_greater_one_wins(kernel: Kernel, table: InodeTable) -> None:
    inode = known(table, b"a")
    notifier = KernelNotifier()
    for _ in range(1000):
        notifier.attributes_changed(inode)
        notifier.content_changed(inode)
        notifier.attributes_changed(inode)
        notifier.entry_appeared(table.root, b"b")
    await deliver(notifier, kernel, 2)
    assert kernel.told == [("inode", inode.number, False), ("entry", 1, b"b", 0)]


async def test_a_name_that_is_gone_is_told_as_deleted_if_the_kernel_knows_it(kernel: Kernel, table: InodeTable) -> None:
    notifier = KernelNotifier()
    inode = known(table, b"known")
    notifier.entry_gone(table.root, inode)
    notifier.entry_gone(table.root, table.obtain(table.root, b"unknown", is_dir=False))
    await deliver(notifier, kernel, 2)
    assert kernel.told == [("entry", 1, b"known", inode.number), ("entry", 1, b"unknown", 0)]


async def test_a_folder_that_the_kernel_does_not_know_has_no_names_to_tell_of(
    kernel: Kernel, table: InodeTable
) -> None:
    notifier = KernelNotifier()
    unknown = table.obtain(table.root, b"unknown", is_dir=True)
    notifier.entry_appeared(unknown, b"a")
    notifier.entry_gone(unknown, known(table, b"b"))
    notifier.entry_appeared(table.root, b"last")
    await deliver(notifier, kernel, 1)
    assert kernel.told == [("entry", 1, b"last", 0)]


async def test_what_the_kernel_refuses_to_delete_it_forgets_at_least(kernel: Kernel, table: InodeTable) -> None:
    """A folder with something mounted below it, or that is somebody's working directory."""
    notifier = KernelNotifier()
    inode = known(table, b"busy", is_dir=True)
    kernel.fails["entry", 1, b"busy", inode.number] = errno.EBUSY
    notifier.entry_gone(table.root, inode)
    await deliver(notifier, kernel, 2)
    assert kernel.told == [("entry", 1, b"busy", inode.number), ("entry", 1, b"busy", 0)]


async def test_what_the_kernel_has_forgotten_is_no_trouble(kernel: Kernel, table: InodeTable) -> None:
    notifier = KernelNotifier()
    gone, other = known(table, b"gone"), known(table, b"other")
    kernel.fails["inode", gone.number, False] = errno.ENOENT
    kernel.fails["entry", 1, b"gone", gone.number] = errno.ENOENT
    kernel.fails["entry", 1, b"x", 0] = errno.ENOENT
    notifier.content_changed(gone)
    notifier.content_changed(other)
    notifier.entry_gone(table.root, gone)
    notifier.entry_appeared(table.root, b"x")
    notifier.entry_appeared(table.root, b"y")
    await deliver(notifier, kernel, 5)
    assert len(kernel.told) == 5


async def test_a_folder_whose_call_is_being_served_is_left_alone_until_it_is_answered(
    kernel: Kernel, table: InodeTable
) -> None:
    """A thread that waits for the kernel's lock cannot be killed, and keeps the mount from ending with us."""
    notifier, calls = KernelNotifier(), Calls()
    notifier.mind(calls)
    folder = known(table, b"folder", is_dir=True)
    rename = calls.begin("rename", (table.root.number, b"a", folder.number, b"b", 0, None))
    notifier.entry_appeared(table.root, b"x")
    notifier.entry_appeared(folder, b"y")
    notifier.attributes_changed(folder)
    kernel.awaited = 1
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(notifier.run)
            await kernel.all_told.wait()
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert kernel.told == [("inode", folder.number, True)]
            kernel.awaited, kernel.all_told = 3, trio.Event()
            calls.end(rename, 0)
            await kernel.all_told.wait()
            nursery.cancel_scope.cancel()
    assert kernel.told[1:] == [("entry", table.root.number, b"x", 0), ("entry", folder.number, b"y", 0)]


async def test_a_folder_that_a_call_locks_while_others_are_told_is_left_alone_too(
    kernel: Kernel, table: InodeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    notifier, calls = KernelNotifier(), Calls()
    notifier.mind(calls)
    begun = []
    tell = kernel.invalidate_entry

    def slow(directory: int, name: bytes, deleted: int = 0) -> None:
        if name == b"first":
            begun.append(calls.begin("create", (folder.number, b"z", 0, None)))
        tell(directory, name, deleted)

    folder = known(table, b"folder", is_dir=True)
    monkeypatch.setattr(kernel, "invalidate_entry", slow)
    notifier.entry_appeared(table.root, b"first")
    notifier.entry_appeared(folder, b"y")
    kernel.awaited = 1
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(notifier.run)
            await kernel.all_told.wait()
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert kernel.told == [("entry", table.root.number, b"first", 0)]
            kernel.awaited, kernel.all_told = 2, trio.Event()
            calls.end(begun[0], 0)
            await kernel.all_told.wait()
            nursery.cancel_scope.cancel()
    assert kernel.told[1:] == [("entry", folder.number, b"y", 0)]


async def test_attributes_that_changed_are_asked_for_once_before_an_answer(kernel: Kernel, table: InodeTable) -> None:
    inode = known(table, b"a")
    notifier = KernelNotifier()
    notifier.attributes_before_answer(inode)
    notifier.attributes_before_answer(inode)
    assert kernel.told == [("inode", inode.number, True)]


async def test_the_end_does_not_wait_for_a_kernel_that_blocks(table: InodeTable, monkeypatch) -> None:
    blocked, release = trio.Event(), threading.Event()

    class Stuck(Kernel):
        def _tell(self, *call) -> None:
            trio.from_thread.run_sync(blocked.set)
            release.wait(30)

    monkeypatch.setattr(invalidation, "pyfuse3", Stuck())
    notifier = KernelNotifier()
    notifier.entry_appeared(table.root, b"a")
    try:
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(notifier.run)
                await blocked.wait()
                nursery.cancel_scope.cancel()
    finally:
        release.set()
