"""Failures that arise in the filesystem itself. The far side's failures are `synofs.remote.RemoteError`."""

from __future__ import annotations


class FilesystemError(Exception):
    """Base: a verb that cannot be done, told in terms of files. The kernel border turns the type into an errno."""


class NoEntry(FilesystemError):
    """There is no such name."""


class EntryExists(FilesystemError):
    """The name is taken."""


class NotADirectory(FilesystemError):
    """A folder is needed, and this is none."""


class IsADirectory(FilesystemError):
    """A file is needed, and this is a folder."""


class AccessDenied(FilesystemError):
    """The account has no right to do that on the NAS."""


class ReadOnlyFilesystem(FilesystemError):
    """The mount is read-only."""


class StaleInode(FilesystemError):
    """The kernel speaks of an inode or a version of a file that is no more."""


class VersionNotShown(FilesystemError):
    """A name stands for a version that nobody here was shown, so it is not replaced."""


class BadHandle(FilesystemError):
    """The kernel speaks of a handle that is not open."""


class NotSupported(FilesystemError):
    """File Station has no such thing (links, device nodes)."""


class InvalidArgument(FilesystemError):
    """Flags or values that mean nothing here."""


class DeadlineExceeded(FilesystemError):
    """The NAS did not answer in time; it may still do so later."""


class Unanswered(FilesystemError):
    """The NAS did not answer this a moment ago, and that was told; it is not asked again at once."""


class DirectoryNotEmpty(FilesystemError):
    """A folder that still has entries cannot be removed or replaced."""
