"""One file on its way to the NAS, and what others do there meanwhile. `nas.files()` is the proof."""

from __future__ import annotations

import pytest
import trio

from synofs.content.put import Placed
from synofs.remote import (
    Exists,
    Fingerprint,
    QuotaExceeded,
    ShortBody,
    TimedOut,
)
from tests.unit.content_write.conftest import Areas
from tests.unit.content_write.nas import SECOND, Nas
from tests.unit.content_write.put_rig import CONFLICT, HIDDEN, LOST, TEMP, PutRig, conflict_in
from tests.unit.virtual_time import in_virtual_time

pytestmark = [in_virtual_time, pytest.mark.usefixtures("inline_disk")]


# ----- new files ----------------------------------------------------------------------------------------------


async def test_a_new_file_costs_one_upload_and_one_look(put_rig: PutRig, nas: Nas) -> None:
    staged = await put_rig.new(b"content")
    await staged.set_mtime(5 * SECOND)
    assert await put_rig.put(staged) == Placed("/s/f", Fingerprint(7, 5 * SECOND), None, conflict=False)
    assert nas.methods() == ["upload", "get_entries"]
    assert nas.files() == {"/s/f": b"content"}


async def test_an_empty_file_is_a_file(put_rig: PutRig, nas: Nas) -> None:
    await put_rig.put(await put_rig.new(b""))
    assert nas.files() == {"/s/f": b""}


async def test_a_name_that_somebody_took_meanwhile_stays_theirs(put_rig: PutRig, nas: Nas) -> None:
    staged = await put_rig.new(b"ours")
    nas.write("/s/f", b"theirs")
    placed = await put_rig.put(staged)
    path, content = conflict_in(nas.files())
    assert (placed.conflict, placed.path, content) == (True, path, b"ours")
    assert nas.files()["/s/f"] == b"theirs"


async def test_the_same_content_from_somebody_else_is_no_conflict(put_rig: PutRig, nas: Nas) -> None:
    staged = await put_rig.new(b"same")
    nas.write("/s/f", b"same")
    assert not (await put_rig.put(staged)).conflict
    assert nas.files() == {"/s/f": b"same"}


async def test_a_folder_that_somebody_made_keeps_the_name(put_rig: PutRig, nas: Nas) -> None:
    staged = await put_rig.new(b"ours")
    nas.folder("/s/f")
    assert (await put_rig.put(staged)).conflict
    assert conflict_in(nas.files())[1] == b"ours"


async def test_a_refusal_is_passed_on_and_nothing_is_lost(put_rig: PutRig, nas: Nas) -> None:
    staged = await put_rig.new(b"content")
    nas.meet("upload", QuotaExceeded("quota"))
    await put_rig.fails(staged, QuotaExceeded)
    await put_rig.put(staged)
    assert nas.files() == {"/s/f": b"content"}


# ----- replacing ----------------------------------------------------------------------------------------------


