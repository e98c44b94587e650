"""Inodes: which number stands for which path, and how long.

The model. An `Inode` is what the kernel knows by number. It has one parent and one name, so its path follows from
the chain of parents, and renaming a folder costs nothing below it. It is kept while anybody needs it: the kernel
(`lookups`, raised by lookup, create, mkdir and each accepted readdir entry, lowered by forget), an open handle
(`opens`), or the cached listing that holds it (`listed`).

Numbers are stable although nothing is stored: a number is the hash of (parent's number, kind, name), so an inode
that was forgotten and is looked up again gets the number it had. Two inodes that hash alike (expected once in
10^4 mounts of a million files) are told apart by counting upwards. The kind is part of the hash because the kernel
turns an inode that changes from file to folder into an I/O error; it must be a new inode.
"""

from __future__ import annotations

from enum import Enum
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING

from synofs.fs.errors import StaleInode
from synofs.fs.names import remote_name
from synofs.remote import Fingerprint, RemoteEntry, Rights

if TYPE_CHECKING:
    from synofs.content.stagedfile import StagedFile
    from synofs.fs.listing import Listing


class Change(Enum):
    """What a new answer of the NAS says about an inode, compared with the one before."""

    NOTHING = 0
    ATTRIBUTES = 1
    CONTENT = 2  # another version of the file


ROOT_NUMBER = 1
_NUMBER_MASK = (1 << 53) - 1  # exact in a double: JavaScript programs compare inode numbers as such

# A kernel's lookup precedes its own rename by less than that; who wants to know what is there takes longer.
_NOTICED_SECONDS = 0.1


class Inode:
    """One file or folder. Attributes are the NAS's, as of `checked_at` (seconds of the mount's clock)."""

    __slots__ = (
        "atime_ns",
        "checked_at",
        "ctime_ns",
        "gone",
        "is_dir",
        "kernel_cached",
        "kernel_entry",
        "listed",
        "listing",
        "lookups",
        "mtime_ns",
        "name",
        "number",
        "opens",
        "own_md5",
        "own_version",
        "parent",
        "rights",
        "shown_at",
        "shown_before",
        "shown_mtime_ns",
        "shown_version",
        "size",
        "staged",
        "writers",
    )

    def __init__(self, number: int, parent: Inode | None, name: bytes, is_dir: bool) -> None:
        self.number = number
        self.parent = parent
        self.name = name
        self.is_dir = is_dir
        self.size = 0
        self.mtime_ns = 0
        self.atime_ns = 0
        self.ctime_ns = 0
        self.rights = Rights.NONE
        self.checked_at = float("-inf")  # nothing is known yet
        self.lookups = 0
        self.opens = 0
        self.listed = False  # a cached listing of the parent holds it
        self.gone = False  # the NAS no longer has it
        self.listing: Listing | None = None
        self.kernel_entry: object | None = None  # the border's reusable reply object; dropped when attributes change
        self.kernel_cached: Fingerprint | None = None  # the version whose pages the kernel may hold
        self.staged: StagedFile | None = None  # unsent content: size and mtime are then ours, not the NAS's
        self.shown_version: Fingerprint | None = None  # the one whose attributes the kernel was told last
        self.shown_before: Fingerprint | None = None  # another one, which it was told until `shown_at`
        self.shown_at = 0.0
        self.own_version: Fingerprint | None = None  # the version that was written here last
        self.own_md5: str | None = None  # of that, where size and time do not tell it from its successor
        self.writers = 0  # handles open for writing
        self.shown_mtime_ns: int | None = None  # a time given to this version here, which the NAS cannot be told

    def be_shown(self, now: float) -> None:
        """The kernel is told of the present version."""
        version = self.fingerprint
        if self.shown_version is not None and version not in (self.shown_version, self.own_version):
            self.shown_before, self.shown_at = self.shown_version, now
        self.shown_version = version

    def replaceable_version(self, now: float) -> Fingerprint:
        """The version that programs here know of. We may know of a newer one that nobody was shown, or only the kernel
        was, when it looked the name up for the very call that replaces it."""
        if self.shown_version is None or self.fingerprint == self.own_version:
            return self.fingerprint
        if self.shown_before is not None and now < self.shown_at + _NOTICED_SECONDS:
            return self.shown_before
        return self.shown_version

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(self.size, self.mtime_ns)

    def path(self) -> str:
        """The path on the NAS."""
        parts: list[bytes] = []
        node = self
        while node.parent is not None:
            parts.append(node.name)
            node = node.parent
        parts.append(node.name)
        return remote_name(b"/".join(reversed(parts))) or "/"

    def __repr__(self) -> str:
        return f"<Inode {self.number} {self.path()!r}>"


