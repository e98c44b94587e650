"""One file on its way to the NAS, and calls that fail, lose their answer, or are the last ones of this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from synofs.content.attempt import Attempt
from synofs.remote import (
    NotFound,
    ShortBody,
    TimedOut,
    Unreachable,
    Unsupported,
)
from tests.unit.content_write.conftest import Areas
from tests.unit.content_write.nas import Nas
from tests.unit.content_write.put_rig import HIDDEN, LOST, TEMP, PutRig, conflict_in
from tests.unit.virtual_time import in_virtual_time

pytestmark = [in_virtual_time, pytest.mark.usefixtures("inline_disk")]


# ----- uploads whose end is not known -------------------------------------------------------------------------


async def test_an_upload_whose_answer_was_lost_is_not_sent_again(put_rig: PutRig, nas: Nas) -> None:
    staged = await put_rig.new(b"content")
    nas.meet("upload", LOST, after=True)
    await put_rig.fails(staged, TimedOut)
    assert not (await put_rig.put(staged)).conflict
    assert (nas.files(), nas.count("upload")) == ({"/s/f": b"content"}, 1)


async def test_an_earlier_upload_that_arrives_while_the_next_one_is_under_way_is_no_conflict(
    put_rig: PutRig, nas: Nas
) -> None:
    staged = await put_rig.new(b"first")
    nas.meet("upload", LOST)
    await put_rig.fails(staged, TimedOut)
    await staged.write(0, b"second")
    nas.meet("upload", lambda: nas.write("/s/f", b"first"))
    assert not (await put_rig.put(staged)).conflict
    assert put_rig.visible() == {"/s/f": b"second"}


@pytest.mark.parametrize("late", [b"first", b"second"])
@pytest.mark.parametrize("moment", ["upload", "get_entries"])
async def test_so_it_is_with_each_of_several_and_where_they_replace_a_file(
    put_rig: PutRig, nas: Nas, late: bytes, moment: str
) -> None:
    nas.file("/s/f", b"the old content")
    staged = await put_rig.edit(b"first")
    for content in (b"second", b"the third"):
        nas.meet("move", LOST)
        await put_rig.fails(staged, TimedOut)
        await staged.truncate(0)
        await staged.write(0, content)
    nas.meet(moment, lambda: nas.write("/s/f", late))
    assert not (await put_rig.put(staged)).conflict
    assert put_rig.visible() == {"/s/f": b"the third"}


async def test_what_none_of_ours_has_sent_is_somebodys_however_many_were_lost(put_rig: PutRig, nas: Nas) -> None:
    staged = await put_rig.new(b"first")
    for content in (b"second", b"third!"):
        nas.meet("upload", LOST)
        await put_rig.fails(staged, TimedOut)
        await staged.write(0, content)
    nas.meet("upload", lambda: nas.write("/s/f", b"theirs"))
    assert (await put_rig.put(staged)).conflict
    assert nas.files()["/s/f"] == b"theirs"


@pytest.mark.parametrize(("rest", "md5s"), [(b"0123", 1), (b"", 0)])
async def test_a_torn_upload_is_replaced(put_rig: PutRig, nas: Nas, rest: bytes, md5s: int) -> None:
    staged = await put_rig.new(b"0123456789")

    def tear() -> None:
        nas.write("/s/f", rest)
        raise Unreachable("cut")

    nas.meet("upload", tear, after=True)
    await put_rig.fails(staged, Unreachable)
    assert not (await put_rig.put(staged)).conflict
    assert (put_rig.visible(), nas.count("md5")) == ({"/s/f": b"0123456789"}, md5s)


async def test_somebody_elses_short_file_is_not_taken_for_a_torn_upload(put_rig: PutRig, nas: Nas) -> None:
    staged = await put_rig.new(b"0123456789")

    def happen() -> None:
        nas.write("/s/f", b"else")
        raise Unreachable("cut")

    nas.meet("upload", happen)
    await put_rig.fails(staged, Unreachable)
    assert (await put_rig.put(staged)).conflict
    assert nas.files()["/s/f"] == b"else"
    assert conflict_in(nas.files())[1] == b"0123456789"


async def test_an_upload_that_the_nas_acknowledged_but_does_not_have_is_sent_again(put_rig: PutRig, nas: Nas) -> None:
    staged = await put_rig.new(b"content")
    nas.meet("upload", lambda: nas.delete("/s/f"), after=True)
    await put_rig.fails(staged, ShortBody)
    await put_rig.put(staged)
    assert nas.files() == {"/s/f": b"content"}


async def test_a_short_file_under_the_name_is_never_believed_complete(put_rig: PutRig, nas: Nas) -> None:
    staged = await put_rig.new(b"0123456789")
    nas.meet("upload", lambda: nas.write("/s/f", b"01234"), after=True)  # and the NAS says: success
    await put_rig.fails(staged, ShortBody)
    assert not (await put_rig.put(staged)).conflict
    assert put_rig.visible() == {"/s/f": b"0123456789"}


async def test_an_older_upload_that_arrived_unnoticed_is_replaced_by_the_present_content(
    put_rig: PutRig, nas: Nas
) -> None:
    staged = await put_rig.new(b"first")
    nas.meet("upload", LOST, after=True)
    await put_rig.fails(staged, TimedOut)
    await staged.write(0, b"SECOND")
    assert not (await put_rig.put(staged)).conflict
    assert put_rig.visible() == {"/s/f": b"SECOND"}


async def test_an_older_upload_and_a_change_by_somebody_else_both_survive(put_rig: PutRig, nas: Nas) -> None:
    staged = await put_rig.new(b"first")
    nas.meet("upload", LOST, after=True)
    await put_rig.fails(staged, TimedOut)
    await staged.write(0, b"SECOND")
    nas.write("/s/f", b"their")
    assert (await put_rig.put(staged)).conflict
    assert nas.files()["/s/f"] == b"their"
    assert conflict_in(nas.files())[1] == b"SECOND"


async def test_a_nas_without_md5_makes_a_copy_rather_than_a_guess(put_rig: PutRig, nas: Nas) -> None:
    staged = await put_rig.new(b"content")
    nas.meet("upload", LOST, after=True)
    await put_rig.fails(staged, TimedOut)
    nas.meet("md5", Unsupported("no MD5"), times=9)
    assert (await put_rig.put(staged)).conflict
    assert nas.files()["/s/f"] == conflict_in(nas.files())[1] == b"content"


async def test_a_new_file_costs_no_write_to_the_journal_on_its_way(put_rig: PutRig, nas: Nas) -> None:
    staged = await put_rig.new(b"content")
    changes = put_rig.area.journal.db.total_changes
    frozen = await staged.freeze()
    await put_rig.putter.put(staged, "/s/f", frozen)
    await staged.unfreeze(frozen)
    assert put_rig.area.journal.db.total_changes == changes


# ----- replacing, and failures --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["make_dir", "upload", "get_entries", "move"])
@pytest.mark.parametrize("after", [False, True])
async def test_whatever_call_fails_the_name_has_the_old_or_the_new_version(
    put_rig: PutRig, nas: Nas, method: str, after: bool
) -> None:
    nas.file("/s/f", b"old")
    staged = await put_rig.edit(b"the new one")
    nas.meet(method, LOST, after=after)
    await put_rig.fails(staged, TimedOut)
    assert nas.files()["/s/f"] in (b"old", b"the new one")
    assert not (await put_rig.put(staged)).conflict
    assert put_rig.visible() == {"/s/f": b"the new one"}


async def test_a_swap_whose_answer_was_lost_is_not_uploaded_again(put_rig: PutRig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    staged = await put_rig.edit(b"the new one")
    nas.meet("move", LOST, after=True)
    await put_rig.fails(staged, TimedOut)
    await put_rig.put(staged)
    assert nas.count("upload") == 1


async def test_a_hidden_folder_that_somebody_removed_is_made_again(put_rig: PutRig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    await put_rig.put(await put_rig.edit(b"one"))
    nas.delete(HIDDEN)
    await put_rig.put(await put_rig.edit(b"two"))
    assert put_rig.visible() == {"/s/f": b"two"}


async def test_an_upload_that_somebody_removed_before_the_swap_is_sent_again(put_rig: PutRig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    staged = await put_rig.edit(b"new")
    nas.meet("move", lambda: nas.delete(TEMP))
    await put_rig.fails(staged, ShortBody)
    await put_rig.put(staged)
    assert put_rig.visible() == {"/s/f": b"new"}


async def test_a_folder_that_is_gone_is_told_as_such(put_rig: PutRig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    staged = await put_rig.edit(b"new")
    nas.delete("/s")
    await put_rig.fails(staged, NotFound)


async def test_a_torn_upload_stays_in_the_hidden_folder(put_rig: PutRig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    staged = await put_rig.edit(b"0123456789")

    def tear() -> None:
        nas.write(TEMP, b"0123")
        raise Unreachable("cut")

    nas.meet("upload", tear, after=True)
    await put_rig.fails(staged, Unreachable)
    assert put_rig.visible() == {"/s/f": b"old"}
    nas.meet("upload", lambda: nas.write(TEMP, b"012345"), after=True)  # and the NAS says: success
    await put_rig.fails(staged, ShortBody)
    assert put_rig.visible() == {"/s/f": b"old"}
    await put_rig.put(staged)
    assert put_rig.visible() == {"/s/f": b"0123456789"}


# ----- killed at any call -------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.parametrize("touched", [False, True], ids=["as it was", "changed before the next start"])
async def test_killed_at_any_call_the_next_start_puts_it_once(
    nas: Nas, open_area: Areas, tmp_path: Path, edited: bool, touched: bool
) -> None:
    """Every call of the story is the last one once, before or after the NAS has done it."""
    calls = ["make_dir", "upload", "get_entries", "move"] if edited else ["upload", "get_entries"]
    for number, (method, after) in enumerate((method, after) for method in calls for after in (False, True)):
        nas.delete("/s")
        nas.folder("/s")
        if edited:
            nas.file("/s/f", b"old")
        put_rig = PutRig(nas, await open_area(tmp_path / str(number)))
        staged = await (put_rig.edit if edited else put_rig.new)(b"what was acknowledged")
        await staged.seal()

        def kill() -> None:
            raise Killed

        nas.meet(method, kill, after=after)
        frozen = await staged.freeze()
        with pytest.raises(Killed):
            await put_rig.putter.put(staged, "/s/f", frozen)
        frozen.source.close()
        assert put_rig.visible().get("/s/f") in ((b"old" if edited else None), b"what was acknowledged")
        await open_area.close(put_rig.area)

        again = PutRig(nas, await open_area(tmp_path / str(number)))
        (found,) = again.area.files.values()
        content = b"what was acknowledged"
        if touched:
            content = b"and then changed, before it was sent"
            await found.write(0, content)
        placed = await again.put(found)
        assert not placed.conflict, (method, after)
        assert again.visible() == {"/s/f": content}, (method, after)


async def test_an_adopted_file_that_had_arrived_is_not_sent_again(nas: Nas, open_area: Areas, tmp_path: Path) -> None:
    put_rig = PutRig(nas, await open_area())
    staged = await put_rig.new(b"content")
    await staged.seal()
    frozen = await staged.freeze()
    await put_rig.putter.put(staged, "/s/f", frozen)
    frozen.source.close()
    await open_area.close(put_rig.area)
    for file in (tmp_path / "synofs-v1" / "test").glob("journal.db*"):
        file.unlink()
    again = PutRig(nas, await open_area())
    (found,) = again.area.files.values()
    assert found.attempt == Attempt("/s/f")
    assert not (await again.put(found)).conflict
    assert (nas.files(), nas.count("upload")) == ({"/s/f": b"content"}, 1)
