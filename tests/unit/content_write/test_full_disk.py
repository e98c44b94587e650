"""A local disk that is full, or was, in the middle of an edit: what was acknowledged before and after is there, what
was refused never was."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

from synofs.content import rangelog, stagedfile
from synofs.content.budget import BudgetOptions
from synofs.content.diskcache import DiskCache, DiskCacheOptions
from synofs.content.errors import LocalDiskFull
from synofs.content.journal import Journal
from synofs.content.stagedfile import StagedFile
from synofs.content.staging import StagingArea
from synofs.fs.writes import WriteMode
from synofs.remote import Fingerprint
from tests.trees import revealing
from tests.unit.content_write.conftest import Areas
from tests.unit.content_write.nas import Nas
from tests.unit.content_write.rig import LINGER, Rig

pytestmark = [pytest.mark.trio, pytest.mark.usefixtures("inline_disk")]

BASE = revealing(300_000)
VERSION = Fingerprint(len(BASE), 5_000_000_000)
NEW = b"new" * 1000


async def fetch(offset: int, length: int) -> bytes:
    return BASE[offset : offset + length]


async def content(staged: StagedFile) -> bytes:
    return bytes(await staged.read(0, 10**9, fetch))


async def after_a_crash(open_area: Areas, folder: Path) -> tuple[StagedFile, Path]:
    """What the next mount makes of a cache folder as it is now, and where it does so."""
    copy = Path(f"{folder}+")
    shutil.copytree(folder, copy)
    (copy / "synofs-v1" / "test" / "lock").unlink()
    (found,) = (await open_area(copy)).files.values()
    return found, copy


@pytest.fixture
async def edit(area: StagingArea) -> StagedFile:
    staged = await area.stage("/s/f", VERSION, empty=False)
    await staged.write(1000, b"before")
    return staged


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """The disk takes 7 bytes of the next record of a range log, as full disks do, and nothing of the one after it."""
    taken = [7, 0]

    def write(fd: int, data: bytes) -> int:
        if not taken:
            return os.write(fd, data)
        if not (room := taken.pop(0)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(fd, data[:room])

    def fill() -> None:
        monkeypatch.setattr(rangelog, "os", SimpleNamespace(**{**vars(os), "write": write}))

    return fill


async def test_after_a_write_that_was_refused_what_is_written_next_survives_a_crash(
    edit: StagedFile, full: Callable[[], None], open_area: Areas, tmp_path: Path
) -> None:
    expected = bytearray(BASE)
    expected[1000:1006] = b"before"
    full()
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            await edit.write(200_000, NEW)
        assert await content(edit) == expected
    for offset in (200_000, 299_000):
        await edit.write(offset, NEW)
        expected[offset : offset + len(NEW)] = NEW
    assert await content(edit) == expected
    found, _ = await after_a_crash(open_area, tmp_path)
    assert await content(found) == expected


@pytest.mark.parametrize("refused", [True, False], ids=["its record was refused", "a crash came before its record"])
async def test_what_a_truncation_cut_off_does_not_come_back_when_the_file_grows_again(
    refused: bool,
    edit: StagedFile,
    full: Callable[[], None],
    open_area: Areas,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path
    if refused:
        full()
        with pytest.raises(OSError, match="No space left"):
            await edit.truncate(5000)
        with pytest.raises(OSError, match="No space left"):
            await edit.write(7000, b"after")
    else:
        monkeypatch.setattr(rangelog, "append_truncated", lambda fd, size: None)
        await edit.truncate(5000)
        monkeypatch.undo()
        edit, folder = await after_a_crash(open_area, folder)
    await edit.write(7000, b"after")
    expected = BASE[:1000] + b"before" + BASE[1006:5000] + bytes(2000) + b"after"
    assert await content(edit) == expected
    found, _ = await after_a_crash(open_area, folder)
    assert await content(found) == expected


@pytest.mark.parametrize("end", ["sent", "unlinked"])
async def test_what_the_nas_has_or_nobody_wants_does_not_come_back_when_the_journal_had_no_room_to_forget_it(
    end: str,
    area: StagingArea,
    open_area: Areas,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    expect_logs: Callable[..., None],
) -> None:
    expect_logs("could not be tidied" if end == "sent" else "cannot forget it yet", "nothing is left to send")
    staged = await area.stage("/s/new", None, empty=True)
    await staged.write(0, b"old content")
    await staged.seal()
    await area.rows_written()

    def full(file_id: str) -> None:
        raise LocalDiskFull("the disk that holds the journal is full")

    monkeypatch.setattr(area.journal, "delete", full)
    if end == "sent":
        assert area.done(staged)
        await area.flush()
    else:
        await area.disown(staged)
    copy = Path(f"{tmp_path}+")
    shutil.copytree(tmp_path, copy)
    (copy / "synofs-v1" / "test" / "lock").unlink()
    after = await open_area(copy)
    assert (after.files, after.refused) == ({}, {})


async def test_what_an_upload_read_is_not_sent_by_the_next_mount_when_the_journal_was_full_at_its_end(
    area: StagingArea, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = await area.stage("/s/new", None, empty=True)
    await staged.write(0, b"what was sent")
    frozen = await staged.freeze()
    await staged.note_attempt("/s/new")
    await staged.write(0, b"and then changed")
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "update", _no_room)
        with pytest.raises(LocalDiskFull):
            await staged.unfreeze(frozen)
    assert staged.attempt is not None
    assert [sent.size for sent in staged.attempt.sent] == [13]
    frozen = await staged.freeze()
    staged.placed(VERSION, None)
    await staged.unfreeze(frozen)
    assert area.done(staged)
    await area.flush()
    assert (os.listdir(area.data_folder), area.budget.dirty_bytes) == ([], 0)


def _no_room(*_: object, **__: object) -> None:
    raise LocalDiskFull("full")


async def test_an_unlink_that_the_journal_had_no_room_for_holds_nothing(
    writeback: Rig, monkeypatch: pytest.MonkeyPatch, expect_logs: Callable[..., None]
) -> None:
    expect_logs("cannot forget it yet")
    await writeback.create("/s/f", b"content")

    def full(file_id: str) -> None:
        raise LocalDiskFull("the disk that holds the journal is full")

    with monkeypatch.context() as patch:
        patch.setattr(writeback.area.journal, "delete", full)
        await writeback.unlink("/s/f")
    assert writeback.area.files == {}
    assert writeback.area.budget.dirty_bytes == 0
    assert os.listdir(writeback.area.data_folder) == []
    assert await writeback.flushed() == {}


async def test_a_file_cut_by_its_path_is_sent_although_the_disk_was_full(
    writeback: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has it open: no close will follow."""
    await writeback.create("/s/f", b"content")
    await writeback.flushed()
    sent = trio.Event()
    writeback.nas.meet("move", sent.set, after=True)

    def full(*_: object, **__: object) -> None:
        raise LocalDiskFull("the disk that holds the journal is full")

    with monkeypatch.context() as patch:
        patch.setattr(writeback.area.journal, "update", full)
        with pytest.raises(LocalDiskFull):
            await writeback.truncate("/s/f", 20)
    with trio.fail_after(5):
        await sent.wait()
    assert writeback.nas.files() == {"/s/f": b"content".ljust(20, b"\0")}


