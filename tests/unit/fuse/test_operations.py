"""The kernel border, called as pyfuse3 calls it: what the guard makes of failures, and what the replies say."""

from __future__ import annotations

import errno
import logging
import os
import stat

import pyfuse3
import pytest
import trio

from synofs.content.reader import Reader, ReaderOptions
from synofs.fs.errors import NoEntry
from synofs.fs.filesystem import Filesystem, FsOptions
from synofs.fs.inodes import ROOT_NUMBER
from synofs.fuse.operations import Operations
from synofs.remote import NotFound, Rights, ShortBody, Space, Unreachable
from tests.unit.memory_store import MemoryStore
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time

TTL = 30.0
DEADLINE = 7.0
CTX = pyfuse3.RequestContext()


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.folder("/s", mtime=5)
    store.file("/s/file", b"hello", mtime=7, rights=Rights.READ | Rights.WRITE)
    return store


@pytest.fixture
def options() -> FsOptions:
    return FsOptions(dir_ttl_seconds=TTL, attr_ttl_seconds=TTL, uid=1234, gid=5678, umask=0o027)


@pytest.fixture
async def ops(store: MemoryStore, options: FsOptions, nursery: trio.Nursery) -> Operations:
    reader = Reader(store, ReaderOptions())
    fs = Filesystem(store, options, reader)
    await nursery.start(reader.run)
    await nursery.start(fs.run)
    return Operations(fs, DEADLINE)


async def find(ops: Operations, *names: bytes) -> int:
    number = ROOT_NUMBER
    for name in names:
        number = (await ops.lookup(number, name, CTX)).st_ino
    return number


async def errno_of(call) -> int:
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await call
    return caught.value.errno


# ----- the guard ------------------------------------------------------------------------------------------------


async def test_an_exception_that_nobody_foresaw_is_eio_with_a_traceback(
    ops: Operations, monkeypatch: pytest.MonkeyPatch, expect_logs, caplog: pytest.LogCaptureFixture
) -> None:
    expect_logs("getattr.*failed in a way nobody foresaw")

    async def broken(inode) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(ops.fs, "getattr", broken)
    assert await errno_of(ops.getattr(ROOT_NUMBER, CTX)) == errno.EIO
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info[1].args == ("a bug",)
    assert record.exc_info[2] is not None
    monkeypatch.undo()
    assert (await ops.getattr(ROOT_NUMBER, CTX)).st_ino == ROOT_NUMBER


@pytest.mark.parametrize(
    ("error", "expected"),
    [(NoEntry("x"), errno.ENOENT), (NotFound("x"), errno.ENOENT), (PermissionError(errno.EACCES, "x"), errno.EACCES)],
)
async def test_a_known_failure_is_its_errno(
    ops: Operations, monkeypatch: pytest.MonkeyPatch, expect_logs, error: Exception, expected: int
) -> None:
    if isinstance(error, OSError):
        expect_logs("getattr: ")

    async def failing(inode) -> None:
        raise error

    monkeypatch.setattr(ops.fs, "getattr", failing)
    assert await errno_of(ops.getattr(ROOT_NUMBER, CTX)) == expected


