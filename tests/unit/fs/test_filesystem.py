"""The verbs, without a kernel."""

from __future__ import annotations

import os

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from synofs.content.readahead import MIB
from synofs.fs.errors import AccessDenied, BadHandle, NotADirectory, ReadOnlyFilesystem, StaleInode
from synofs.fs.filesystem import FsOptions
from synofs.remote import InputOutput, NameTooLong, PermissionDenied, Rights, Space, Unreachable
from tests.unit.fs.conftest import TTL, Rig
from tests.unit.memory_store import MemoryStore
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time


# ----- looking ------------------------------------------------------------------------------------------------


async def test_one_listing_answers_every_lookup_in_a_folder(rig: Rig, store: MemoryStore) -> None:
    store.files("/s/d", 500)
    await rig.find("/s/d")
    store.reset()
    for number in range(500):
        assert await rig.find(f"/s/d/{number:06}") is not None
        assert await rig.find(f"/s/d/no {number}") is None
    assert [(call.method, call.subject) for call in store.calls] == [("list_dir", "/s/d")]


async def test_a_missing_name_is_certainly_missing_for_as_long_as_the_listing_is_fresh(
    rig: Rig, store: MemoryStore
) -> None:
    share = await rig.find("/s")
    assert await rig.fs.lookup(share, b"nothing") is None
    assert rig.fs.missing_valid_seconds(share) == TTL
    await trio.sleep(20)
    assert rig.fs.missing_valid_seconds(share) == TTL - 20
    rig.fs._listings.expire(share)
    assert rig.fs.missing_valid_seconds(share) == 0


async def test_a_name_that_appears_is_found_after_the_ttl(rig: Rig, store: MemoryStore) -> None:
    assert await rig.find("/s/new") is None
    store.file("/s/new")
    assert await rig.find("/s/new") is None
    await trio.sleep(TTL)
    assert await rig.find("/s/new") is not None


async def test_a_name_that_disappears_is_missing_after_the_ttl(rig: Rig, store: MemoryStore) -> None:
    assert await rig.find("/s/small") is not None
    store.remove("/s/small")
    await trio.sleep(TTL)
    assert await rig.find("/s/small") is None


async def test_dot_and_dot_dot_are_found(rig: Rig) -> None:
    folder = await rig.find("/s/d")
    assert await rig.fs.lookup(folder, b".") is folder
    assert await rig.fs.lookup(folder, b"..") is folder.parent
    assert await rig.fs.lookup(rig.fs.inodes.root, b"..") is rig.fs.inodes.root


async def test_a_file_has_no_names_in_it(rig: Rig) -> None:
    file = await rig.find("/s/small")
    with pytest.raises(NotADirectory):
        await rig.fs.lookup(file, b"name")
    with pytest.raises(NotADirectory):
        await rig.fs.opendir(file)


async def test_a_name_of_over_255_bytes_is_too_long(rig: Rig, store: MemoryStore) -> None:
    share = await rig.find("/s")
    assert await rig.fs.lookup(share, b"x" * 255) is None
    store.reset()
    with pytest.raises(NameTooLong):
        await rig.fs.lookup(share, b"x" * 256)
    assert store.calls == []


async def test_a_name_in_a_huge_folder_is_found_before_its_last_page_has_come(rig: Rig, store: MemoryStore) -> None:
    store.files("/s/d", 5000)
    folder = await rig.find("/s/d")
    gate = store.gate("page", "/s/d", skip=1)
    assert await rig.fs.lookup(folder, b"000001") is not None, "it is on the first page"
    found = await rig.fs.lookup(folder, b"004999")
    assert found is not None
    assert await rig.fs.lookup(folder, b"nothing") is None
    assert rig.fs.missing_valid_seconds(folder) == 0, "only a whole listing proves that a name is missing for a time"
    gate.open()
    await wait_all_tasks_blocked()
    assert await rig.fs.lookup(folder, b"004999") is found


async def test_a_lookup_while_a_load_fails_is_an_error_and_not_a_missing_name(rig: Rig, store: MemoryStore) -> None:
    folder = await rig.find("/s/d")
    with store.fail("list_dir", Unreachable("no route"), "/s/d"), pytest.raises(Unreachable):
        await rig.fs.lookup(folder, b"a")


