"""Renames on the NAS, step by step: killed after each, and found by the next mount."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Callable

import pytest

from synofs.content.hidden import HiddenFolders
from synofs.content.journal import Move
from synofs.fs.moves import Mover, OutcomeUnknown
from synofs.remote import Away, Changed, Exists, Fingerprint, NotFound, PermissionDenied, TimedOut
from tests.unit.content_write.nas import Nas
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time

LOST = TimedOut("lost")
SHOWN_AGAIN = "was left in a hidden folder and is shown again"
TAKEN_BACK = "is taken back"


class Killed(BaseException):
    pass


class Log:
    """The journal's part."""

    def __init__(self) -> None:
        self.moves: list[Move] = []
        self.hidden: list[str] = []

    async def begin(self, source: str, dest: str, temp_dir: str | None, replaces: Fingerprint | None) -> Move:
        move = Move(len(self.moves) + 1, source, dest, temp_dir, replaces)
        self.moves.append(move)
        return move

    async def drop(self, move: Move) -> None:
        self.moves.remove(move)

    async def add(self, path: str) -> None:
        self.hidden.append(path)


class Rig:
    def __init__(self, nas: Nas, log: Log | None = None) -> None:
        self.nas = nas
        self.log = log or Log()
        self.mover = Mover(nas, self.log, HiddenFolders(nas, self.log, ".synofs-me-mv"), "ann-laptop")

    async def move(self, source: str, dest: str, *, noted: bool = True) -> Move | None:
        """As the verb would: what is at `dest` may be replaced as it is now."""
        replaces = self.nas.version(dest) if dest in self.nas.nodes else None
        return await self.mover.move(source, dest, replaces=replaces, noted=noted)

    def files(self) -> dict[str, bytes]:
        return self.nas.files()


@pytest.fixture
def nas() -> Nas:
    nas = Nas("s")
    for folder in ("/s/a", "/s/b"):
        nas.folder(folder)
    return nas


# (source, dest, what else is there): every way that a rename can go
FORMS = {
    "same name": ("/s/a/x", "/s/b/x", {}),
    "same name, replaced": ("/s/a/x", "/s/b/x", {"/s/b/x": b"old"}),
    "same folder": ("/s/a/x", "/s/a/y", {}),
    "same folder, replaced": ("/s/a/x", "/s/a/y", {"/s/a/y": b"old"}),
    "both": ("/s/a/x", "/s/b/y", {}),
    "both, replaced": ("/s/a/x", "/s/b/y", {"/s/b/y": b"old"}),
    "both, new name taken in the old folder": ("/s/a/x", "/s/b/y", {"/s/a/y": b"other"}),
    "both, taken and replaced": ("/s/a/x", "/s/b/y", {"/s/a/y": b"other", "/s/b/y": b"old"}),
}


@pytest.fixture(params=list(FORMS))
def form(request: pytest.FixtureRequest, nas: Nas) -> tuple[str, str, dict[str, bytes]]:
    source, dest, others = FORMS[request.param]
    nas.file(source, b"content")
    for path, content in others.items():
        nas.file(path, content)
    return source, dest, {path: content for path, content in others.items() if path != dest}


Form = tuple[str, str, dict[str, bytes]]


@pytest.mark.parametrize("noted", [False, True])
async def test_every_form(nas: Nas, form: Form, noted: bool) -> None:
    source, dest, others = form
    rig = Rig(nas)
    move = await rig.move(source, dest, noted=noted)
    assert rig.files() == {dest: b"content", **others}
    assert rig.log.moves == ([move] if move is not None else [])  # for the caller to cross off
    assert move is not None or not noted


async def test_what_is_replaced_is_never_missing(nas: Nas, form: Form) -> None:
    source, dest, _ = form
    before = nas.files().get(dest)
    seen = set()
    for method in ("rename", "move", "make_dir", "get_entries"):
        for after in (False, True):
            nas.meet(method, lambda: seen.add(nas.files().get(dest)), after=after, times=99)
    await Rig(nas).move(source, dest)
    assert seen <= {before, b"content"}