@pytest.fixture
async def cached(
    nas: Nas, mode: WriteMode, open_area: Areas, nursery: trio.Nursery, tmp_path: Path
) -> AsyncIterator[Rig]:
    """A mount with a disk cache, and with room for little that is unsent. `/s/f` is on the NAS."""
    nas.file("/s/f", BASE)
    disk = DiskCache(tmp_path / "blocks", DiskCacheOptions(floor_bytes=0))
    area = await open_area(budget=BudgetOptions(max_dirty_bytes=2 * len(BASE), floor_bytes=0))
    rig = Rig(nas, area, mode, disk)
    await rig.start(nursery)
    yield rig
    await disk.close()


@pytest.mark.parametrize("by", ["path", "descriptor"])
async def test_of_a_change_that_the_local_disk_refused_from_the_first_byte_on_nothing_is_left(
    by: str, cached: Rig, nas: Nas
) -> None:
    """Neither in the journal nor in the caches: the file would be zeros there, as far as it was never fetched."""
    given_ns = 1_000_000_000 * 10**9
    await cached.utimens("/s/f", given_ns)
    inode, number = await cached.at("/s/f"), await cached.open("/s/f", os.O_RDWR)
    if by == "path":
        await cached.close(number)
        with pytest.raises(LocalDiskFull):
            await cached.truncate("/s/f", 3 * len(BASE))
    else:
        with pytest.raises(LocalDiskFull):
            await cached.fs.write(number, 3 * len(BASE), b"x")
        await cached.close(number)
    await trio.sleep(LINGER + 1)
    assert (inode.staged, inode.shown_mtime_ns) == (None, given_ns)
    assert (cached.area.budget.dirty_bytes, len(cached.area.files)) == (0, 0)
    assert await cached.read("/s/f") == BASE
    assert await cached.flushed() == {"/s/f": BASE}
    assert not nas.asked("upload")


async def test_a_write_that_failed_half_way_does_not_get_into_the_disk_cache(
    cached: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = await cached.open("/s/new", os.O_RDWR | os.O_CREAT)
    await cached.fs.write(number, 0, BASE)
    await cached.fs.fsync(number)

    def tear(fd: int, offset: int, data: bytes) -> None:
        os.pwrite(fd, data[:100], offset)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(stagedfile, "write_at", tear)
        with pytest.raises(OSError, match="No space left"):
            await cached.fs.write(number, 0, bytes(1000))
    await cached.close(number)
    assert (await cached.flushed())["/s/new"] == BASE
    assert await cached.read("/s/new") == BASE