async def test_when_the_nas_is_away_a_missing_name_is_not_remembered(rig: Rig, store: MemoryStore) -> None:
    share = (await rig.find("/s/small")).parent
    await trio.sleep(TTL)
    with store.fail("list_dir", Unreachable("no route")):
        assert await rig.fs.lookup(share, b"nothing") is None
        assert await rig.fs.lookup(share, b"small") is not None
        assert rig.fs.missing_valid_seconds(share) == 0


async def test_a_single_share_can_be_the_root(store: MemoryStore, nursery: trio.Nursery) -> None:
    rig = Rig(store, FsOptions(share="s"))
    await nursery.start(rig.fs.run)
    assert sorted(await rig.names("/")) == [b"big", b"d", b"small"]
    assert (await rig.find("/small")).path() == "/s/small"


# ----- attributes and rights ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rights", "mode"),
    [
        (Rights.NONE, 0o000),
        (Rights.READ, 0o444),
        (Rights.EXECUTE, 0o111),
        (Rights.READ | Rights.EXECUTE, 0o555),
        (Rights.WRITE, 0o000),  # a read-only mount shows no write bits
        (Rights.ALL, 0o555),
        (Rights.APPEND | Rights.DELETE, 0o000),
    ],
)
@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
async def test_the_mode_tells_what_the_session_may_do_less_the_umask(
    store: MemoryStore, rights: Rights, mode: int, umask: int
) -> None:
    rig = Rig(store, FsOptions(umask=umask))
    inode = rig.fs.inodes.obtain(rig.fs.inodes.root, b"a", is_dir=False)
    inode.rights = rights
    assert rig.fs.mode(inode) == mode & ~umask


@pytest.mark.parametrize("rights", [Rights(value) for value in range(32)])
async def test_access_agrees_with_what_then_happens(rig: Rig, store: MemoryStore, rights: Rights) -> None:
    store.file("/s/f", b"content", rights=rights)
    inode = await rig.find("/s/f")

    async def outcome(verb, *args) -> type | None:
        try:
            await verb(*args)
        except (AccessDenied, ReadOnlyFilesystem) as error:
            return type(error)
        return None

    assert await outcome(rig.fs.access, inode, os.R_OK) == await outcome(rig.fs.open, inode, os.O_RDONLY)
    assert await outcome(rig.fs.access, inode, os.W_OK) == await outcome(rig.fs.open, inode, os.O_WRONLY)
    assert await outcome(rig.fs.access, inode, os.R_OK | os.W_OK) == await outcome(rig.fs.open, inode, os.O_RDWR)
    assert await outcome(rig.fs.access, inode, os.X_OK) == (None if rights & Rights.EXECUTE else AccessDenied)
    assert await outcome(rig.fs.access, inode, os.F_OK) is None


async def test_a_right_that_was_taken_away_is_seen_after_the_ttl(rig: Rig, store: MemoryStore) -> None:
    inode = await rig.find("/s/small")
    await rig.fs.access(inode, os.R_OK)
    store.file("/s/small", b"hello", rights=Rights.NONE)
    await trio.sleep(TTL)
    with pytest.raises(AccessDenied):
        await rig.fs.access(inode, os.R_OK)
    with pytest.raises(AccessDenied):
        await rig.fs.open(inode, os.O_RDONLY)


async def test_names_are_believed_for_the_directory_ttl_and_attributes_for_theirs(
    store: MemoryStore, nursery: trio.Nursery
) -> None:
    rig = Rig(store, FsOptions(dir_ttl_seconds=5, attr_ttl_seconds=60))
    await nursery.start(rig.fs.run)
    inode = await rig.find("/s/small")
    await trio.sleep(2)
    assert rig.fs.name_valid_seconds(inode) == 3
    assert rig.fs.valid_seconds(inode) == 58
    await trio.sleep(10)
    assert rig.fs.name_valid_seconds(inode) == 0


async def test_the_root_is_always_valid(rig: Rig, store: MemoryStore) -> None:
    await trio.sleep(1000)
    await rig.fs.getattr(rig.fs.inodes.root)
    assert rig.fs.valid_seconds(rig.fs.inodes.root) == TTL
    assert rig.fs.name_valid_seconds(rig.fs.inodes.root) == TTL
    assert store.calls == []


# ----- reading directories --------------------------------------------------------------------------------------


async def test_a_readdir_gives_each_name_once_in_order(rig: Rig, store: MemoryStore) -> None:
    expected = store.files("/s/d", 2500)
    assert await rig.names("/s/d") == expected


