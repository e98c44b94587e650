from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from synofs.fs.errors import StaleInode
from synofs.fs.inodes import ROOT_NUMBER, Change, Inode, InodeTable
from synofs.remote import RemoteEntry, Rights


def entry(size: int = 1, mtime: int = 1, ctime: int = 1, rights: Rights = Rights.READ) -> RemoteEntry:
    return RemoteEntry("name", False, size, mtime, 1, ctime, rights)


def looked_up(table: InodeTable, parent: Inode, name: bytes, is_dir: bool = False) -> Inode:
    inode = table.obtain(parent, name, is_dir)
    table.count_lookup(inode)
    return inode


def test_a_path_follows_from_the_parents() -> None:
    table = InodeTable("/")
    share = table.obtain(table.root, b"share", is_dir=True)
    folder = table.obtain(share, b"folder", is_dir=True)
    assert table.root.path() == "/"
    assert share.path() == "/share"
    assert folder.path() == "/share/folder"
    assert table.obtain(folder, b"caf\xe9", is_dir=False).path() == "/share/folder/caf\udce9"


def test_a_share_can_be_the_root() -> None:
    table = InodeTable("/photo")
    assert table.root.path() == "/photo"
    assert table.obtain(table.root, b"a", is_dir=False).path() == "/photo/a"


def test_a_share_whose_name_is_not_ascii_can_be_the_root() -> None:
    assert InodeTable("/Fotos Å\udce9").root.path() == "/Fotos Å\udce9"


def test_an_unknown_number_is_stale() -> None:
    with pytest.raises(StaleInode):
        InodeTable("/").get(4711)


def test_the_same_name_is_the_same_inode() -> None:
    table = InodeTable("/")
    assert table.obtain(table.root, b"a", is_dir=False) is table.obtain(table.root, b"a", is_dir=False)


def test_a_file_that_becomes_a_folder_is_another_inode_with_another_number() -> None:
    table = InodeTable("/")
    file = table.obtain(table.root, b"a", is_dir=False)
    folder = table.obtain(table.root, b"a", is_dir=True)
    assert folder is not file
    assert folder.number != file.number


def test_numbers_are_the_same_after_forget_and_in_another_mount() -> None:
    table, other = InodeTable("/"), InodeTable("/")
    share = looked_up(table, table.root, b"share", is_dir=True)
    file = looked_up(table, share, b"file")
    number = file.number
    table.forget(number, 1)
    with pytest.raises(StaleInode):
        table.get(number)
    assert table.obtain(share, b"file", is_dir=False).number == number
    assert other.obtain(other.obtain(other.root, b"share", is_dir=True), b"file", is_dir=False).number == number


def test_numbers_fit_into_a_double_and_never_are_the_root_or_nothing() -> None:
    table = InodeTable("/")
    for n in range(2000):
        number = table.obtain(table.root, b"%d" % n, is_dir=False).number
        assert ROOT_NUMBER < number < 1 << 53


def test_two_names_that_hash_alike_get_two_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    class Digest:
        def digest(self) -> bytes:
            return (2).to_bytes(8, "little")

    monkeypatch.setattr("synofs.fs.inodes.blake2b", lambda *args, **kwargs: Digest())
    table = InodeTable("/")
    inodes = [table.obtain(table.root, name, is_dir=False) for name in (b"a", b"b", b"c")]
    assert len({inode.number for inode in inodes}) == 3
    assert [table.obtain(table.root, name, is_dir=False) for name in (b"a", b"b", b"c")] == inodes


def test_a_hash_of_nothing_or_of_the_root_is_moved_on(monkeypatch: pytest.MonkeyPatch) -> None:
    class Digest:
        def digest(self) -> bytes:
            return bytes(8)

    monkeypatch.setattr("synofs.fs.inodes.blake2b", lambda *args, **kwargs: Digest())
    table = InodeTable("/")
    assert table.obtain(table.root, b"a", is_dir=False).number == 2


def test_forget_gives_back_exactly_what_was_counted() -> None:
    table = InodeTable("/")
    inode = looked_up(table, table.root, b"a")
    looked_up(table, table.root, b"a")
    looked_up(table, table.root, b"a")
    table.forget(inode.number, 2)
    assert table.get(inode.number) is inode
    table.forget(inode.number, 1)
    assert len(table) == 1


