"""Which calls will be answered without waiting for the NAS, told before they are begun.

Such a call needs no bound (fuse/operations.py): a bound costs as much as the answer itself. "Yes" must be true of every
step of the call, also of one that begins a moment later: what is about to grow old is not at hand. "No" only costs the
bound.
"""

from __future__ import annotations

import os

from synofs.fs.attributes import Attributes
from synofs.fs.handles import DirHandle, FileHandle, HandleTable
from synofs.fs.inodes import Inode
from synofs.fs.listings import Listings
from synofs.fs.writes import Writes

_MOMENT_SECONDS = 0.1  # longer than such a call takes


class AtHand:
    def __init__(
        self,
        listings: Listings,
        attributes: Attributes,
        files: HandleTable[FileHandle],
        dirs: HandleTable[DirHandle],
        writes: Writes | None,
    ) -> None:
        self._listings = listings
        self._attributes = attributes
        self._files = files
        self._dirs = dirs
        self._writes = writes

    def entries(self, number: int, position: int) -> bool:
        """Of `readdir`."""
        handle = self._dirs.get(number)
        if position == 0 or handle.listing is None:
            return self._is_listed(handle.inode)
        return handle.listing.complete or position < len(handle.entries)

    def attributes(self, inode: Inode) -> bool:
        return self._attributes.are_fresh(inode, for_seconds=_MOMENT_SECONDS)

    def opening(self, inode: Inode, flags: int) -> bool:
        """Of `open`."""
        return not flags & os.O_TRUNC and self.attributes(inode)

    def _is_listed(self, directory: Inode) -> bool:
        listing = directory.listing
        return listing is not None and listing.complete and self._listings.remaining_seconds(listing) > _MOMENT_SECONDS

    def name(self, parent: Inode, name: bytes) -> bool:
        """Of `lookup`: which inode it is, or that there is none."""
        found = self._listed(parent, name)
        return found is None or (found is not parent and self.attributes(found))

    def new_name(self, parent: Inode, name: bytes) -> bool:
        """Of `create`."""
        knows = self._writes is not None and self._writes.knows_folder(parent, for_seconds=_MOMENT_SECONDS)
        return knows and self._listed(parent, name) is None

    def _listed(self, parent: Inode, name: bytes) -> Inode | None:
        """What a fresh listing has under the name; the folder itself if there is no such listing."""
        listing = parent.listing
        if listing is None or listing.ahead or name in (b".", b"..") or not self._is_listed(parent):
            return parent
        inode = listing.by_name.get(name)
        return None if inode is None or inode.gone else inode

    # ----- files, of which the local disk may be waited for: a bound could not end that ---------------------------

    def room(self, number: int, length: int) -> bool:
        """Of `write`."""
        staged = self._files.get(number).inode.staged
        return staged is not None and staged.takes_at_once(length)

    def closing(self, number: int) -> bool:
        """Of `flush`."""
        handle = self._files.get(number)
        return not handle.writable or self._writes is None or not self._writes.durable

    def release(self, number: int) -> bool:
        handle = self._files.find(number)
        if handle is None or handle.inode.gone:
            return handle is None
        if self._writes is None or not (handle.writable or handle.truncates):
            return True
        staged = handle.inode.staged
        return staged is None or (staged.to_be_sent and not self._writes.durable)