async def test_the_first_entries_reach_a_reader_before_the_last_page(rig: Rig, store: MemoryStore) -> None:
    expected = store.files("/s/d", 2500)
    gate = store.gate("page", "/s/d", skip=1)
    number = await rig.fs.opendir(await rig.find("/s/d"))
    _, entries = await rig.fs.readdir(number, 0)
    assert [inode.name for inode in entries] == expected[:1000]
    gate.open()
    _, entries = await rig.fs.readdir(number, 1000)
    assert len(entries) > 1000


async def test_positions_are_stable_while_the_folder_changes(rig: Rig, store: MemoryStore) -> None:
    expected = store.files("/s/d", 100)
    folder = await rig.find("/s/d")
    number = await rig.fs.opendir(folder)
    _, entries = await rig.fs.readdir(number, 0)
    seen = [inode.name for inode in entries[:50]]
    for name in expected[::2]:
        store.remove(f"/s/d/{name.decode()}")
    store.file("/s/d/000000 new")
    await trio.sleep(TTL)
    await rig.names("/s/d")  # somebody else lists the folder anew
    _, entries = await rig.fs.readdir(number, 50)
    seen += [inode.name for inode in entries[50:] if not inode.gone]
    assert len(seen) == len(set(seen))
    assert set(seen) >= set(expected[1::2]), "what was there throughout"


async def test_position_0_starts_anew(rig: Rig, store: MemoryStore) -> None:
    number = await rig.fs.opendir(await rig.find("/s/d"))
    await rig.fs.readdir(number, 0)
    store.file("/s/d/new")
    await trio.sleep(TTL)
    _, entries = await rig.fs.readdir(number, 0)
    assert [inode.name for inode in entries] == [b"new"]


async def test_a_listing_that_fails_half_way_is_never_a_short_listing(rig: Rig, store: MemoryStore) -> None:
    store.files("/s/d", 2500)
    folder = await rig.find("/s/d")
    gate = store.gate("page", "/s/d", skip=1)
    number = await rig.fs.opendir(folder)
    _, entries = await rig.fs.readdir(number, 0)
    assert len(entries) == 1000
    with store.fail("page", InputOutput("disk"), "/s/d"):
        gate.open()
        for _ in range(2):
            with pytest.raises(InputOutput):
                await rig.fs.readdir(number, 1000)
    await rig.fs.releasedir(number)


async def test_a_folder_that_may_not_be_read_is_refused(rig: Rig, store: MemoryStore) -> None:
    number = await rig.fs.opendir(await rig.find("/s/d"))
    with store.fail("list_dir", PermissionDenied("no"), "/s/d"), pytest.raises(PermissionDenied):
        await rig.fs.readdir(number, 0)


async def test_an_open_folder_is_known_until_it_is_closed(rig: Rig) -> None:
    folder = await rig.find("/s/d")
    number = await rig.fs.opendir(folder)
    await rig.fs.readdir(number, 0)
    rig.fs._listings.forget(folder)
    rig.fs._listings.forget(folder.parent)
    rig.fs.inodes.forget(folder.number, 1)
    assert rig.fs.inodes.get(folder.number) is folder
    await rig.fs.releasedir(number)
    with pytest.raises(StaleInode):
        rig.fs.inodes.get(folder.number)


async def test_a_closed_handle_is_a_bad_one(rig: Rig) -> None:
    number = await rig.fs.opendir(await rig.find("/s/d"))
    await rig.fs.releasedir(number)
    with pytest.raises(BadHandle):
        await rig.fs.readdir(number, 0)
    await rig.fs.releasedir(number)
    file = await rig.open("/s/small")
    await rig.fs.release(file)
    with pytest.raises(BadHandle):
        await rig.fs.read(file, 0, 1)
    await rig.fs.release(file)


async def test_handle_numbers_are_never_used_twice(rig: Rig) -> None:
    numbers = []
    for _ in range(10):
        numbers.append(await rig.open("/s/small"))
        await rig.fs.release(numbers[-1])
    assert len(set(numbers)) == 10


# ----- space ------------------------------------------------------------------------------------------------------


async def test_statfs_never_waits_and_is_renewed_behind_the_callers_back(rig: Rig, store: MemoryStore) -> None:
    store.capacities["s"] = Space(100, 40)
    await rig.find("/s")
    assert rig.fs.statfs() == Space(0, 0)
    await wait_all_tasks_blocked()
    assert rig.fs.statfs() == Space(100, 40)