async def test_a_file_is_replaced_by_a_swap_and_its_name_is_never_empty_or_short(put_rig: PutRig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    staged = await put_rig.edit(b"the new one")
    seen: set[bytes | None] = set()
    for method in ("make_dir", "upload", "get_entries", "move"):
        for after in (False, True):
            nas.meet(method, lambda: seen.add(nas.tree().get("/s/f")), after=after, times=99)
    placed = await put_rig.put(staged)
    assert not placed.conflict
    assert seen == {b"old", b"the new one"}
    assert put_rig.visible() == {"/s/f": b"the new one"}
    assert nas.asked("upload") == [TEMP]
    assert put_rig.leftovers.paths == [HIDDEN]


async def test_the_look_at_the_old_version_is_the_last_call_before_the_swap(put_rig: PutRig, nas: Nas) -> None:
    """What is left open between the two is one round trip."""
    nas.file("/s/f", b"old")
    await put_rig.put(await put_rig.edit(b"new"))
    assert nas.methods() == ["make_dir", "upload", "get_entries", "move"]
    assert nas.calls[2].path == f"/s/f {TEMP}"


async def test_the_hidden_folder_is_made_once(put_rig: PutRig, nas: Nas) -> None:
    for number in range(3):
        nas.file("/s/f", b"old")
        await put_rig.put(await put_rig.edit(b"new %d" % number))
    assert nas.count("make_dir") == 1


async def test_a_version_that_somebody_changed_keeps_the_name(put_rig: PutRig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    staged = await put_rig.edit(b"ours")
    nas.write("/s/f", b"theirs")
    placed = await put_rig.put(staged)
    assert placed.conflict
    assert put_rig.visible() == {"/s/f": b"theirs", placed.path: b"ours"}
    assert CONFLICT.match(placed.path)
    assert nas.asked("upload") == [TEMP]  # once, and moved from there


@pytest.mark.parametrize("method", ["make_dir", "upload"])
@pytest.mark.parametrize("after", [False, True])
async def test_both_versions_survive_whenever_somebody_changes_it(
    put_rig: PutRig, nas: Nas, method: str, after: bool
) -> None:
    nas.file("/s/f", b"old")
    staged = await put_rig.edit(b"ours")
    nas.meet(method, lambda: nas.write("/s/f", b"theirs"), after=after)
    placed = await put_rig.put(staged)
    assert put_rig.visible() == {"/s/f": b"theirs", placed.path: b"ours"}


async def test_a_change_right_after_the_swap_is_theirs_and_ours_is_kept_beside_it(put_rig: PutRig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    staged = await put_rig.edit(b"ours")

    async def change() -> None:
        await trio.sleep(1)
        nas.write("/s/f", b"them")  # of the same size

    nas.meet("move", change, after=True)
    with pytest.raises(Exception, match="somebody else"):
        await put_rig.put(staged)
    placed = await put_rig.put(staged)
    assert put_rig.visible() == {"/s/f": b"them", placed.path: b"ours"}


async def test_a_file_that_was_removed_meanwhile_comes_back_with_the_edit(put_rig: PutRig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    staged = await put_rig.edit(b"ours")
    nas.delete("/s/f")
    assert not (await put_rig.put(staged)).conflict
    assert put_rig.visible() == {"/s/f": b"ours"}


async def test_a_file_that_was_removed_and_made_anew_before_the_swap_survives(put_rig: PutRig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    staged = await put_rig.edit(b"ours")
    nas.delete("/s/f")
    nas.meet("move", lambda: nas.write("/s/f", b"theirs"))
    placed = await put_rig.put(staged)
    assert put_rig.visible() == {"/s/f": b"theirs", placed.path: b"ours"}


async def test_a_folder_in_place_of_the_file_survives(put_rig: PutRig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    staged = await put_rig.edit(b"ours")
    nas.delete("/s/f")
    nas.folder("/s/f")
    placed = await put_rig.put(staged)
    assert put_rig.visible() == {placed.path: b"ours"}
    assert nas.tree()["/s/f"] is None


async def test_an_edit_that_somebody_else_made_likewise_is_no_conflict(put_rig: PutRig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    staged = await put_rig.edit(b"same")
    nas.write("/s/f", b"same")
    assert not (await put_rig.put(staged)).conflict
    assert put_rig.visible() == {"/s/f": b"same"}


# ----- replacing, and the second of a version's time ----------------------------------------------------------


async def test_a_change_of_the_same_size_in_the_same_second_is_found_by_its_md5(put_rig: PutRig, nas: Nas) -> None:
    staged = await put_rig.new(b"ours")
    await staged.set_mtime(nas.now_ns())
    placed = await put_rig.put(staged)
    assert placed.md5 is not None  # the version cannot be told by size and time
    edit = await put_rig.edit(b"more", base_md5=placed.md5)
    nas.write("/s/f", b"them")
    assert nas.version("/s/f") == placed.fingerprint
    aside = await put_rig.put(edit)
    assert put_rig.visible() == {"/s/f": b"them", aside.path: b"more"}


async def test_no_md5_is_asked_for_a_version_whose_second_was_over(put_rig: PutRig, nas: Nas) -> None:
    staged = await put_rig.new(b"ours")
    await staged.set_mtime(nas.now_ns() - SECOND)
    placed = await put_rig.put(staged)
    assert placed.md5 is None
    await put_rig.put(await put_rig.edit(b"more", base_md5=placed.md5))
    assert (nas.count("md5"), put_rig.visible()) == (0, {"/s/f": b"more"})


async def test_a_swap_whose_answer_was_lost_within_that_second_is_recognised(put_rig: PutRig, nas: Nas) -> None:
    staged = await put_rig.new(b"ours")
    await staged.set_mtime(nas.now_ns())
    placed = await put_rig.put(staged)
    edit = await put_rig.edit(b"more", base_md5=placed.md5)
    await edit.set_mtime(nas.now_ns())
    nas.meet("move", LOST, after=True)
    await put_rig.fails(edit, TimedOut)
    assert nas.version("/s/f") == placed.fingerprint
    assert not (await put_rig.put(edit)).conflict
    assert put_rig.visible() == {"/s/f": b"more"}


async def test_a_nas_that_does_not_keep_times_is_believed_by_md5(put_rig: PutRig, nas: Nas) -> None:
    nas.keeps_mtimes = False
    staged = await put_rig.new(b"ours")
    await staged.set_mtime(5 * SECOND)
    assert (await put_rig.put(staged)).fingerprint == Fingerprint(4, nas.now_ns())
    assert nas.count("md5") == 1


# ----- conflict copies ----------------------------------------------------------------------------------------


async def test_several_conflicts_within_a_minute_have_names_of_their_own(put_rig: PutRig, nas: Nas) -> None:
    paths = set()
    for number in range(3):
        staged = await put_rig.new(b"ours %d" % number)
        nas.write("/s/f", b"theirs")
        paths.add((await put_rig.put(staged)).path)
    assert len(paths) == 3
    assert {nas.files()[path] for path in paths} == {b"ours 0", b"ours 1", b"ours 2"}


@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.parametrize("after", [False, True])
async def test_a_conflict_copy_is_made_once_although_an_answer_was_lost(
    put_rig: PutRig, nas: Nas, edited: bool, after: bool
) -> None:
    if edited:
        nas.file("/s/f", b"old")
        staged = await put_rig.edit(b"ours")
    else:
        staged = await put_rig.new(b"ours")
    nas.write("/s/f", b"theirs")
    nas.meet("move" if edited else "upload", LOST, after=after, skip=int(not edited and not after))
    await put_rig.fails(staged, TimedOut)
    assert (await put_rig.put(staged)).conflict
    assert sorted(put_rig.visible().values()) == [b"ours", b"theirs"]


async def test_a_name_taken_while_the_copy_is_made_gets_the_next_number(put_rig: PutRig, nas: Nas) -> None:
    staged = await put_rig.new(b"ours")
    nas.write("/s/f", b"theirs")
    nas.meet("upload", Exists("just now"), skip=1)
    placed = await put_rig.put(staged)
    assert placed.path.endswith(" 2)")


# ----- verifying ----------------------------------------------------------------------------------------------


@pytest.fixture
async def verifying(nas: Nas, open_area: Areas) -> PutRig:
    return PutRig(nas, await open_area(), verify_md5=True)


async def test_with_verify_a_wrong_byte_in_a_new_file_is_found_and_replaced(verifying: PutRig, nas: Nas) -> None:
    staged = await verifying.new(b"content")
    await staged.set_mtime(nas.now_ns())
    nas.meet("upload", lambda: nas.write("/s/f", b"cOntent"), after=True)
    await verifying.fails(staged, ShortBody)
    assert not (await verifying.put(staged)).conflict
    assert verifying.visible() == {"/s/f": b"content"}


async def test_with_verify_a_wrong_byte_never_replaces_a_file(verifying: PutRig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    staged = await verifying.edit(b"content")
    nas.meet("upload", lambda: nas.write(TEMP, b"cOntent"), after=True)
    await verifying.fails(staged, ShortBody)
    assert verifying.visible() == {"/s/f": b"old"}
    await verifying.put(staged)
    assert verifying.visible() == {"/s/f": b"content"}


# ----- hidden folders -----------------------------------------------------------------------------------------


async def test_a_hidden_folder_in_use_is_not_removed(put_rig: PutRig, nas: Nas) -> None:
    async with put_rig.hidden.use("/s"), put_rig.hidden.unused(HIDDEN) as free:
        assert not free
    async with put_rig.hidden.unused(HIDDEN) as free:
        assert free


async def test_who_needs_it_while_it_is_removed_makes_it_again(put_rig: PutRig, nas: Nas) -> None:
    async with put_rig.hidden.use("/s"):
        pass
    used = trio.Event()

    async def use() -> None:
        async with put_rig.hidden.use("/s"):
            assert HIDDEN in nas.tree()
            used.set()

    async with trio.open_nursery() as nursery:
        async with put_rig.hidden.unused(HIDDEN) as free:
            assert free
            nursery.start_soon(use)
            await trio.sleep(1)
            assert not used.is_set()
            await nas.remove(HIDDEN)
        await used.wait()
    assert nas.count("make_dir") == 2