def test_forget_never_raises() -> None:
    table = InodeTable("/")
    table.forget(4711, 1)
    inode = looked_up(table, table.root, b"a")
    table.forget(inode.number, 99)
    table.forget(ROOT_NUMBER, 99)
    assert table.get(ROOT_NUMBER) is table.root


def test_an_open_or_listed_inode_outlives_forget() -> None:
    table = InodeTable("/")
    open_file = looked_up(table, table.root, b"open")
    open_file.opens = 1
    listed = looked_up(table, table.root, b"listed")
    listed.listed = True
    table.forget(open_file.number, 1)
    table.forget(listed.number, 1)
    assert table.get(open_file.number) is open_file
    assert table.get(listed.number) is listed


def test_a_lookup_of_an_inode_that_was_dropped_meanwhile_makes_it_known_again() -> None:
    """Between finding an inode and counting the lookup there may be an await, and an eviction in it."""
    table = InodeTable("/")
    inode = table.obtain(table.root, b"a", is_dir=False)
    table.release(inode)
    table.count_lookup(inode)
    assert table.get(inode.number) is inode


def test_a_lookup_counts_for_the_inode_that_the_number_stands_for() -> None:
    """Dropped meanwhile, and looked up anew by another call: the kernel knows one number, so one count."""
    table = InodeTable("/")
    old = table.obtain(table.root, b"a", is_dir=False)
    table.release(old)
    new = looked_up(table, table.root, b"a")
    table.count_lookup(old)
    table.forget(new.number, 1)
    assert table.get(new.number) is new
    table.forget(new.number, 1)
    assert len(table) == 1


@pytest.mark.parametrize(
    ("after", "change"),
    [
        (entry(), Change.NOTHING),
        (entry(size=2), Change.CONTENT),
        (entry(mtime=2), Change.CONTENT),
        (entry(size=2, mtime=2), Change.CONTENT),
        (entry(ctime=2), Change.ATTRIBUTES),
        (entry(rights=Rights.ALL), Change.ATTRIBUTES),
        (entry(rights=Rights.ALL, mtime=2), Change.CONTENT),
    ],
)
def test_an_update_says_what_has_changed(after: RemoteEntry, change: Change) -> None:
    table = InodeTable("/")
    inode = table.obtain(table.root, b"a", is_dir=False)
    table.update(inode, entry(), 1.0)
    reply = inode.kernel_entry = object()
    assert table.update(inode, after, 2.0) is change
    assert (inode.size, inode.mtime_ns, inode.ctime_ns, inode.rights) == (
        after.size,
        after.mtime_ns,
        after.ctime_ns,
        after.rights,
    )
    assert inode.checked_at == 2.0
    assert inode.kernel_entry is (reply if change is Change.NOTHING else None)


def test_an_update_brings_back_what_was_gone() -> None:
    table = InodeTable("/")
    inode = table.obtain(table.root, b"a", is_dir=False)
    inode.gone = True
    table.update(inode, entry(), 1.0)
    assert not inode.gone