class InodeTable:
    """All inodes by number."""

    def __init__(self, root_path: str) -> None:
        """`root_path`: what the mount shows, `/` for all shares or `/share`."""
        name = b"" if root_path == "/" else root_path.encode("utf-8", "surrogateescape")
        self.root = Inode(ROOT_NUMBER, None, name, is_dir=True)
        self.root.lookups = 1  # the kernel holds the root from the start and never forgets it before the end
        # Nothing is made in the list of shares. What a share allows, the NAS says when it is asked for it.
        self.root.rights = Rights.READ | Rights.EXECUTE if root_path == "/" else Rights.ALL
        self._by_number: dict[int, Inode] = {ROOT_NUMBER: self.root}
        self._renamed: dict[tuple[int, bytes, bool], Inode] = {}  # inodes whose number is not the hash of their name
        self.given_mtimes: dict[str, tuple[Fingerprint, int]] = {}  # path -> (version on the NAS, time given to it)

    def __len__(self) -> int:
        return len(self._by_number)

    def held(self, most: int) -> list[dict[str, object]]:
        """The youngest inodes, and who holds each."""
        return [
            {
                "number": inode.number,
                "path": inode.path(),
                "lookups": inode.lookups,
                "opens": inode.opens,
                "listed": inode.listed,
                "has_listing": inode.listing is not None,
                "unsent": inode.staged is not None,
                "gone": inode.gone,
            }
            for inode in islice(reversed(self._by_number.values()), most)
        ]

    def get(self, number: int) -> Inode:
        """Raises `StaleInode` for a number that is not known."""
        try:
            return self._by_number[number]
        except KeyError:
            raise StaleInode(f"inode {number} is not known") from None

    def doubt_pages(self, number: int, version: Fingerprint) -> None:
        """What the kernel has of this version may be of an older content: whoever opens the file reads it once more."""
        inode = self._by_number.get(number)
        if inode is not None and inode.kernel_cached == version:
            inode.kernel_cached = None

    def obtain(self, parent: Inode, name: bytes, is_dir: bool) -> Inode:
        """The inode of that name and kind, known or new. The caller lists it or counts a lookup."""
        if self._renamed:
            moved = self._renamed.get((parent.number, name, is_dir))
            if moved is not None:
                return moved
        digest = blake2b(name, digest_size=8, key=b"%d%c" % (parent.number, b"fd"[is_dir])).digest()
        own = number = int.from_bytes(digest, "little") & _NUMBER_MASK
        known = self._by_number
        while True:
            inode = known.get(number)
            if inode is None:
                if number > ROOT_NUMBER:
                    break
            elif inode.parent is parent and inode.name == name and inode.is_dir == is_dir:
                return inode
            number = (number + 1) & _NUMBER_MASK
        inode = Inode(number, parent, name, is_dir)
        known[number] = inode
        if number != own:  # whose number was taken may be forgotten first
            self._renamed[parent.number, name, is_dir] = inode
        return inode

    def count_lookup(self, inode: Inode) -> None:
        """The kernel was given `inode` once more.

        The count belongs to the number, which is all that the kernel knows: an inode that was dropped while its
        finder waited for something is taken back, or stands aside for the one that has its number by now.
        """
        self._by_number.setdefault(inode.number, inode).lookups += 1

    def forget(self, number: int, count: int) -> None:
        """The kernel gives back `count` references. Never raises: an exception here would end the mount."""
        inode = self._by_number.get(number)
        if inode is not None:
            inode.lookups = max(0, inode.lookups - count)
            self.release(inode)

    def release(self, inode: Inode) -> None:
        """Drop the inode if nobody needs it any more."""
        if inode.lookups or inode.opens or inode.listed or inode.listing is not None or inode is self.root:
            return
        if self._by_number.get(inode.number) is inode:
            del self._by_number[inode.number]
            self._unalias(inode)

    def move(self, inode: Inode, parent: Inode, name: bytes) -> None:
        """Give the inode another place; it keeps its number, and everything below it moves along."""
        self._unalias(inode)
        inode.parent = parent
        inode.name = name
        self._renamed[parent.number, name, inode.is_dir] = inode

    def _unalias(self, inode: Inode) -> None:
        if self._renamed and inode.parent is not None:
            key = (inode.parent.number, inode.name, inode.is_dir)
            if self._renamed.get(key) is inode:
                del self._renamed[key]

    def update(self, inode: Inode, entry: RemoteEntry, checked_at: float) -> Change:
        """Take over what the NAS says."""
        inode.checked_at = checked_at
        inode.gone = False
        if inode.staged is not None:
            inode.rights = entry.rights
            return Change.NOTHING
        if (
            inode.mtime_ns == entry.mtime_ns
            and inode.size == entry.size
            and inode.rights == entry.rights
            and inode.ctime_ns == entry.ctime_ns
            and inode.atime_ns == entry.atime_ns
        ):
            return Change.NOTHING
        change = Change.ATTRIBUTES
        if inode.mtime_ns != entry.mtime_ns or inode.size != entry.size:
            change = Change.CONTENT
            inode.shown_mtime_ns = self.given_mtime(inode, entry.fingerprint)
        inode.size = entry.size
        inode.mtime_ns = entry.mtime_ns
        inode.atime_ns = entry.atime_ns
        inode.ctime_ns = entry.ctime_ns
        inode.rights = entry.rights
        inode.kernel_entry = None
        return change

    def given_mtime(self, inode: Inode, version: Fingerprint) -> int | None:
        """The time that was given to this version here."""
        if not self.given_mtimes:
            return None
        known, given_ns = self.given_mtimes.get(inode.path(), (None, 0))
        return given_ns if known == version else None


def entry_of(inode: Inode) -> RemoteEntry:
    """What is known of an inode, as the store would tell it."""
    return RemoteEntry(
        remote_name(inode.name),
        inode.is_dir,
        inode.size,
        inode.mtime_ns,
        inode.atime_ns,
        inode.ctime_ns,
        inode.rights,
    )