async def test_killed_at_any_call_it_is_finished_or_was_never_begun(nas: Nas, form: Form) -> None:
    """`finish` of the next mount: the file is at one place, old or new, whichever call was the last one."""
    source, dest, others = form
    start = {path: (node.content, node.mtime_ns) for path, node in nas.nodes.items()}
    for method in ("make_dir", "get_entries", "rename", "move"):
        for after in (False, True):
            for skip in range(3):
                nas.delete("/s")
                for path, (content, mtime_ns) in start.items():
                    if path == "/":
                        continue
                    if content is None:
                        nas.folder(path)
                    else:
                        nas.file(path, content, mtime=mtime_ns // 10**9)
                nas.meet_nothing_more()
                log = Log()

                def kill() -> None:
                    raise Killed

                meeting = nas.meet(method, kill, after=after, skip=skip)
                old = nas.files()
                with contextlib.suppress(Killed):
                    await Rig(nas, log).move(source, dest)
                nas.meet_nothing_more()
                if not meeting.met:
                    break
                found = nas.files()
                assert sorted(found.values()) in (sorted(old.values()), sorted([b"content", *others.values()]))
                rig = Rig(nas, Log())
                done = [await rig.mover.finish(move, again=False) for move in log.moves]
                if done == [True]:
                    assert rig.files() == {dest: b"content", **others}
                else:
                    assert rig.files() == old, (method, after, skip)


async def test_whatever_answer_is_lost_it_is_looked_up(nas: Nas, form: Form) -> None:
    source, dest, others = form
    if dest in nas.files():
        nas.nodes[dest].mtime_ns = 5
    for method in ("rename", "move"):
        nas.meet(method, LOST, after=True)
    rig = Rig(nas)
    await rig.move(source, dest)
    assert rig.files() == {dest: b"content", **others}


async def test_whatever_answer_is_lost_finish_tells_the_truth(nas: Nas, form: Form) -> None:
    """When the NAS was gone for good with the answer."""
    source, dest, others = form
    if dest in nas.files():
        nas.nodes[dest].mtime_ns = 5
    for method in ("rename", "move"):
        nas.meet(method, Away("lost"), after=True)
    rig = Rig(nas)
    with pytest.raises(OutcomeUnknown) as unknown:
        await rig.move(source, dest)
    nas.meet_nothing_more()
    assert await rig.mover.finish(unknown.value.move, again=False)
    assert rig.files() == {dest: b"content", **others}


async def test_a_refusal_half_way_brings_the_file_back(nas: Nas, form: Form) -> None:
    source, dest, others = form
    before = nas.files()
    last = "rename" if FORMS["same folder"][1] == dest and dest not in before else "move"
    steps = 1 if posixpath.dirname(source) == posixpath.dirname(dest) and dest in before else 0
    nas.meet(last, PermissionDenied("no"), skip=steps)
    rig = Rig(nas)
    try:
        await rig.move(source, dest)
    except PermissionDenied:
        assert rig.files() == before
        assert rig.log.moves == []
    else:
        assert rig.files() == {dest: b"content", **others}


async def test_a_version_that_was_not_shown_is_not_replaced(nas: Nas) -> None:
    for number, (source, dest, _) in enumerate(FORMS.values()):
        nas.delete("/s")
        for folder in ("/s", "/s/a", "/s/b"):
            nas.folder(folder)
        nas.file(source, b"content")
        nas.file(dest, b"theirs", mtime=number)
        rig = Rig(nas)
        with pytest.raises(Changed):
            await rig.mover.move(source, dest, replaces=Fingerprint(3, 7), noted=True)
        assert rig.files() == {source: b"content", dest: b"theirs"}
        assert rig.log.moves == []


async def test_a_version_changed_after_the_crash_is_not_replaced_either(
    nas: Nas, expect_logs: Callable[..., None]
) -> None:
    expect_logs(TAKEN_BACK)
    nas.file("/s/a/x", b"content")
    nas.file("/s/a/y", b"old")
    log = Log()

    def kill() -> None:
        raise Killed

    nas.meet("rename", kill, after=True)
    with pytest.raises(Killed):
        await Rig(nas, log).move("/s/a/x", "/s/a/y")
    nas.write("/s/a/y", b"theirs")
    rig = Rig(nas)
    assert not await rig.mover.finish(log.moves[0], again=False)
    assert rig.files() == {"/s/a/x": b"content", "/s/a/y": b"theirs"}


async def test_a_file_whose_places_are_both_taken_is_shown_beside_them(
    nas: Nas, expect_logs: Callable[..., None]
) -> None:
    expect_logs(SHOWN_AGAIN)
    nas.file("/s/a/x", b"content")
    nas.file("/s/a/y", b"old")
    log = Log()

    def kill() -> None:
        raise Killed

    nas.meet("rename", kill, after=True)
    with pytest.raises(Killed):
        await Rig(nas, log).move("/s/a/x", "/s/a/y")
    nas.write("/s/a/y", b"theirs")
    nas.write("/s/a/x", b"theirs, too")
    rig = Rig(nas)
    assert not await rig.mover.finish(log.moves[0], again=False)
    # As the cleaning of hidden folders does it: see test_leftovers.
    shown = await rig.mover.show("/s/a/.synofs-me-mv/y", "/s/a")
    assert shown.startswith("/s/a/y (conflict ann-laptop ")
    assert rig.files() == {"/s/a/x": b"theirs, too", "/s/a/y": b"theirs", shown: b"content"}


async def test_nothing_is_replaced_that_appeared_meanwhile(nas: Nas) -> None:
    for source, dest, _ in FORMS.values():
        nas.delete("/s")
        for folder in ("/s", "/s/a", "/s/b"):
            nas.folder(folder)
        nas.file(source, b"content")
        nas.file(dest, b"theirs")
        rig = Rig(nas)
        with pytest.raises(Exists):
            await rig.mover.move(source, dest, replaces=None, noted=True)
        assert rig.files() == {source: b"content", dest: b"theirs"}
        assert rig.log.moves == []


async def test_a_source_that_is_gone_is_told(nas: Nas) -> None:
    for source, dest, _ in FORMS.values():
        rig = Rig(nas)
        with pytest.raises(NotFound):
            await rig.move(source, dest)
        assert rig.log.moves == []


async def test_a_hidden_folder_that_somebody_removed_is_made_again(nas: Nas) -> None:
    rig = Rig(nas)
    for _ in range(2):
        nas.file("/s/a/x", b"content")
        nas.file("/s/a/y", b"old")
        await rig.move("/s/a/x", "/s/a/y")
        nas.delete("/s/a/.synofs-me-mv")
        assert rig.files() == {"/s/a/y": b"content"}


async def test_every_hidden_folder_is_known_before_it_is_made(nas: Nas) -> None:
    nas.file("/s/a/x", b"content")
    nas.file("/s/a/y", b"old")
    rig = Rig(nas)
    nas.meet("make_dir", LOST)
    with pytest.raises(TimedOut):
        await rig.move("/s/a/x", "/s/a/y")
    assert rig.log.hidden == ["/s/a/.synofs-me-mv"]