async def test_a_name_that_was_found_and_has_no_attributes_is_not_kept(
    ops: Operations, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was asked for alone, because the other pages of its huge folder were still on their way."""
    store.page_entries = 1
    store.file("/s/other")
    folder = await find(ops, b"s")
    page = store.gate("page", "/s", skip=1)
    handle = await ops.opendir(folder, CTX)
    await ops.fs.readdir(handle, 0)
    await page.reached.wait()
    known = len(ops.fs.inodes)

    async def failing(inode) -> None:
        raise NoEntry("x")

    monkeypatch.setattr(ops.fs, "getattr", failing)
    assert await errno_of(ops.lookup(folder, b"other", CTX)) == errno.ENOENT
    assert len(ops.fs.inodes) == known
    page.open()


async def test_no_answer_within_the_deadline_is_a_timeout(ops: Operations, store: MemoryStore, expect_logs) -> None:
    expect_logs("no answer within 7 s")
    store.gate("list_dir")
    started = trio.current_time()
    assert await errno_of(ops.lookup(ROOT_NUMBER, b"s", CTX)) == errno.ETIMEDOUT
    assert trio.current_time() - started == pytest.approx(DEADLINE)


async def test_an_answer_that_comes_after_a_deadline_serves_the_next_call(
    ops: Operations, store: MemoryStore, expect_logs
) -> None:
    expect_logs("no answer within")
    gate = store.gate("list_dir")
    await errno_of(ops.lookup(ROOT_NUMBER, b"s", CTX))
    gate.open()
    await find(ops, b"s")
    assert store.count("list_dir") == 1


async def test_a_call_that_waits_when_the_mount_ends_gets_an_answer(
    ops: Operations, store: MemoryStore, expect_logs
) -> None:
    """Without one its caller would hang for ever: `Cancelled` must not leave a handler."""
    expect_logs("the mount is being ended")
    gate = store.gate("list_dir")
    outcomes = []

    async def call() -> None:
        outcomes.append(await errno_of(ops.lookup(ROOT_NUMBER, b"s", CTX)))

    async with trio.open_nursery() as mount:
        mount.start_soon(call)
        await gate.reached.wait()
        mount.cancel_scope.cancel()
    assert outcomes == [errno.ETIMEDOUT]


async def test_a_failure_is_logged_once_with_the_path_that_people_know(
    ops: Operations, store: MemoryStore, expect_logs, caplog: pytest.LogCaptureFixture
) -> None:
    expect_logs(r"^read: /s/file: cut \(Input/output error\)$")
    number = await find(ops, b"s", b"file")
    opened = await ops.open(number, os.O_RDONLY, CTX)
    with store.fail("read_range", ShortBody("cut", path="/s/file")):
        assert await errno_of(ops.read(opened.fh, 0, 5)) == errno.EIO
    assert len(caplog.records) == 1


async def test_a_hostile_path_cannot_forge_a_log_line(
    ops: Operations, store: MemoryStore, expect_logs, caplog: pytest.LogCaptureFixture
) -> None:
    expect_logs("cut")
    number = await find(ops, b"s", b"file")
    opened = await ops.open(number, os.O_RDONLY, CTX)
    with store.fail("read_range", ShortBody("cut", path="/s/a\nERROR forged\udcff")):
        await errno_of(ops.read(opened.fh, 0, 5))
    assert "\n" not in caplog.records[0].getMessage()
    caplog.records[0].getMessage().encode()


# ----- replies --------------------------------------------------------------------------------------------------


async def test_attributes_say_what_the_nas_says(ops: Operations) -> None:
    entry = await ops.getattr(await find(ops, b"s", b"file"), CTX)
    assert stat.S_ISREG(entry.st_mode)
    assert stat.S_IMODE(entry.st_mode) == 0o440  # read only for the mount, less the umask
    assert (entry.st_nlink, entry.st_uid, entry.st_gid) == (1, 1234, 5678)
    assert (entry.st_size, entry.st_blocks) == (5, 1)
    assert entry.st_atime_ns == entry.st_mtime_ns == entry.st_ctime_ns == 7 * 10**9
    folder = await ops.getattr(await find(ops, b"s"), CTX)
    assert stat.S_ISDIR(folder.st_mode)
    assert stat.S_IMODE(folder.st_mode) == 0o550
    assert folder.st_nlink == 1, "2 would mean: no folders in here"


async def test_a_lookup_counts_one_and_a_failed_one_none(ops: Operations, store: MemoryStore) -> None:
    number = await find(ops, b"s", b"file")
    inode = ops.fs.inodes.get(number)
    assert inode.lookups == 1
    await find(ops, b"s", b"file")
    assert inode.lookups == 2
    store.remove("/s/file")
    await trio.sleep(TTL)
    parent = inode.parent.number
    assert (await ops.lookup(parent, b"file", CTX)).st_ino == 0
    assert inode.lookups == 2
    ops.forget([(number, 2)])
    with pytest.raises(pyfuse3.FUSEError):
        await ops.getattr(number, CTX)


async def test_forget_never_raises(ops: Operations) -> None:
    ops.forget([(4711, 1), (ROOT_NUMBER, 10), (0, 0), (-1, 99)])


async def test_a_missing_name_is_a_reply_that_the_kernel_remembers(ops: Operations) -> None:
    share = await find(ops, b"s")
    await ops.lookup(share, b"file", CTX)
    await trio.sleep(10)
    reply = await ops.lookup(share, b"nothing", CTX)
    assert reply.st_ino == 0
    assert reply.entry_timeout == pytest.approx(TTL - 10)


async def test_a_missing_name_is_not_remembered_while_the_nas_is_away(ops: Operations, store: MemoryStore) -> None:
    share = await find(ops, b"s")
    await ops.lookup(share, b"file", CTX)
    await trio.sleep(TTL)
    with store.fail("list_dir", Unreachable("no route")):
        assert await errno_of(ops.lookup(share, b"nothing", CTX)) == errno.ENOENT


async def test_timeouts_are_what_is_left_of_the_ttls_and_never_0(ops: Operations, store: MemoryStore) -> None:
    number = await find(ops, b"s", b"file")
    await trio.sleep(10)
    entry = await ops.getattr(number, CTX)
    assert entry.attr_timeout == entry.entry_timeout == pytest.approx(TTL - 10)
    await trio.sleep(TTL)
    with store.fail("list_dir", Unreachable("no route")):
        entry = await ops.getattr(number, CTX)
    assert 0 < entry.attr_timeout <= 1
    assert 0 < entry.entry_timeout <= 1


async def test_each_ttl_is_its_own(store: MemoryStore, nursery: trio.Nursery) -> None:
    fs = Filesystem(store, FsOptions(dir_ttl_seconds=5, attr_ttl_seconds=60), Reader(store, ReaderOptions()))
    await nursery.start(fs.run)
    ops = Operations(fs, DEADLINE)
    entry = await ops.lookup(await find(ops, b"s"), b"file", CTX)
    assert (entry.entry_timeout, entry.attr_timeout) == (5, 60)


async def test_a_reply_is_kept_until_an_attribute_changes(ops: Operations, store: MemoryStore) -> None:
    """Building it anew for each entry is most of the cost of a warm `ls -l`."""
    number = await find(ops, b"s", b"file")
    first = await ops.getattr(number, CTX)
    assert await ops.getattr(number, CTX) is first
    store.file("/s/file", b"hello!", mtime=7)
    await trio.sleep(TTL)
    second = await ops.getattr(number, CTX)
    assert second is not first
    assert second.st_size == 6


@pytest.mark.parametrize("mtime", [-1, 0, 2**31, 2**33, 253402300800])
async def test_any_time_is_shown(ops: Operations, store: MemoryStore, mtime: int) -> None:
    store.file("/s/odd", b"", mtime=mtime)
    assert (await ops.getattr(await find(ops, b"s", b"odd"), CTX)).st_mtime_ns == mtime * 10**9


async def test_a_huge_size_is_shown(ops: Operations, store: MemoryStore) -> None:
    store.file("/s/huge")
    store.nodes["/s/huge"].size = 2**62
    entry = await ops.getattr(await find(ops, b"s", b"huge"), CTX)
    assert entry.st_size == 2**62
    assert entry.st_blocks == 2**53


async def test_space_is_shown_in_blocks(ops: Operations, store: MemoryStore) -> None:
    store.capacities["s"] = Space(total_bytes=10 * 4096 + 1, free_bytes=3 * 4096)
    await find(ops, b"s")
    before = await ops.statfs(CTX)
    assert (before.f_blocks, before.f_namemax) == (0, 255)
    await trio.testing.wait_all_tasks_blocked()
    after = await ops.statfs(CTX)
    assert (after.f_frsize, after.f_blocks, after.f_bfree, after.f_bavail) == (4096, 10, 3, 3)


# ----- readdir --------------------------------------------------------------------------------------------------


class Kernel:
    """Takes the entries of a readdir, at most `room` of them for each call, as pyfuse3's token does."""

    def __init__(self, ops: Operations, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.ops = ops
        self.room = room
        self.got: list[tuple[bytes, int, int]] = []
        monkeypatch.setattr(pyfuse3, "readdir_reply", self._reply)

    def _reply(self, token: list, name: bytes, entry: pyfuse3.EntryAttributes, next_id: int) -> bool:
        if len(token) >= self.room:
            return False
        token.append((name, entry.st_ino, next_id))
        return True

    async def read(self, number: int) -> list[tuple[bytes, int, int]]:
        fh = await self.ops.opendir(number, CTX)
        position = 0
        while True:
            token: list = []
            await self.ops.readdir(fh, position, token)
            if not token:
                break
            self.got += token
            position = token[-1][2]
        await self.ops.releasedir(fh)
        return self.got


@pytest.mark.parametrize("room", [1, 2, 3, 7, 1000])
async def test_a_readdir_gives_everything_once_however_little_fits_into_a_reply(
    ops: Operations, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    store.folder("/s/d")
    expected = store.files("/s/d", 20)
    number = await find(ops, b"s", b"d")
    got = await Kernel(ops, monkeypatch, room).read(number)
    assert [name for name, _, _ in got] == [b".", b"..", *expected]
    assert got[0][1] == number
    assert got[1][1] == await find(ops, b"s")
    cookies = [cookie for _, _, cookie in got]
    assert cookies == sorted(set(cookies))
    assert cookies[0] > 0


async def test_each_entry_that_the_kernel_took_counts_one_lookup(
    ops: Operations, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.folder("/s/d")
    store.files("/s/d", 20)
    number = await find(ops, b"s", b"d")
    folder = ops.fs.inodes.get(number)
    before = folder.lookups, folder.parent.lookups
    kernel = Kernel(ops, monkeypatch, room=7)
    await kernel.read(number)
    await kernel.read(number)
    assert [inode.lookups for inode in folder.listing.entries] == [2] * 20
    assert (folder.lookups, folder.parent.lookups) == before, "`.` and `..` do not count"


async def test_an_entry_that_does_not_fit_any_more_does_not_count(
    ops: Operations, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.folder("/s/d")
    store.files("/s/d", 20)
    number = await find(ops, b"s", b"d")
    Kernel(ops, monkeypatch, room=5)
    fh = await ops.opendir(number, CTX)
    await ops.readdir(fh, 0, [])
    assert [inode.lookups for inode in ops.fs.inodes.get(number).listing.entries] == [1] * 3 + [0] * 17


async def test_the_root_is_its_own_parent(ops: Operations, monkeypatch: pytest.MonkeyPatch) -> None:
    got = await Kernel(ops, monkeypatch, room=100).read(ROOT_NUMBER)
    assert [(name, number) for name, number, _ in got[:2]] == [(b".", 1), (b"..", 1)]


def answered_at_once(call) -> bool:
    """Is the call over at its first step? If so it cannot hang, and needs no deadline."""
    try:
        call.send(None)
    except StopIteration:
        return True
    call.close()
    return False


async def test_what_is_at_hand_of_a_folder_is_told_without_waiting_and_the_rest_within_the_deadline(
    ops: Operations, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, expect_logs, nursery: trio.Nursery
) -> None:
    expect_logs("no answer within 7 s")
    Kernel(ops, monkeypatch, room=1)
    store.page_entries = 2
    store.folder("/s/d")
    names = store.files("/s/d", 4)
    number = await find(ops, b"s", b"d")
    at_hand = ops.fs.at_hand.entries

    async def first_page() -> None:
        await ops.fs.readdir(fh, 0)

    assert answered_at_once(ops.opendir(number, CTX))
    fh = await ops.opendir(number, CTX)
    assert not at_hand(fh, 0)
    gate = store.gate("list_dir", "/s/d")
    assert await errno_of(ops.readdir(fh, 0, [])) == errno.ETIMEDOUT

    rest = store.gate("page", "/s/d", skip=1)
    gate.open()
    nursery.start_soon(first_page)
    await trio.testing.wait_all_tasks_blocked()
    assert at_hand(fh, 1)
    assert answered_at_once(ops.fs.readdir(fh, 1))
    assert not at_hand(fh, 2)
    assert await errno_of(ops.readdir(fh, 4, [])) == errno.ETIMEDOUT

    rest.open()
    assert await ops.fs.readdir(fh, 2)
    await trio.testing.wait_all_tasks_blocked()
    for position in (0, 1, len(names), len(names) + 1):
        assert at_hand(fh, position)
        assert answered_at_once(ops.readdir(fh, position and position + 2, []))

    store.gate("list_dir", "/s/d")
    await trio.sleep(TTL)
    assert at_hand(fh, 3), "of the list that the handle began to read"
    assert not at_hand(fh, 0)
    assert answered_at_once(ops.releasedir(fh))


async def test_what_is_at_hand_of_a_file_is_told_without_a_bound_and_the_rest_within_it(
    ops: Operations, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounded = []

    def limited_to(call, seconds: float) -> trio.CancelScope:
        bounded.append(call.verb)
        return trio.CancelScope()

    monkeypatch.setattr(ops.calls, "limited_to", limited_to)
    share = await find(ops, b"s")
    number = await find(ops, b"s", b"file")
    assert bounded == ["lookup", "lookup"], "each folder was listed once"
    bounded.clear()

    assert answered_at_once(ops.lookup(share, b"file", CTX))
    assert answered_at_once(ops.getattr(number, CTX))
    assert answered_at_once(ops.access(number, os.R_OK, CTX))
    fh = (await ops.open(number, os.O_RDONLY, CTX)).fh
    assert answered_at_once(ops.flush(fh))
    assert answered_at_once(ops.release(fh))
    assert bounded == []

    await trio.sleep(TTL)
    await ops.lookup(share, b"file", CTX)
    assert bounded == ["lookup"]
    await trio.sleep(TTL)
    await ops.getattr(number, CTX)
    await trio.sleep(TTL)
    await ops.open(number, os.O_RDONLY, CTX)
    await trio.sleep(TTL)
    await ops.access(number, os.R_OK, CTX)
    assert bounded == ["lookup", "getattr", "open", "access"]
    assert await errno_of(ops.open(number, os.O_RDWR | os.O_TRUNC, CTX)) == errno.EROFS
    assert bounded[4:] == ["open"], "a file that is emptied waits for the local disk"


# ----- refusals -------------------------------------------------------------------------------------------------


async def test_every_change_is_refused_on_a_read_only_mount(ops: Operations) -> None:
    share = await find(ops, b"s")
    file = await find(ops, b"s", b"file")
    fields = pyfuse3.SetattrFields()
    changes = {
        "create": ops.create(share, b"new", 0o644, os.O_WRONLY, CTX),
        "mkdir": ops.mkdir(share, b"new", 0o755, CTX),
        "unlink": ops.unlink(share, b"file", CTX),
        "rmdir": ops.rmdir(share, b"folder", CTX),
        "rename": ops.rename(share, b"file", share, b"new", 0, CTX),
        "setattr": ops.setattr(file, pyfuse3.EntryAttributes(), fields, None, CTX),
        "symlink": ops.symlink(share, b"new", b"file", CTX),
        "link": ops.link(file, share, b"new", CTX),
        "mknod": ops.mknod(share, b"new", stat.S_IFIFO | 0o644, 0, CTX),
        "open": ops.open(file, os.O_WRONLY, CTX),
        "truncate": ops.open(file, os.O_RDONLY | os.O_TRUNC, CTX),
    }
    assert {verb: await errno_of(call) for verb, call in changes.items()} == dict.fromkeys(changes, errno.EROFS)


async def test_there_are_no_symbolic_links(ops: Operations) -> None:
    assert await errno_of(ops.readlink(await find(ops, b"s", b"file"), CTX)) == errno.EPERM
