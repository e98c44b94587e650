"""Content: what create, write, truncate, times, close and fsync do and promise."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import trio

from synofs.content.journal import Journal
from synofs.content.stagingdisk import StagingDisk
from synofs.fs.errors import AccessDenied, EntryExists
from synofs.fs.writes import WriteMode
from synofs.remote import (
    FileTooBig,
    InputOutput,
    NoSpace,
    PermissionDenied,
    QuotaExceeded,
    RemoteError,
    Rights,
    SignInRefused,
    Unreachable,
)
from tests.trees import revealing
from tests.unit.content_write.nas import SECOND, Nas
from tests.unit.content_write.rig import PATIENCE, Rig
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time

BIG = revealing(3_000_000)
FULL = 2  # of SQLite's `synchronous`: a commit waits for the disk


# ----- closing ----------------------------------------------------------------------------------------------


async def test_in_durable_mode_close_returns_when_the_nas_has_the_file(durable: Rig, nas: Nas) -> None:
    await durable.create("/s/f", b"content")
    assert nas.files() == {"/s/f": b"content"}
    assert durable.writes.counters()["pending_uploads"] == 0


async def test_in_durable_mode_a_small_file_costs_one_upload_and_one_look(durable: Rig, nas: Nas) -> None:
    await durable.names()
    nas.calls.clear()
    await durable.create("/s/f", b"content")
    assert nas.methods() == ["upload", "get_entries"]


async def test_in_writeback_mode_close_returns_before_the_nas_has_the_file(writeback: Rig, nas: Nas) -> None:
    await writeback.create("/s/f", b"content")
    assert nas.files() == {}
    await writeback.area.rows_written()
    (row,) = writeback.area.journal.rows()
    assert (row.path, row.size) == ("/s/f", 7)  # on the local disk it is
    assert writeback.writes.counters()["pending_uploads"] == 1
    assert await writeback.flushed() == {"/s/f": b"content"}
    assert writeback.area.journal.rows() == []


async def test_in_writeback_mode_it_is_sent_soon_by_itself(writeback: Rig, nas: Nas) -> None:
    await writeback.create("/s/f", b"content")
    await trio.sleep(2)
    assert nas.files() == {"/s/f": b"content"}


async def test_fsync_means_the_nas_in_both_modes(rig: Rig, nas: Nas) -> None:
    number = await rig.open("/s/f", os.O_WRONLY | os.O_CREAT)
    await rig.fs.write(number, 0, b"content")
    await rig.fs.fsync(number)
    assert nas.files() == {"/s/f": b"content"}
    await rig.fs.write(number, 7, b" and more")
    await rig.fs.fsync(number)
    assert nas.files()["/s/f"] == b"content and more"
    await rig.close(number)


@pytest.mark.parametrize("error", [QuotaExceeded, NoSpace, PermissionDenied, FileTooBig, InputOutput])
async def test_in_durable_mode_close_tells_why_the_nas_refused(
    durable: Rig, nas: Nas, error: type[RemoteError], expect_logs: Callable[..., None]
) -> None:
    expect_logs("the NAS refuses it for good", "what was written is kept in")
    nas.meet("upload", error("no"))
    with pytest.raises(error):
        await durable.create("/s/f", b"content")
    assert await durable.names() == []
    (row,) = durable.area.still_refused()
    assert (durable.area.folder / "recovery" / row.data).read_bytes() == b"content"
    assert durable.writes.counters()["failed_uploads"] == 1


async def test_in_durable_mode_close_gives_up_after_its_patience_and_the_upload_goes_on(
    durable: Rig, nas: Nas, expect_logs: Callable[..., None]
) -> None:
    expect_logs("not sent yet")
    nas.meet("upload", Unreachable("away"), times=8)
    started = trio.current_time()
    with pytest.raises(Unreachable):
        await durable.create("/s/f", b"content")
    assert trio.current_time() - started == pytest.approx(PATIENCE, abs=1)
    assert await durable.names() == ["f"]
    assert await durable.read("/s/f") == b"content"
    assert await durable.flushed() == {"/s/f": b"content"}


async def test_in_durable_mode_a_short_trouble_is_not_told(
    durable: Rig, nas: Nas, expect_logs: Callable[..., None]
) -> None:
    expect_logs("not sent yet")
    nas.meet("upload", Unreachable("away"), times=3)
    await durable.create("/s/f", b"content")
    assert nas.files() == {"/s/f": b"content"}


async def test_what_a_person_has_to_mend_at_the_account_is_waited_for(
    writeback: Rig, nas: Nas, expect_logs: Callable[..., None]
) -> None:
    expect_logs("not sent yet")
    nas.meet("upload", SignInRefused("password changed"), times=30)
    await writeback.create("/s/f", b"content")
    assert await writeback.flushed() == {"/s/f": b"content"}
    assert writeback.area.still_refused() == []


async def test_in_writeback_mode_a_final_refusal_is_kept_and_shown(
    writeback: Rig, nas: Nas, expect_logs: Callable[..., None]
) -> None:
    expect_logs("the NAS refuses it for good", "what was written is kept in")
    nas.file("/s/old", b"old")
    nas.meet("upload", QuotaExceeded("quota"), times=2)
    await writeback.create("/s/new", b"new content")
    await writeback.create("/s/old", b"edited")
    assert await writeback.flushed() == {"/s/old": b"old"}
    assert await writeback.names() == ["old"]
    assert await writeback.read("/s/old") == b"old"
    assert writeback.writes.counters()["failed_uploads"] == 2
    kept = {row.path: (writeback.area.folder / "recovery" / row.data) for row in writeback.area.still_refused()}
    assert {path: file.read_bytes() for path, file in kept.items()} == {"/s/new": b"new content", "/s/old": b"edited"}


async def test_a_shells_redirection_costs_one_upload_and_no_empty_file_in_between(rig: Rig, nas: Nas) -> None:
    """`> file` opens, duplicates, and closes the first descriptor before anything is written."""
    nas.file("/s/f", b"old")
    seen = []
    nas.meet("move", lambda: seen.append(nas.files()["/s/f"]), times=9)
    number = await rig.open("/s/f", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    await rig.fs.flush(number)
    await trio.sleep(5)
    await rig.fs.write(number, 0, b"new")
    await rig.close(number)
    assert await rig.flushed() == {"/s/f": b"new"}
    assert (rig.uploads(), seen) == (["f"], [b"old"])


async def test_what_was_only_created_or_emptied_is_on_the_local_disk_when_it_is_closed(
    rig: Rig, nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    nas.file("/s/old", b"old")
    waited_for: list[str] = []  # of each data file, and of the journal
    commit, fsync = Journal._commit, os.fsync

    def committed(journal: Journal) -> None:
        if journal.db.execute("PRAGMA synchronous").fetchone()[0] == FULL:
            waited_for.append("journal")
        commit(journal)

    def synced(fd: int) -> None:
        fsync(fd)
        label = StagingDisk.label_of(os.readlink(f"/proc/self/fd/{fd}"))
        waited_for.append(label.path if label is not None else "names")

    monkeypatch.setattr(Journal, "_commit", committed)
    monkeypatch.setattr(os, "fsync", synced)
    for path in ("/s/new", "/s/old"):
        number = await rig.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        assert waited_for == [], "open(2) waits for no disk"
        await rig.fs.flush(number)
        assert waited_for == [path, "names"]
        assert nas.count("upload") == 0
        waited_for.clear()


async def test_an_empty_file_is_sent_when_its_last_handle_is_closed(rig: Rig, nas: Nas) -> None:
    await rig.create("/s/f")
    await trio.sleep(2)
    assert nas.files() == {"/s/f": b""}


async def test_closing_what_was_not_written_costs_nothing(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"content")
    await rig.close(await rig.open("/s/f", os.O_RDWR))
    await trio.sleep(2)
    assert (nas.count("upload"), rig.area.journal.rows()) == (0, [])


async def test_two_writers_of_one_file_are_sent_when_each_closes(durable: Rig, nas: Nas) -> None:
    first = await durable.open("/s/f", os.O_WRONLY | os.O_CREAT)
    second = await durable.open("/s/f", os.O_WRONLY)
    await durable.fs.write(first, 0, b"first ")
    await durable.close(first)
    assert nas.files()["/s/f"] == b"first "
    await durable.fs.write(second, 6, b"second")
    await durable.close(second)
    assert nas.files()["/s/f"] == b"first second"


async def test_a_write_while_it_is_sent_is_sent_after_it(writeback: Rig, nas: Nas) -> None:
    gate = nas.gate("upload", path="/s/f")
    number = await writeback.open("/s/f", os.O_RDWR | os.O_CREAT)
    await writeback.fs.write(number, 0, b"first")
    await writeback.fs.flush(number)
    await gate.reached.wait()
    await writeback.fs.write(number, 0, b"SECOND")
    gate.open()
    await writeback.close(number)
    assert await writeback.read("/s/f") == b"SECOND"
    assert await writeback.flushed() == {"/s/f": b"SECOND"}


async def test_a_file_opened_again_right_when_its_upload_ends_is_not_lost(writeback: Rig, nas: Nas) -> None:
    """Between the proof and the end of the staged file there is no moment in which a write could fall into nothing."""
    await writeback.create("/s/f", b"0")
    for number in range(1, 30):
        done = trio.Event()
        nas.meet("get_entries", done.set, after=True)
        await done.wait()
        await writeback.create("/s/f", b"%d" % number)
    assert await writeback.flushed() == {"/s/f": b"29"}


# ----- flags --------------------------------------------------------------------------------------------------


async def test_o_trunc_downloads_nothing(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", BIG)
    number = await rig.open("/s/f", os.O_WRONLY | os.O_TRUNC)
    await rig.fs.write(number, 10, b"new")
    await rig.close(number)
    assert await rig.flushed() == {"/s/f": bytes(10) + b"new"}
    assert nas.count("read_range") == 0


async def test_o_trunc_alone_empties_the_file(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    await rig.close(await rig.open("/s/f", os.O_RDONLY | os.O_TRUNC))
    assert await rig.flushed() == {"/s/f": b""}


async def test_o_excl_refuses_an_existing_name(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    parent = await rig.at("/s")
    with pytest.raises(EntryExists):
        await rig.fs.create(parent, b"f", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    inode, number = await rig.fs.create(parent, b"f", os.O_WRONLY | os.O_CREAT)
    await rig.close(number)
    assert (inode.size, await rig.flushed()) == (3, {"/s/f": b"old"})


async def test_o_append_writes_at_the_end_whatever_the_offset(rig: Rig, nas: Nas) -> None:
    nas.file("/s/log", b"one\n")
    first = await rig.open("/s/log", os.O_WRONLY | os.O_APPEND)
    second = await rig.open("/s/log", os.O_WRONLY | os.O_APPEND)
    await rig.fs.write(first, 0, b"two\n")
    await rig.fs.write(second, 0, b"three\n")
    await rig.fs.write(first, 0, b"four\n")
    await rig.close(first)
    await rig.close(second)
    assert await rig.flushed() == {"/s/log": b"one\ntwo\nthree\nfour\n"}


async def test_a_file_without_write_permission_is_refused_at_open(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    nas.nodes["/s/f"].rights = Rights.READ
    for flags in (os.O_RDWR, os.O_WRONLY, os.O_RDONLY | os.O_TRUNC):
        with pytest.raises(AccessDenied):
            await rig.open("/s/f", flags)
    assert nas.files() == {"/s/f": b"old"}


# ----- changing a few bytes ---------------------------------------------------------------------------------------


async def test_changing_a_few_bytes_of_a_big_file_downloads_nothing_before_its_upload(writeback: Rig, nas: Nas) -> None:
    nas.file("/s/f", BIG)
    number = await writeback.open("/s/f", os.O_RDWR)
    await writeback.fs.write(number, 1_000_000, b"mine")
    assert bytes(await writeback.fs.read(number, 1_000_000, 4)) == b"mine"
    assert nas.count("read_range") == 0
    await writeback.close(number)
    assert await writeback.flushed() == {"/s/f": BIG[:1_000_000] + b"mine" + BIG[1_000_004:]}


async def test_the_upload_fetches_each_missing_byte_at_most_once(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", BIG)
    await rig.edit("/s/f", 0, b"w" * 2_000_000)
    assert await rig.flushed() == {"/s/f": b"w" * 2_000_000 + BIG[2_000_000:]}
    fetched = sum(call.length for call in nas.calls if call.method == "read_range")
    assert len(BIG) - 2_000_000 <= fetched <= len(BIG)  # reading ahead may have begun from an earlier byte


async def test_readers_see_what_was_written_at_once_and_after_the_upload(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", BIG)
    reader = await rig.open("/s/f")
    writer = await rig.open("/s/f", os.O_RDWR)
    await rig.fs.write(writer, 5, b"mine")
    expected = BIG[:5] + b"mine" + BIG[9:20]
    assert bytes(await rig.fs.read(reader, 0, 20)) == expected
    await rig.close(writer)
    await rig.flushed()
    assert bytes(await rig.fs.read(reader, 0, 20)) == expected
    await rig.close(reader)


async def test_a_reader_waiting_for_the_rest_while_the_file_is_sent_gets_it(writeback: Rig, nas: Nas) -> None:
    nas.file("/s/f", BIG)
    await writeback.edit("/s/f", 0, b"mine")
    reader = await writeback.open("/s/f")
    gate = nas.gate("read_range")
    got: list[bytes] = []

    async def read() -> None:
        got.append(bytes(await writeback.fs.read(reader, 2_999_000, 1000)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await gate.reached.wait()
        nursery.start_soon(writeback.writes.drain)
        await trio.sleep(5)
        gate.open()
    assert got == [BIG[2_999_000:]]
    assert nas.files()["/s/f"] == b"mine" + BIG[4:]


async def test_an_edit_whose_other_half_was_removed_is_kept(
    rig: Rig, nas: Nas, expect_logs: Callable[..., None]
) -> None:
    expect_logs("refuses it for good", "kept in")
    nas.file("/s/f", BIG)
    number = await rig.open("/s/f", os.O_RDWR)
    await rig.fs.write(number, 10, b"mine")
    nas.delete("/s/f")
    if rig.mode is WriteMode.DURABLE:
        with pytest.raises(RemoteError):
            await rig.close(number)
    else:
        await rig.close(number)
    assert await rig.flushed() == {}
    (row,) = rig.area.still_refused()
    kept = rig.area.folder / "recovery" / row.data
    assert kept.read_bytes()[10:14] == b"mine"
    assert kept.with_name(kept.name + ".ranges").exists()  # and which bytes are ours


# ----- truncating ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 5, 10, 5000])
async def test_truncate_by_path_cuts_and_extends(rig: Rig, nas: Nas, size: int) -> None:
    nas.file("/s/f", b"0123456789")
    await rig.truncate("/s/f", size)
    assert (await rig.at("/s/f")).size == size
    assert await rig.flushed() == {"/s/f": b"0123456789"[:size].ljust(size, b"\0")}


async def test_truncating_to_the_same_size_costs_nothing(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"0123456789")
    await rig.truncate("/s/f", 10)
    await trio.sleep(2)
    assert (nas.count("upload"), rig.area.journal.rows()) == (0, [])


async def test_ftruncate_waits_for_close(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"0123456789")
    number = await rig.open("/s/f", os.O_RDWR)
    await rig.fs.setattr(await rig.at("/s/f"), size=4, mtime_ns=None, number=number)
    assert nas.count("upload") == 0
    await rig.close(number)
    assert await rig.flushed() == {"/s/f": b"0123"}


# ----- times ----------------------------------------------------------------------------------------------------------


async def test_a_time_set_before_close_goes_with_the_upload(rig: Rig, nas: Nas) -> None:
    number = await rig.open("/s/f", os.O_WRONLY | os.O_CREAT)
    await rig.fs.write(number, 0, b"content")
    await rig.fs.setattr(await rig.at("/s/f"), size=None, mtime_ns=5 * SECOND + 7, number=number)
    await rig.close(number)
    await rig.flushed()
    assert nas.nodes["/s/f"].mtime_ns == 5 * SECOND
    assert (await rig.at("/s/f")).mtime_ns == 5 * SECOND


async def test_in_writeback_mode_a_time_set_right_after_close_goes_with_the_one_upload(
    writeback: Rig, nas: Nas
) -> None:
    await writeback.create("/s/f", b"content")
    await writeback.utimens("/s/f", 5 * SECOND)
    await writeback.flushed()
    assert (nas.nodes["/s/f"].mtime_ns, nas.count("upload")) == (5 * SECOND, 1)


async def test_a_time_given_to_a_file_on_the_nas_is_remembered_here(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"content", mtime=1000)
    await rig.utimens("/s/f", 5 * SECOND)
    assert (await rig.at("/s/f")).shown_mtime_ns == 5 * SECOND
    assert nas.count("upload") == 0
    assert rig.area.journal.mtimes() == {"/s/f": (nas.version("/s/f"), 5 * SECOND)}
    await rig.utimens("/s/f", 1000 * SECOND)
    assert (await rig.at("/s/f")).shown_mtime_ns is None
    await rig.area.flush()
    assert rig.area.journal.mtimes() == {}


async def test_a_given_time_ends_with_the_version_that_it_was_given_to(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"content", mtime=1000)
    await rig.utimens("/s/f", 5 * SECOND)
    await rig.edit("/s/f", 0, b"C")
    await rig.flushed()
    inode = await rig.at("/s/f")
    assert (inode.shown_mtime_ns, inode.mtime_ns) == (None, nas.nodes["/s/f"].mtime_ns)
    assert rig.area.journal.mtimes() == {}


async def test_the_time_shown_from_the_first_write_on_is_the_one_that_the_nas_gets(rig: Rig, nas: Nas) -> None:
    number = await rig.open("/s/f", os.O_WRONLY | os.O_CREAT)
    await rig.fs.write(number, 0, b"content")
    shown = (await rig.at("/s/f")).mtime_ns
    await rig.close(number)
    await rig.flushed()
    assert nas.nodes["/s/f"].mtime_ns == shown == (await rig.at("/s/f")).mtime_ns


async def test_a_time_that_came_when_the_bytes_had_arrived_is_remembered(
    writeback: Rig, nas: Nas, expect_logs: Callable[..., None]
) -> None:
    expect_logs("not sent yet")
    nas.meet("upload", Unreachable("lost"), after=True)
    await writeback.create("/s/f", b"content")
    await trio.sleep(0.7)
    await writeback.utimens("/s/f", 5 * SECOND)
    await writeback.flushed()
    inode = await writeback.at("/s/f")
    assert (nas.count("upload"), inode.shown_mtime_ns) == (1, 5 * SECOND)
    assert writeback.area.journal.mtimes() == {"/s/f": (nas.version("/s/f"), 5 * SECOND)}


async def test_on_a_nas_that_keeps_no_times_those_that_were_given_are_remembered(rig: Rig, nas: Nas) -> None:
    nas.keeps_mtimes = False
    number = await rig.open("/s/f", os.O_WRONLY | os.O_CREAT)
    await rig.fs.write(number, 0, b"content")
    await rig.fs.setattr(await rig.at("/s/f"), size=None, mtime_ns=5 * SECOND, number=number)
    await rig.close(number)
    await rig.flushed()
    assert (await rig.at("/s/f")).shown_mtime_ns == 5 * SECOND
