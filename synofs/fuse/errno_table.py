"""What each failure is called in the kernel's language, and how loudly it is logged. The only place for errnos.

The most specific class of an exception that stands in the table decides. A test walks all subclasses, so a failure
without a decision does not get in.
"""

from __future__ import annotations

import errno
import logging
from typing import NamedTuple

from synofs import remote
from synofs.content import errors as content
from synofs.fs import errors as fs


class Verdict(NamedTuple):
    errno: int
    log_level: int


_QUIET = logging.DEBUG  # an answer that programs ask for and expect
_TELL = logging.WARNING  # somebody should know why their program failed

ERRNO_TABLE: dict[type[Exception], Verdict] = {
    fs.NoEntry: Verdict(errno.ENOENT, _QUIET),
    fs.EntryExists: Verdict(errno.EEXIST, _QUIET),
    fs.NotADirectory: Verdict(errno.ENOTDIR, _QUIET),
    fs.IsADirectory: Verdict(errno.EISDIR, _QUIET),
    fs.DirectoryNotEmpty: Verdict(errno.ENOTEMPTY, _QUIET),
    fs.AccessDenied: Verdict(errno.EACCES, _QUIET),
    fs.ReadOnlyFilesystem: Verdict(errno.EROFS, _QUIET),
    fs.StaleInode: Verdict(errno.ESTALE, _QUIET),
    # Not ESTALE: Linux would look at the name again and repeat the rename by itself.
    fs.VersionNotShown: Verdict(errno.EBUSY, _TELL),
    fs.BadHandle: Verdict(errno.EBADF, _TELL),
    # EPERM is what link(2), symlink(2) and mknod(2) document for a filesystem without such things.
    fs.NotSupported: Verdict(errno.EPERM, _QUIET),
    fs.InvalidArgument: Verdict(errno.EINVAL, _QUIET),
    fs.DeadlineExceeded: Verdict(errno.ETIMEDOUT, _TELL),
    fs.Unanswered: Verdict(errno.ETIMEDOUT, _QUIET),
    fs.FilesystemError: Verdict(errno.EIO, _TELL),
    content.LocalDiskFull: Verdict(errno.ENOSPC, _TELL),
    content.ContentError: Verdict(errno.EIO, _TELL),
    remote.NotFound: Verdict(errno.ENOENT, _QUIET),
    remote.Exists: Verdict(errno.EEXIST, _QUIET),
    remote.NotADirectory: Verdict(errno.ENOTDIR, _QUIET),
    remote.IsADirectory: Verdict(errno.EISDIR, _QUIET),
    remote.NotEmpty: Verdict(errno.ENOTEMPTY, _QUIET),
    remote.PermissionDenied: Verdict(errno.EACCES, _QUIET),
    remote.ReadOnlyStore: Verdict(errno.EROFS, _QUIET),
    remote.NameTooLong: Verdict(errno.ENAMETOOLONG, _QUIET),
    remote.InvalidName: Verdict(errno.EINVAL, _QUIET),
    remote.InvalidRequest: Verdict(errno.EINVAL, _TELL),
    remote.QuotaExceeded: Verdict(errno.EDQUOT, _TELL),
    remote.NoSpace: Verdict(errno.ENOSPC, _TELL),
    remote.FileTooBig: Verdict(errno.EFBIG, _TELL),
    remote.Unsupported: Verdict(errno.EOPNOTSUPP, _TELL),
    remote.InputOutput: Verdict(errno.EIO, _TELL),
    # The version that a handle pinned is no more: what NFS clients call a stale file handle.
    remote.Changed: Verdict(errno.ESTALE, _TELL),
    # Shells print "No route to host" and "Connection timed out", which is what happened.
    remote.Unavailable: Verdict(errno.EIO, _TELL),
    remote.Unreachable: Verdict(errno.EHOSTUNREACH, _TELL),
    remote.Away: Verdict(errno.EHOSTUNREACH, _QUIET),  # one line in the log tells of it, not one for each call
    remote.TimedOut: Verdict(errno.ETIMEDOUT, _TELL),
    remote.Overloaded: Verdict(errno.EBUSY, _TELL),
    remote.ShortBody: Verdict(errno.EIO, _TELL),
    remote.BeginningLost: Verdict(errno.EIO, _TELL),
    remote.BadAnswer: Verdict(errno.EIO, _TELL),
    remote.NotANas: Verdict(errno.EIO, _TELL),
    remote.CertificateRefused: Verdict(errno.EACCES, _TELL),
    remote.SignInRefused: Verdict(errno.EACCES, _TELL),
    remote.RemoteError: Verdict(errno.EIO, _TELL),
}

# The local disk's own words (ENOSPC, EROFS, EDQUOT of the cache folder) are passed on.
_LOCAL_DISK_LEVEL = _TELL

UNFORESEEN = Verdict(errno.EIO, logging.ERROR)


def verdict(error: BaseException) -> Verdict:
    """The decision for an exception; EIO and a logged traceback for one that nobody foresaw."""
    if isinstance(error, OSError) and error.errno is not None:
        return Verdict(error.errno, _LOCAL_DISK_LEVEL)
    for cls in type(error).__mro__:
        if cls in ERRNO_TABLE:
            return ERRNO_TABLE[cls]
    return UNFORESEEN