async def test_many_statfs_at_once_are_one_question(rig: Rig, store: MemoryStore) -> None:
    store.capacities["s"] = Space(100, 40)
    await rig.find("/s")
    for _ in range(20):
        rig.fs.statfs()
    await wait_all_tasks_blocked()
    assert store.count("spaces") == 1


async def test_a_statfs_before_anybody_has_looked_into_the_mount_is_answered(rig: Rig, store: MemoryStore) -> None:
    store.capacities["s"] = Space(100, 40)
    rig.fs.statfs()
    await wait_all_tasks_blocked()
    assert rig.fs.statfs() == Space(100, 40)


# ----- control ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/s", "/s/", "/s/d", "/s/d/file"])
async def test_refresh_asks_anew_for_what_is_cached_at_and_below_a_path(
    rig: Rig, store: MemoryStore, path: str
) -> None:
    store.file("/s/d/file", b"old")
    inode = await rig.find("/s/d/file")
    store.folder("/t")
    store.file("/s/d/file", b"newer")
    store.reset()
    await rig.fs.refresh(path)
    assert inode.size == 5
    assert all(call.method == "list_dir" for call in store.calls)
    assert len(store.calls) <= 3


async def test_refresh_leaves_the_rest_alone(rig: Rig, store: MemoryStore) -> None:
    store.folder("/s/da")
    store.file("/s/da/file")
    store.file("/s/d/file")
    await rig.find("/s/d/file")
    await rig.find("/s/da/file")
    store.reset()
    await rig.fs.refresh("/s/d")
    assert sorted(call.subject for call in store.calls) == ["/s", "/s/d"]


async def test_refresh_of_something_that_is_gone_removes_it(rig: Rig, store: MemoryStore) -> None:
    store.file("/s/d/file")
    await rig.find("/s/d/file")
    store.remove("/s/d")
    await rig.fs.refresh("/s/d")
    await rig.fs.refresh("/s/d")
    await rig.fs.refresh("/")
    assert await rig.find("/s/d") is None


async def test_refresh_tells_that_the_nas_cannot_be_asked(rig: Rig, store: MemoryStore) -> None:
    await rig.find("/s/small")
    with store.fail("list_dir", PermissionDenied("no")), pytest.raises(PermissionDenied):
        await rig.fs.refresh("/s")


async def test_the_counters_count(rig: Rig) -> None:
    file = await rig.open("/s/small")
    folder = await rig.fs.opendir(await rig.find("/s/d"))
    await rig.fs.readdir(folder, 0)
    await rig.fs.read(file, 0, 10)
    counters = rig.fs.counters()
    assert counters["open_files"] == 1
    assert counters["open_directories"] == 1
    assert counters["cached_entries"] == 4
    assert counters["cache_bytes"] == 5
    assert counters["inodes"] == 5
    await rig.fs.release(file)
    await rig.fs.releasedir(folder)
    counters = rig.fs.counters()
    assert counters["open_files"] == counters["open_directories"] == 0


@pytest.mark.parametrize("method", ["list_dir", "get_entries", "read_range", "spaces"])
async def test_a_bug_in_the_store_fails_the_call_and_nothing_else(
    rig: Rig, store: MemoryStore, expect_logs, method: str
) -> None:
    """Whatever runs in the background must not take the mount along."""
    if method in ("list_dir", "spaces"):
        expect_logs("in a way nobody foresaw")
    bug = ValueError(method)
    raised = []
    inode = await rig.find("/s/small")
    number = await rig.open("/s/big")
    with store.fail(method, bug):
        await trio.sleep(2 * TTL)
        rig.fs.statfs()
        for verb, *arguments in (
            (rig.fs.lookup, inode.parent, b"small"),
            (rig.fs.getattr, inode),
            (rig.fs.read, number, 0, 4096),
            (rig.fs.read, number, 5 * MIB, 4096),
            (rig.fs.refresh, "/"),
        ):
            try:
                await verb(*arguments)
            except ValueError as error:
                raised.append(error)
        await trio.sleep(2 * TTL)
    assert set(raised) == ({bug} if method != "spaces" else set())
    await trio.sleep(2 * TTL)
    number = await rig.open("/s/small")
    assert await rig.fs.read(number, 0, 10) == b"hello"
