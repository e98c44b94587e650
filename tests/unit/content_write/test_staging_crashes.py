"""Killed between any two steps on the disk, and what the next mount finds: never less than was acknowledged."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from synofs.content.attempt import Attempt, Sent, decoded
from synofs.content.journal import Changes, Journal
from synofs.content.rangelog import RECORD_BYTES
from synofs.content.stagedfile import StagedFile
from synofs.content.staging import StagingArea
from synofs.remote import Fingerprint
from tests.trees import revealing
from tests.unit.content_write.conftest import Areas, done
from tests.unit.content_write.crashes import Crashes

pytestmark = [pytest.mark.trio, pytest.mark.usefixtures("inline_disk")]

BASE = revealing(300_000)
VERSION = Fingerprint(len(BASE), 5_000_000_000)

State = dict[str, bytes]  # path -> content, of all that is to be sent


async def fetch(offset: int, length: int) -> bytes:
    return BASE[offset : offset + length]


async def placed(staged: StagedFile) -> None:
    staged.placed(VERSION, None)
    await staged.save()


async def state_of(files: list[StagedFile]) -> State:
    return {staged.path: bytes(await staged.read(0, 10**9, fetch)) for staged in files}


class Story:
    """Acts on a staging area; after each, what a crash must not take away any more."""

    def __init__(self, area: StagingArea, crashes: Crashes) -> None:
        self.area = area
        self.crashes = crashes
        self.states: list[State] = [{}]

    async def act(self, act: Awaitable[object], **changed: bytes | None) -> object:
        """An act, and what it changes: names below /s, None for what is gone."""
        result = await act
        after = {**self.states[-1], **{f"/s/{name}": content for name, content in changed.items()}}
        self.states.append({path: content for path, content in after.items() if content is not None})
        self.crashes.acts += 1
        return result


@pytest.fixture
async def story(open_area: Areas, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    return Story(await open_area(), Crashes(tmp_path, tmp_path_factory.mktemp("copies")))


async def check(story: Story, open_area: Areas, settled: Callable[[Path], None] = lambda folder: None) -> None:
    """Each copy holds what was acknowledged before the step, or after the act that it belongs to."""
    assert len(story.crashes.snapshots) > len(story.states)
    for number, (folder, acts) in enumerate(story.crashes.snapshots):
        settled(folder)
        area = await open_area(folder)
        found = await state_of(list(area.files.values()))
        allowed = story.states[acts : acts + 2]
        assert found in allowed, f"step {number}, after {acts} acts: {sorted(found)}"
        assert area.refused == {}
        await open_area.close(area)


async def write_a_new_file(story: Story) -> StagedFile:
    """A new file is there as soon as it is created: the application was told so."""
    staged = await story.act(story.area.stage("/s/f", None, empty=True), f=b"")
    assert isinstance(staged, StagedFile)
    await story.act(staged.write(0, b"0123456789"), f=b"0123456789")
    await story.act(staged.write(12, b"x"), f=b"0123456789\0\0x")
    await story.act(staged.seal())
    await story.act(staged.truncate(3), f=b"012")  # shorter than what was sealed: no damage
    await story.act(staged.truncate(5), f=b"012\0\0")
    await story.act(staged.seal())
    await story.act(staged.write(None, revealing(100_000, 1)), f=b"012\0\0" + revealing(100_000, 1))
    return staged


async def edit_an_old_file(story: Story) -> StagedFile:
    staged = await story.act(story.area.stage("/s/g", VERSION, empty=False), g=BASE)
    assert isinstance(staged, StagedFile)
    content = bytearray(BASE)
    content[100:104] = b"mine"
    await story.act(staged.write(100, b"mine"), g=bytes(content))
    content[200_000:280_000] = revealing(80_000, 2)
    await story.act(staged.write(200_000, revealing(80_000, 2)), g=bytes(content))
    await story.act(staged.truncate(250_000), g=bytes(content[:250_000]))
    await story.act(staged.seal())
    await story.act(staged.truncate(260_000), g=bytes(content[:250_000]) + bytes(10_000))
    await story.act(staged.fetch_missing(fetch))
    await story.act(staged.write(None, b"end"), g=bytes(content[:250_000]) + bytes(10_000) + b"end")
    return staged


async def test_a_new_file_survives_every_step(story: Story, open_area: Areas) -> None:
    with story.crashes.watch():
        staged = await write_a_new_file(story)
        await story.act(done(story.area, staged), f=None)
    await check(story, open_area)


async def test_an_edit_survives_every_step(story: Story, open_area: Areas) -> None:
    with story.crashes.watch():
        staged = await edit_an_old_file(story)
        await story.act(done(story.area, staged), g=None)
    await check(story, open_area)


async def test_a_write_during_an_upload_survives_every_step(story: Story, open_area: Areas) -> None:
    staged = await story.area.stage("/s/f", None, empty=True)
    await staged.write(0, b"first" * 100)
    await staged.seal()
    story.states = [{"/s/f": b"first" * 100}]
    with story.crashes.watch():
        frozen = await story.act(staged.freeze())
        await story.act(staged.note_attempt("/s/f"))
        await story.act(staged.write(0, b"SECOND"), f=_second())
        await story.act(staged.write(3, b"."), f=_second(b"."))
        await story.act(placed(staged))
        await story.act(staged.unfreeze(frozen))  # type: ignore[arg-type]
        await story.act(staged.seal())
    await check(story, open_area)


def _second(dot: bytes = b"O") -> bytes:
    return b"SEC" + dot + b"ND" + (b"first" * 100)[6:]


async def test_several_files_end_in_any_order(story: Story, open_area: Areas) -> None:
    with story.crashes.watch():
        f = await story.act(story.area.stage("/s/f", None, empty=True), f=b"")
        g = await story.act(story.area.stage("/s/g", None, empty=True), g=b"")
        assert isinstance(f, StagedFile)
        assert isinstance(g, StagedFile)
        await story.act(f.write(0, b"f"), f=b"f")
        await story.act(g.write(0, b"g"), g=b"g")
        await story.act(story.area.disown(f), f=None)
        await story.act(story.area.drop(f))
        g.path = "/s/h"
        moved = Changes({g.id: {"path": "/s/h"}})
        await story.act(story.area.moved(None, moved), g=None, h=b"g")
        await story.act(done(story.area, g), h=None)
    await check(story, open_area)


async def test_without_a_journal_every_file_is_adopted(story: Story, open_area: Areas) -> None:
    """The same stories, and the journal is lost each time: the files say of themselves what they are."""
    with story.crashes.watch():
        await write_a_new_file(story)
        await edit_an_old_file(story)

    def lose_journal(folder: Path) -> None:
        for file in (folder / "synofs-v1" / "test").glob("journal.db*"):
            file.unlink()

    await check(story, open_area, lose_journal)


@pytest.mark.parametrize("base", [None, VERSION], ids=["new", "emptied"])
@pytest.mark.parametrize("kept", ["nothing", "its beginning", "all"])
async def test_after_a_loss_of_power_what_was_closed_is_there_whatever_the_journal_kept_of_it(
    open_area: Areas, tmp_path: Path, kept: str, base: Fingerprint | None
) -> None:
    """The data and their label were waited for; of the journal there is what its last durable commit left, or more."""
    root = tmp_path / "synofs-v1" / "test"
    journals: dict[str, dict[str, bytes]] = {}

    def keep(name: str) -> None:
        journals[name] = {file.name: file.read_bytes() for file in root.glob("journal.db*")}

    area = await open_area()
    keep("nothing")
    staged = await area.stage("/s/f", base, empty=True)
    await area.rows_written()
    keep("its beginning")
    await staged.write(0, b"precious")
    await staged.set_mtime(7 * 10**9)
    await staged.seal()
    keep("all")
    after = tmp_path / "after"
    shutil.copytree(root, after / "synofs-v1" / "test", ignore=shutil.ignore_patterns("journal.db*", "lock"))
    for name, content in journals[kept].items():
        (after / "synofs-v1" / "test" / name).write_bytes(content)
    (found,) = (await open_area(after)).files.values()
    assert (found.path, found.base, found.effective_mtime_ns) == ("/s/f", base, 7 * 10**9)
    assert bytes(await found.read(0, 100, fetch)) == b"precious"
    await found.write(0, b"previous")
    await found.seal()
    again = tmp_path / "again"
    shutil.copytree(after, again, ignore=shutil.ignore_patterns("lock"))
    (found,) = (await open_area(again)).files.values()
    assert found.effective_mtime_ns > 7 * 10**9
    assert bytes(await found.read(0, 100, fetch)) == b"previous"


async def test_a_refused_file_is_never_lost_between_staging_and_recovery(
    story: Story, open_area: Areas, expect_logs: Callable[..., None]
) -> None:
    expect_logs("/s/f: its staged file is not where it was")  # but in the recovery folder already
    staged = await story.area.stage("/s/f", None, empty=True)
    await staged.write(0, b"precious")
    await staged.seal()
    await story.area.rows_written()
    with story.crashes.watch():
        await story.area.refuse(staged, "quota")
    for folder, _ in story.crashes.snapshots:
        area = await open_area(folder)
        in_staging = await state_of(list(area.files.values()))
        kept = [(row.path, contents(folder)["recovery/" + row.data]) for row in area.refused.values()]
        assert [*in_staging.items(), *kept] == [("/s/f", b"precious")]
        await open_area.close(area)
    assert kept == [("/s/f", b"precious")]


def contents(folder: Path) -> dict[str, bytes]:
    root = folder / "synofs-v1" / "test"
    return {
        f"{part}/{file.name}": file.read_bytes() for part in ("staging", "recovery") for file in (root / part).iterdir()
    }


# ----- power loss, and other damage -----------------------------------------------------------------------------


class Copy:
    """The cache folder after the process has died, for a test to damage."""

    def __init__(self, source: Path, target: Path) -> None:
        shutil.copytree(source, target)
        self.folder = target
        self.root = target / "synofs-v1" / "test"
        (self.root / "lock").unlink()

    def data(self, suffix: str = "") -> Path:
        (file,) = [file for file in (self.root / "staging").iterdir() if file.name.endswith(".ranges") == bool(suffix)]
        return file


@pytest.fixture
def died(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Copy]:
    copies = tmp_path_factory.mktemp("died")
    return lambda: Copy(tmp_path, copies / str(len(os.listdir(copies))))


async def test_a_staged_file_that_somebody_removed_is_reported(
    open_area: Areas, died: Callable[[], Copy], expect_logs: Callable[..., None]
) -> None:
    area = await open_area()
    await area.stage("/s/f", None, empty=True)
    await area.rows_written()
    copy = died()
    copy.data().unlink()
    expect_logs("/s/f: its staged file is not where it was")
    area = await open_area(copy.folder)
    assert (area.files, area.journal.rows()) == ({}, [])


@pytest.mark.parametrize("told_by", ["label", "row"])
@pytest.mark.parametrize("left", [0, 1, 9])
async def test_a_truncated_staged_file_is_kept_and_never_sent(
    open_area: Areas, died: Callable[[], Copy], left: int, told_by: str, expect_logs: Callable[..., None]
) -> None:
    area = await open_area()
    staged = await area.stage("/s/report.odt", None, empty=True)
    await staged.write(0, b"0123456789")
    await staged.seal()
    if told_by == "row":
        await area.rows_written()
        staged.abandon()
    copy = died()
    os.truncate(copy.data(), left)
    expect_logs(r"/s/report.odt: the local disk lost a part of it")
    area = await open_area(copy.folder)
    assert area.files == {}
    (row,) = area.still_refused()
    assert contents(copy.folder) == {"recovery/report.odt": b"0123456789"[:left]}
    assert (row.path, row.data) == ("/s/report.odt", "report.odt")
    assert row.refused is not None
    assert "lost a part" in row.refused


async def test_a_torn_record_at_the_end_of_the_range_log_is_left_out(
    open_area: Areas, died: Callable[[], Copy]
) -> None:
    staged = await (await open_area()).stage("/s/g", VERSION, empty=False)
    await staged.write(10, b"mine")
    await staged.seal()
    for torn in range(RECORD_BYTES):
        copy = died()
        with copy.data(".ranges").open("ab") as log:
            log.write(b"\x07" * torn)
        area = await open_area(copy.folder)
        (found,) = area.files.values()
        assert bytes(await found.read(8, 8, fetch)) == BASE[8:10] + b"mine" + BASE[14:16]
        await found.write(100, b"more")  # and the log goes on where it was good
        await open_area.close(area)
        again = await open_area(copy.folder)
        (found,) = again.files.values()
        assert list(found.present) == [(10, 14), (100, 104)]
        await open_area.close(again)


@pytest.mark.parametrize("damage", ["cut", "missing", "garbage"])
async def test_a_damaged_range_log_is_never_taken_for_a_short_one(
    open_area: Areas, died: Callable[[], Copy], damage: str, expect_logs: Callable[..., None]
) -> None:
    """Without its end, bytes that were written would be taken from the NAS, and nobody would know."""
    staged = await (await open_area()).stage("/s/g", VERSION, empty=False)
    await staged.write(10, b"mine")
    await staged.write(100, b"mine, too")
    await staged.seal()
    copy = died()
    log = copy.data(".ranges")
    if damage == "cut":
        os.truncate(log, RECORD_BYTES)
    elif damage == "missing":
        log.unlink()
    else:
        log.write_bytes(b"\xff" * RECORD_BYTES + log.read_bytes()[RECORD_BYTES:])
    expect_logs("list of the parts that were written")
    area = await open_area(copy.folder)
    assert area.files == {}
    assert [row.path for row in area.still_refused()] == ["/s/g"]
    assert contents(copy.folder)["recovery/g"][100:109] == b"mine, too"


async def test_a_copy_whose_name_was_lost_is_replaced_by_what_it_was_made_of(
    open_area: Areas, died: Callable[[], Copy]
) -> None:
    staged = await (await open_area()).stage("/s/f", None, empty=True)
    await staged.write(0, b"sealed")
    await staged.seal()
    frozen = await staged.freeze()
    await staged.write(0, b"not sealed")
    copy = died()
    await staged.unfreeze(frozen)
    (copy.root / "staging" / staged.data_name).unlink()
    assert await state_of(list((await open_area(copy.folder)).files.values())) == {"/s/f": b"sealed"}


async def test_what_an_upload_was_reading_tells_later_whether_it_arrived(
    open_area: Areas, died: Callable[[], Copy]
) -> None:
    staged = await (await open_area()).stage("/s/f", None, empty=True)
    await staged.write(0, b"what was sent")
    frozen = await staged.freeze()
    await staged.note_attempt("/s/f")
    await staged.write(0, b"and then changed")
    copy = died()
    await staged.unfreeze(frozen)
    area = await open_area(copy.folder)
    (found,) = area.files.values()
    assert found.attempt == Attempt("/s/f", (Sent(13, hashlib.md5(b"what was sent").hexdigest()),))
    assert await state_of([found]) == {"/s/f": b"and then changed"}
    assert list(contents(copy.folder)) == [f"staging/{found.data_name}"]


async def test_so_do_all_earlier_uploads_whose_end_is_not_known(open_area: Areas, died: Callable[[], Copy]) -> None:
    staged = await (await open_area()).stage("/s/f", None, empty=True)
    await staged.write(0, b"first")
    for content in (b"second", b"the third"):
        frozen = await staged.freeze()
        await staged.note_attempt("/s/f")
        if content == b"second":
            await staged.unfreeze(frozen)
        await staged.write(0, content)
    copy = died()
    await staged.unfreeze(frozen)
    area = await open_area(copy.folder)
    (found,) = area.files.values()
    expected = tuple(Sent(len(sent), hashlib.md5(sent).hexdigest()) for sent in (b"first", b"second"))
    assert found.attempt == Attempt("/s/f", expected)
    await found.write(0, b"changed before it was sent")
    (row,) = area.journal.rows()
    assert decoded(row.attempted_sent) == (*expected, Sent(9, hashlib.md5(b"the third").hexdigest()))


async def test_times_survive(open_area: Areas, died: Callable[[], Copy]) -> None:
    staged = await (await open_area()).stage("/s/f", None, empty=True)
    await staged.set_mtime(1_000_000_000_123_456_789)
    await staged.seal()
    (found,) = (await open_area(died().folder)).files.values()
    assert found.effective_mtime_ns == 1_000_000_000_000_000_000


async def test_files_come_back_in_the_order_of_their_last_write(open_area: Areas, died: Callable[[], Copy]) -> None:
    area = await open_area()
    files = [await area.stage(f"/s/{number}", None, empty=True) for number in range(3)]
    for moment, number in enumerate((2, 0, 1)):
        await files[number].write(0, b"x")
        os.utime(area.data_folder / files[number].data_name, ns=(0, moment * 10**9))
    assert [staged.path for staged in (await open_area(died().folder)).files.values()] == ["/s/2", "/s/0", "/s/1"]


async def test_adopted_files_know_path_version_and_time(
    open_area: Areas, died: Callable[[], Copy], expect_logs: Callable[..., None]
) -> None:
    staged = await (await open_area()).stage("/s/\udce9", VERSION, empty=True)
    await staged.write(0, b"x")
    await staged.set_mtime(7 * 10**9)
    await staged.seal()
    copy = died()
    (copy.root / "journal.db").write_bytes(b"garbage" * 1000)
    for other in copy.root.glob("journal.db-*"):
        other.unlink()
    expect_logs("the journal is damaged")
    (found,) = (await open_area(copy.folder)).files.values()
    assert (found.path, found.base, found.mtime_ns) == ("/s/\udce9", VERSION, 7 * 10**9)
    assert found.attempt == Attempt("/s/\udce9")  # perhaps it had arrived: the upload looks first


async def test_a_data_file_that_says_nothing_of_itself_is_kept(
    open_area: Areas, died: Callable[[], Copy], expect_logs: Callable[..., None]
) -> None:
    await open_area()
    copy = died()
    (copy.root / "staging" / "0123.1").write_bytes(b"precious")
    expect_logs("does not say where it belongs")
    area = await open_area(copy.folder)
    assert (area.files, [row.path for row in area.still_refused()]) == ({}, ["/0123.1"])
    assert contents(copy.folder) == {"recovery/0123.1": b"precious"}


async def test_what_lies_in_the_recovery_folder_is_reported_whatever_the_journal_says(
    open_area: Areas, died: Callable[[], Copy]
) -> None:
    area = await open_area()
    staged = await area.stage("/s/f", None, empty=True)
    await area.refuse(staged, "quota")
    copy = died()
    for file in copy.root.glob("journal.db*"):
        file.unlink()
    for _ in range(2):
        area = await open_area(copy.folder)
        assert [(row.path, row.data) for row in area.still_refused()] == [("/s/f", "f")]
        await open_area.close(area)
    (copy.root / "recovery" / "f").unlink()  # somebody has settled it
    area = await open_area(copy.folder)
    assert area.refused == {}
    assert area.journal.rows() == []


async def test_a_full_disk_while_a_file_begins_leaves_nothing(
    open_area: Areas, monkeypatch: pytest.MonkeyPatch
) -> None:
    area = await open_area()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "insert", full)
        with pytest.raises(OSError, match="No space"):
            await area.stage("/s/g", VERSION, empty=False)
    assert os.listdir(area.data_folder) == []
    assert (area.budget.dirty_bytes, area.files) == (0, {})