class KernelAndTable(RuleBasedStateMachine):
    """The kernel looks up, opens, closes and forgets in any order that it may; listings come and go.

    `known` is the kernel's side: number -> (inode, references it holds).
    """

    folders = Bundle("folders")
    files = Bundle("files")
    open_files = Bundle("open_files")

    @initialize(target=folders)
    def start(self) -> Inode:
        self.table = InodeTable("/")
        self.known: dict[int, int] = {}
        self.names: dict[int, tuple[int, bytes, bool]] = {}
        self.opened: dict[int, int] = {}
        return self.table.root

    def _reference(self, parent: Inode, name: bytes, is_dir: bool) -> int:
        inode = looked_up(self.table, self._current(parent.number), name, is_dir)
        self.known[inode.number] = self.known.get(inode.number, 0) + 1
        # Stable: a number never comes to stand for another name.
        assert self.names.setdefault(inode.number, (parent.number, name, is_dir)) == (parent.number, name, is_dir)
        return inode

    def _current(self, number: int) -> Inode:
        return self.table.get(number)

    def _kernel_holds(self, number: int) -> bool:
        return number == ROOT_NUMBER or self.known.get(number, 0) > 0

    @rule(target=folders, parent=folders, name=st.sampled_from([b"a", b"b"]))
    def look_up_folder(self, parent: Inode, name: bytes) -> Inode:
        # A folder that the kernel has forgotten meanwhile is found again first, as a path walk would.
        return self._reference(self._walk(parent), name, is_dir=True)

    @rule(target=files, parent=folders, name=st.sampled_from([b"a", b"b", b"c"]))
    def look_up_file(self, parent: Inode, name: bytes) -> Inode:
        return self._reference(self._walk(parent), name, is_dir=False)

    def _walk(self, inode: Inode) -> Inode:
        if inode.parent is None or self._kernel_holds(inode.number):
            return self._current(inode.number)
        return self._reference(self._walk(inode.parent), inode.name, is_dir=True)

    @rule(inode=files, share=st.floats(0, 1))
    def forget_file(self, inode: Inode, share: float) -> None:
        self._forget(inode.number, share)

    @rule(inode=folders, share=st.floats(0, 1))
    def forget_folder(self, inode: Inode, share: float) -> None:
        """The kernel holds a folder for as long as it holds anything in it."""
        number = inode.number
        if number != ROOT_NUMBER and not any(
            self.names[child][0] == number for child, count in self.known.items() if count or self.opened.get(child)
        ):
            self._forget(number, share)

    def _forget(self, number: int, share: float) -> None:
        held = self.known.get(number, 0)
        count = round(held * share)
        if count and not (count == held and self.opened.get(number)):
            self.known[number] = held - count
            self.table.forget(number, count)

    @rule(target=open_files, inode=files)
    def open(self, inode: Inode) -> int:
        number = inode.number
        if not self._kernel_holds(number):
            inode = self._reference(self._walk(inode.parent), inode.name, is_dir=False)
        self._current(number).opens += 1
        self.opened[number] = self.opened.get(number, 0) + 1
        return number

    @rule(number=consumes(open_files))
    def close(self, number: int) -> None:
        inode = self._current(number)
        inode.opens -= 1
        self.opened[number] -= 1
        self.table.release(inode)

    @rule(inode=files, listed=st.booleans())
    def list_or_evict(self, inode: Inode, listed: bool) -> None:
        if self._kernel_holds(inode.number):
            current = self._current(inode.number)
            current.listed = listed
            self.table.release(current)

    @rule(number=st.integers(0, 1 << 60), count=st.integers(0, 1 << 60))
    def forget_nonsense(self, number: int, count: int) -> None:
        if number not in self.names:
            self.table.forget(number, count)

    @invariant()
    def what_the_kernel_knows_is_known(self) -> None:
        for number, count in self.known.items():
            if count or self.opened.get(number):
                inode = self.table.get(number)
                assert inode.lookups == count
                assert (inode.parent.number, inode.name, inode.is_dir) == self.names[number]

    @invariant()
    def what_nobody_needs_is_dropped(self) -> None:
        needed = {number for number, count in self.known.items() if count or self.opened.get(number)}
        listed = {
            number
            for number in self.names
            if number not in needed and self.table._by_number.get(number) and self.table.get(number).listed
        }
        assert set(self.table._by_number) == needed | listed | {ROOT_NUMBER}


KernelAndTable.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestKernelAndTable = KernelAndTable.TestCase


def test_an_inode_that_found_its_number_taken_is_found_when_that_is_free_again() -> None:
    """A file is removed and made again while the kernel knows of the old one, and forgets that later."""
    table = InodeTable("/s")
    old = table.obtain(table.root, b"f", is_dir=False)
    table.count_lookup(old)
    table.move(old, table.root, b".synofs-gone-1")
    new = table.obtain(table.root, b"f", is_dir=False)
    assert new.number != old.number
    table.count_lookup(new)
    table.forget(old.number, 1)
    assert table.obtain(table.root, b"f", is_dir=False) is new
    table.forget(new.number, 1)
    assert len(table) == 1
    assert not table._renamed
