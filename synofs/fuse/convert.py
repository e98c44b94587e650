"""Between the filesystem's values and pyfuse3's structures."""

from __future__ import annotations

import stat

import pyfuse3
import trio

from synofs.fs.filesystem import Filesystem
from synofs.fs.inodes import Inode
from synofs.remote import Space

# Programs size their buffers by this. A megabyte would make stdio and Python read a megabyte for each seek.
_PREFERRED_IO_BYTES = 4096
_STATFS_BLOCK_BYTES = 4096
# Never 0: the kernel would ask again for each use. What just expired is asked for in a moment anyway.
_LEAST_VALID_SECONDS = 0.1


def kernel_entry(fs: Filesystem, inode: Inode) -> pyfuse3.EntryAttributes:
    """The reply object of an inode. Kept on the inode and reused until an attribute changes: building it anew for
    each entry of a listing costs nine times as much as the whole reply."""
    entry = inode.kernel_entry
    if not isinstance(entry, pyfuse3.EntryAttributes):
        entry = new_entry(fs, inode)
    entry.entry_timeout, entry.attr_timeout = valid_seconds(fs, inode)
    return entry


def valid_seconds(fs: Filesystem, inode: Inode) -> tuple[float, float]:
    """How long the kernel may believe the name, and the attributes. It depends on `checked_at` alone, but for the
    root."""
    return (
        max(_LEAST_VALID_SECONDS, fs.name_valid_seconds(inode)),
        max(_LEAST_VALID_SECONDS, fs.valid_seconds(inode)),
    )


def missing_entry(valid_seconds: float) -> pyfuse3.EntryAttributes:
    """A reply that makes the kernel remember that there is no such name."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = 0
    entry.entry_timeout = entry.attr_timeout = valid_seconds
    return entry


def new_entry(fs: Filesystem, inode: Inode) -> pyfuse3.EntryAttributes:
    """The reply object of the present attributes, kept on the inode; without times."""
    inode.be_shown(trio.current_time())
    entry = inode.kernel_entry = pyfuse3.EntryAttributes()
    entry.st_ino = inode.number
    entry.st_mode = (stat.S_IFDIR if inode.is_dir else stat.S_IFREG) | fs.mode(inode)
    # 1 for folders too: find(1) reads 2 as "no subfolders in here". 0 for what was unlinked and is still open.
    entry.st_nlink = 0 if inode.gone else 1
    entry.st_uid = fs.options.uid
    entry.st_gid = fs.options.gid
    entry.st_size = inode.size
    entry.st_blksize = _PREFERRED_IO_BYTES
    entry.st_blocks = (inode.size + 511) // 512
    entry.st_atime_ns = inode.atime_ns
    entry.st_mtime_ns = inode.mtime_ns if inode.shown_mtime_ns is None else inode.shown_mtime_ns
    entry.st_ctime_ns = inode.ctime_ns
    return entry


def statvfs(space: Space) -> pyfuse3.StatvfsData:
    data = pyfuse3.StatvfsData()
    data.f_bsize = data.f_frsize = _STATFS_BLOCK_BYTES
    data.f_blocks = space.total_bytes // _STATFS_BLOCK_BYTES
    data.f_bfree = data.f_bavail = space.free_bytes // _STATFS_BLOCK_BYTES
    data.f_namemax = 255
    return data
