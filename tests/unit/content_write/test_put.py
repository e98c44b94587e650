"""One file on its way to the NAS, and everything that can happen to it there. `nas.files()` is the proof."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio

from synofs.content.hidden import HiddenFolders
from synofs.content.put import Placed, PutOptions, Putter
from synofs.content.stagedfile import Attempt, StagedFile
from synofs.content.staging import StagingArea
from synofs.remote import (
    Exists,
    Fingerprint,
    NotFound,
    QuotaExceeded,
    RemoteEntry,
    ShortBody,
    TimedOut,
    Unreachable,
    Unsupported,
)
from tests.unit.content_write.conftest import Areas
from tests.unit.content_write.nas import SECOND, Nas
from tests.unit.virtual_time import in_virtual_time

pytestmark = [in_virtual_time, pytest.mark.usefixtures("inline_disk")]

HIDDEN = "/s/.synofs-me"
TEMP = f"{HIDDEN}/f"
LOST = TimedOut("no answer")


class Known:
    def __init__(self) -> None:
        self.paths: list[str] = []

    async def add(self, path: str) -> None:
        self.paths.append(path)


class Rig:
    def __init__(self, nas: Nas, area: StagingArea, *, verify_md5: bool = False) -> None:
        self.nas = nas
        self.area = area
        self.leftovers = Known()
        self.hidden = HiddenFolders(nas, self.leftovers, ".synofs-me")
        self.putter = Putter(nas, PutOptions("ann-laptop", verify_md5), self.hidden, self._confirm)

    async def _confirm(self, path: str) -> RemoteEntry | None:
        return (await self.nas.get_entries([path]))[0]

    async def new(self, content: bytes, path: str = "/s/f") -> StagedFile:
        staged = await self.area.stage(path, None, empty=True)
        await staged.write(0, content)
        return staged

    async def edit(self, content: bytes, base_md5: str | None = None) -> StagedFile:
        """All of /s/f is written anew."""
        staged = await self.area.stage("/s/f", self.nas.version("/s/f"), empty=True, base_md5=base_md5)
        await staged.write(0, content)
        return staged

    async def put(self, staged: StagedFile) -> Placed:
        """One attempt, as the queue makes it."""
        frozen = await staged.freeze()
        try:
            placed = await self.putter.put(staged, staged.path, frozen)
            staged.placed(placed.fingerprint, placed.md5)
            await staged.save_base()
            return placed
        finally:
            await staged.unfreeze(frozen)

    async def fails(self, staged: StagedFile, error: type[Exception]) -> None:
        with pytest.raises(error):
            await self.put(staged)

    def visible(self) -> dict[str, bytes]:
        return {path: content for path, content in self.nas.files().items() if "/.synofs-" not in path}


@pytest.fixture
def nas() -> Nas:
    return Nas("s")


@pytest.fixture
async def rig(nas: Nas, open_area: Areas) -> AsyncIterator[Rig]:
    return Rig(nas, await open_area())


CONFLICT = re.compile(r"^/s/f \(conflict ann-laptop \d{4}-\d\d-\d\d \d{4}( \d+)?\)$")


def conflict_in(files: dict[str, bytes]) -> tuple[str, bytes]:
    """The one conflict copy."""
    (found,) = [(path, content) for path, content in files.items() if CONFLICT.match(path)]
    return found


# ----- new files ----------------------------------------------------------------------------------------------


async def test_a_new_file_costs_one_upload_and_one_look(rig: Rig, nas: Nas) -> None:
    staged = await rig.new(b"content")
    await staged.set_mtime(5 * SECOND)
    assert await rig.put(staged) == Placed("/s/f", Fingerprint(7, 5 * SECOND), None, conflict=False)
    assert nas.methods() == ["upload", "get_entries"]
    assert nas.files() == {"/s/f": b"content"}


async def test_an_empty_file_is_a_file(rig: Rig, nas: Nas) -> None:
    await rig.put(await rig.new(b""))
    assert nas.files() == {"/s/f": b""}


async def test_a_name_that_somebody_took_meanwhile_stays_theirs(rig: Rig, nas: Nas) -> None:
    staged = await rig.new(b"ours")
    nas.write("/s/f", b"theirs")
    placed = await rig.put(staged)
    path, content = conflict_in(nas.files())
    assert (placed.conflict, placed.path, content) == (True, path, b"ours")
    assert nas.files()["/s/f"] == b"theirs"


async def test_the_same_content_from_somebody_else_is_no_conflict(rig: Rig, nas: Nas) -> None:
    staged = await rig.new(b"same")
    nas.write("/s/f", b"same")
    assert not (await rig.put(staged)).conflict
    assert nas.files() == {"/s/f": b"same"}


async def test_a_folder_that_somebody_made_keeps_the_name(rig: Rig, nas: Nas) -> None:
    staged = await rig.new(b"ours")
    nas.folder("/s/f")
    assert (await rig.put(staged)).conflict
    assert conflict_in(nas.files())[1] == b"ours"


async def test_a_refusal_is_passed_on_and_nothing_is_lost(rig: Rig, nas: Nas) -> None:
    staged = await rig.new(b"content")
    nas.meet("upload", QuotaExceeded("quota"))
    await rig.fails(staged, QuotaExceeded)
    await rig.put(staged)
    assert nas.files() == {"/s/f": b"content"}


# ----- uploads whose end is not known -------------------------------------------------------------------------


async def test_an_upload_whose_answer_was_lost_is_not_sent_again(rig: Rig, nas: Nas) -> None:
    staged = await rig.new(b"content")
    nas.meet("upload", LOST, after=True)
    await rig.fails(staged, TimedOut)
    assert not (await rig.put(staged)).conflict
    assert (nas.files(), nas.count("upload")) == ({"/s/f": b"content"}, 1)


async def test_a_torn_upload_is_replaced(rig: Rig, nas: Nas) -> None:
    staged = await rig.new(b"0123456789")

    def tear() -> None:
        nas.write("/s/f", b"0123")
        raise Unreachable("cut")

    nas.meet("upload", tear, after=True)
    await rig.fails(staged, Unreachable)
    assert not (await rig.put(staged)).conflict
    assert rig.visible() == {"/s/f": b"0123456789"}


async def test_an_empty_rest_of_a_torn_upload_is_replaced_without_asking_for_its_md5(rig: Rig, nas: Nas) -> None:
    staged = await rig.new(b"0123456789")

    def tear() -> None:
        nas.write("/s/f", b"")
        raise Unreachable("cut")

    nas.meet("upload", tear, after=True)
    await rig.fails(staged, Unreachable)
    await rig.put(staged)
    assert (rig.visible(), nas.count("md5")) == ({"/s/f": b"0123456789"}, 0)


async def test_somebody_elses_short_file_is_not_taken_for_a_torn_upload(rig: Rig, nas: Nas) -> None:
    staged = await rig.new(b"0123456789")

    def happen() -> None:
        nas.write("/s/f", b"else")
        raise Unreachable("cut")

    nas.meet("upload", happen)
    await rig.fails(staged, Unreachable)
    assert (await rig.put(staged)).conflict
    assert nas.files()["/s/f"] == b"else"
    assert conflict_in(nas.files())[1] == b"0123456789"


async def test_an_upload_that_the_nas_acknowledged_but_does_not_have_is_sent_again(rig: Rig, nas: Nas) -> None:
    staged = await rig.new(b"content")
    nas.meet("upload", lambda: nas.delete("/s/f"), after=True)
    await rig.fails(staged, ShortBody)
    await rig.put(staged)
    assert nas.files() == {"/s/f": b"content"}


async def test_a_short_file_under_the_name_is_never_believed_complete(rig: Rig, nas: Nas) -> None:
    staged = await rig.new(b"0123456789")
    nas.meet("upload", lambda: nas.write("/s/f", b"01234"), after=True)  # and the NAS says: success
    await rig.fails(staged, ShortBody)
    assert not (await rig.put(staged)).conflict
    assert rig.visible() == {"/s/f": b"0123456789"}


async def test_an_older_upload_that_arrived_unnoticed_is_replaced_by_the_present_content(rig: Rig, nas: Nas) -> None:
    staged = await rig.new(b"first")
    nas.meet("upload", LOST, after=True)
    await rig.fails(staged, TimedOut)
    await staged.write(0, b"SECOND")
    assert not (await rig.put(staged)).conflict
    assert rig.visible() == {"/s/f": b"SECOND"}


async def test_an_older_upload_and_a_change_by_somebody_else_both_survive(rig: Rig, nas: Nas) -> None:
    staged = await rig.new(b"first")
    nas.meet("upload", LOST, after=True)
    await rig.fails(staged, TimedOut)
    await staged.write(0, b"SECOND")
    nas.write("/s/f", b"their")
    assert (await rig.put(staged)).conflict
    assert nas.files()["/s/f"] == b"their"
    assert conflict_in(nas.files())[1] == b"SECOND"


async def test_a_nas_without_md5_makes_a_copy_rather_than_a_guess(rig: Rig, nas: Nas) -> None:
    staged = await rig.new(b"content")
    nas.meet("upload", LOST, after=True)
    await rig.fails(staged, TimedOut)
    nas.meet("md5", Unsupported("no MD5"), times=9)
    assert (await rig.put(staged)).conflict
    assert nas.files()["/s/f"] == conflict_in(nas.files())[1] == b"content"


async def test_a_new_file_costs_no_write_to_the_journal_on_its_way(rig: Rig, nas: Nas) -> None:
    staged = await rig.new(b"content")
    changes = rig.area.journal.db.total_changes
    frozen = await staged.freeze()
    await rig.putter.put(staged, "/s/f", frozen)
    await staged.unfreeze(frozen)
    assert rig.area.journal.db.total_changes == changes


# ----- replacing ----------------------------------------------------------------------------------------------


async def test_a_file_is_replaced_by_a_swap_and_its_name_is_never_empty_or_short(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    staged = await rig.edit(b"the new one")
    seen: set[bytes | None] = set()
    for method in ("make_dir", "upload", "get_entries", "move"):
        for after in (False, True):
            nas.meet(method, lambda: seen.add(nas.tree().get("/s/f")), after=after, times=99)
    placed = await rig.put(staged)
    assert not placed.conflict
    assert seen == {b"old", b"the new one"}
    assert rig.visible() == {"/s/f": b"the new one"}
    assert nas.asked("upload") == [TEMP]
    assert rig.leftovers.paths == [HIDDEN]


async def test_the_look_at_the_old_version_is_the_last_call_before_the_swap(rig: Rig, nas: Nas) -> None:
    """What is left open between the two is one round trip."""
    nas.file("/s/f", b"old")
    await rig.put(await rig.edit(b"new"))
    assert nas.methods() == ["make_dir", "upload", "get_entries", "move", "get_entries"]
    assert nas.calls[2].path == f"/s/f {TEMP}"


async def test_the_hidden_folder_is_made_once(rig: Rig, nas: Nas) -> None:
    for number in range(3):
        nas.file("/s/f", b"old")
        await rig.put(await rig.edit(b"new %d" % number))
    assert nas.count("make_dir") == 1


async def test_a_version_that_somebody_changed_keeps_the_name(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    staged = await rig.edit(b"ours")
    nas.write("/s/f", b"theirs")
    placed = await rig.put(staged)
    assert placed.conflict
    assert rig.visible() == {"/s/f": b"theirs", placed.path: b"ours"}
    assert CONFLICT.match(placed.path)
    assert nas.asked("upload") == [TEMP]  # once, and moved from there


@pytest.mark.parametrize("method", ["make_dir", "upload"])
@pytest.mark.parametrize("after", [False, True])
async def test_both_versions_survive_whenever_somebody_changes_it(rig: Rig, nas: Nas, method: str, after: bool) -> None:
    nas.file("/s/f", b"old")
    staged = await rig.edit(b"ours")
    nas.meet(method, lambda: nas.write("/s/f", b"theirs"), after=after)
    placed = await rig.put(staged)
    assert rig.visible() == {"/s/f": b"theirs", placed.path: b"ours"}


async def test_a_change_right_after_the_swap_is_theirs_and_ours_is_kept_beside_it(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    staged = await rig.edit(b"ours")
    nas.meet("move", lambda: nas.write("/s/f", b"them"), after=True)  # of the same size
    with pytest.raises(Exception, match="somebody else"):
        await rig.put(staged)
    placed = await rig.put(staged)
    assert rig.visible() == {"/s/f": b"them", placed.path: b"ours"}


async def test_a_file_that_was_removed_meanwhile_comes_back_with_the_edit(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    staged = await rig.edit(b"ours")
    nas.delete("/s/f")
    assert not (await rig.put(staged)).conflict
    assert rig.visible() == {"/s/f": b"ours"}


async def test_a_file_that_was_removed_and_made_anew_before_the_swap_survives(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    staged = await rig.edit(b"ours")
    nas.delete("/s/f")
    nas.meet("move", lambda: nas.write("/s/f", b"theirs"))
    placed = await rig.put(staged)
    assert rig.visible() == {"/s/f": b"theirs", placed.path: b"ours"}


async def test_a_folder_in_place_of_the_file_survives(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    staged = await rig.edit(b"ours")
    nas.delete("/s/f")
    nas.folder("/s/f")
    placed = await rig.put(staged)
    assert rig.visible() == {placed.path: b"ours"}
    assert nas.tree()["/s/f"] is None


async def test_an_edit_that_somebody_else_made_likewise_is_no_conflict(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    staged = await rig.edit(b"same")
    nas.write("/s/f", b"same")
    assert not (await rig.put(staged)).conflict
    assert rig.visible() == {"/s/f": b"same"}


# ----- replacing, and the second of a version's time ----------------------------------------------------------


async def test_a_change_of_the_same_size_in_the_same_second_is_found_by_its_md5(rig: Rig, nas: Nas) -> None:
    staged = await rig.new(b"ours")
    await staged.set_mtime(nas.now_ns())
    placed = await rig.put(staged)
    assert placed.md5 is not None  # the version cannot be told by size and time
    edit = await rig.edit(b"more", base_md5=placed.md5)
    nas.write("/s/f", b"them")
    assert nas.version("/s/f") == placed.fingerprint
    aside = await rig.put(edit)
    assert rig.visible() == {"/s/f": b"them", aside.path: b"more"}


async def test_no_md5_is_asked_for_a_version_whose_second_was_over(rig: Rig, nas: Nas) -> None:
    staged = await rig.new(b"ours")
    await staged.set_mtime(nas.now_ns() - SECOND)
    placed = await rig.put(staged)
    assert placed.md5 is None
    await rig.put(await rig.edit(b"more", base_md5=placed.md5))
    assert (nas.count("md5"), rig.visible()) == (0, {"/s/f": b"more"})


async def test_a_swap_whose_answer_was_lost_within_that_second_is_recognised(rig: Rig, nas: Nas) -> None:
    staged = await rig.new(b"ours")
    await staged.set_mtime(nas.now_ns())
    placed = await rig.put(staged)
    edit = await rig.edit(b"more", base_md5=placed.md5)
    await edit.set_mtime(nas.now_ns())
    nas.meet("move", LOST, after=True)
    await rig.fails(edit, TimedOut)
    assert nas.version("/s/f") == placed.fingerprint
    assert not (await rig.put(edit)).conflict
    assert rig.visible() == {"/s/f": b"more"}


async def test_a_nas_that_does_not_keep_times_is_believed_by_md5(rig: Rig, nas: Nas) -> None:
    nas.keeps_mtimes = False
    staged = await rig.new(b"ours")
    await staged.set_mtime(5 * SECOND)
    assert (await rig.put(staged)).fingerprint == Fingerprint(4, nas.now_ns())
    assert nas.count("md5") == 1


# ----- replacing, and failures --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["make_dir", "upload", "get_entries", "move"])
@pytest.mark.parametrize("after", [False, True])
async def test_whatever_call_fails_the_name_has_the_old_or_the_new_version(
    rig: Rig, nas: Nas, method: str, after: bool
) -> None:
    nas.file("/s/f", b"old")
    staged = await rig.edit(b"the new one")
    nas.meet(method, LOST, after=after)
    await rig.fails(staged, TimedOut)
    assert nas.files()["/s/f"] in (b"old", b"the new one")
    assert not (await rig.put(staged)).conflict
    assert rig.visible() == {"/s/f": b"the new one"}


async def test_a_swap_whose_answer_was_lost_is_not_uploaded_again(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    staged = await rig.edit(b"the new one")
    nas.meet("move", LOST, after=True)
    await rig.fails(staged, TimedOut)
    await rig.put(staged)
    assert nas.count("upload") == 1


async def test_a_hidden_folder_that_somebody_removed_is_made_again(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    await rig.put(await rig.edit(b"one"))
    nas.delete(HIDDEN)
    await rig.put(await rig.edit(b"two"))
    assert rig.visible() == {"/s/f": b"two"}


async def test_an_upload_that_somebody_removed_before_the_swap_is_sent_again(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    staged = await rig.edit(b"new")
    nas.meet("move", lambda: nas.delete(TEMP))
    await rig.fails(staged, ShortBody)
    await rig.put(staged)
    assert rig.visible() == {"/s/f": b"new"}


async def test_a_folder_that_is_gone_is_told_as_such(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    staged = await rig.edit(b"new")
    nas.delete("/s")
    await rig.fails(staged, NotFound)


async def test_a_torn_upload_stays_in_the_hidden_folder(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    staged = await rig.edit(b"0123456789")

    def tear() -> None:
        nas.write(TEMP, b"0123")
        raise Unreachable("cut")

    nas.meet("upload", tear, after=True)
    await rig.fails(staged, Unreachable)
    assert rig.visible() == {"/s/f": b"old"}
    nas.meet("upload", lambda: nas.write(TEMP, b"012345"), after=True)  # and the NAS says: success
    await rig.fails(staged, ShortBody)
    assert rig.visible() == {"/s/f": b"old"}
    await rig.put(staged)
    assert rig.visible() == {"/s/f": b"0123456789"}


# ----- conflict copies ----------------------------------------------------------------------------------------


async def test_several_conflicts_within_a_minute_have_names_of_their_own(rig: Rig, nas: Nas) -> None:
    paths = set()
    for number in range(3):
        staged = await rig.new(b"ours %d" % number)
        nas.write("/s/f", b"theirs")
        paths.add((await rig.put(staged)).path)
    assert len(paths) == 3
    assert {nas.files()[path] for path in paths} == {b"ours 0", b"ours 1", b"ours 2"}


@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.parametrize("after", [False, True])
async def test_a_conflict_copy_is_made_once_although_an_answer_was_lost(
    rig: Rig, nas: Nas, edited: bool, after: bool
) -> None:
    if edited:
        nas.file("/s/f", b"old")
        staged = await rig.edit(b"ours")
    else:
        staged = await rig.new(b"ours")
    nas.write("/s/f", b"theirs")
    nas.meet("move" if edited else "upload", LOST, after=after, skip=int(not edited and not after))
    await rig.fails(staged, TimedOut)
    assert (await rig.put(staged)).conflict
    assert sorted(rig.visible().values()) == [b"ours", b"theirs"]


async def test_a_name_taken_while_the_copy_is_made_gets_the_next_number(rig: Rig, nas: Nas) -> None:
    staged = await rig.new(b"ours")
    nas.write("/s/f", b"theirs")
    nas.meet("upload", Exists("just now"), skip=1)
    placed = await rig.put(staged)
    assert placed.path.endswith(" 2)")


# ----- verifying ----------------------------------------------------------------------------------------------


@pytest.fixture
async def verifying(nas: Nas, open_area: Areas) -> Rig:
    return Rig(nas, await open_area(), verify_md5=True)


async def test_with_verify_a_wrong_byte_in_a_new_file_is_found_and_replaced(verifying: Rig, nas: Nas) -> None:
    staged = await verifying.new(b"content")
    await staged.set_mtime(nas.now_ns())
    nas.meet("upload", lambda: nas.write("/s/f", b"cOntent"), after=True)
    await verifying.fails(staged, ShortBody)
    assert not (await verifying.put(staged)).conflict
    assert verifying.visible() == {"/s/f": b"content"}


async def test_with_verify_a_wrong_byte_never_replaces_a_file(verifying: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    staged = await verifying.edit(b"content")
    nas.meet("upload", lambda: nas.write(TEMP, b"cOntent"), after=True)
    await verifying.fails(staged, ShortBody)
    assert verifying.visible() == {"/s/f": b"old"}
    await verifying.put(staged)
    assert verifying.visible() == {"/s/f": b"content"}


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
        rig = Rig(nas, await open_area(tmp_path / str(number)))
        staged = await (rig.edit if edited else rig.new)(b"what was acknowledged")
        await staged.seal()

        def kill() -> None:
            raise Killed

        nas.meet(method, kill, after=after)
        frozen = await staged.freeze()
        with pytest.raises(Killed):
            await rig.putter.put(staged, "/s/f", frozen)
        frozen.source.close()
        assert rig.visible().get("/s/f") in ((b"old" if edited else None), b"what was acknowledged")
        await open_area.close(rig.area)

        again = Rig(nas, await open_area(tmp_path / str(number)))
        (found,) = again.area.files.values()
        content = b"what was acknowledged"
        if touched:
            content = b"and then changed, before it was sent"
            await found.write(0, content)
        placed = await again.put(found)
        assert not placed.conflict, (method, after)
        assert again.visible() == {"/s/f": content}, (method, after)


async def test_an_adopted_file_that_had_arrived_is_not_sent_again(
    nas: Nas, open_area: Areas, tmp_path: Path, expect_logs: Callable[..., None]
) -> None:
    rig = Rig(nas, await open_area())
    staged = await rig.new(b"content")
    await staged.seal()
    frozen = await staged.freeze()
    await rig.putter.put(staged, "/s/f", frozen)
    frozen.source.close()
    await open_area.close(rig.area)
    for file in (tmp_path / "synofs-v1" / "test").glob("journal.db*"):
        file.unlink()
    expect_logs("found and is sent now")
    again = Rig(nas, await open_area())
    (found,) = again.area.files.values()
    assert found.attempt == Attempt("/s/f")
    assert not (await again.put(found)).conflict
    assert (nas.files(), nas.count("upload")) == ({"/s/f": b"content"}, 1)


# ----- hidden folders -----------------------------------------------------------------------------------------


async def test_a_hidden_folder_in_use_is_not_removed(rig: Rig, nas: Nas) -> None:
    async with rig.hidden.use("/s"), rig.hidden.unused(HIDDEN) as free:
        assert not free
    async with rig.hidden.unused(HIDDEN) as free:
        assert free


async def test_who_needs_it_while_it_is_removed_makes_it_again(rig: Rig, nas: Nas) -> None:
    async with rig.hidden.use("/s"):
        pass
    used = trio.Event()

    async def use() -> None:
        async with rig.hidden.use("/s"):
            assert HIDDEN in nas.tree()
            used.set()

    async with trio.open_nursery() as nursery:
        async with rig.hidden.unused(HIDDEN) as free:
            assert free
            nursery.start_soon(use)
            await trio.sleep(1)
            assert not used.is_set()
            await nas.remove(HIDDEN)
        await used.wait()
    assert nas.count("make_dir") == 2
