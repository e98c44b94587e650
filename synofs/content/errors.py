"""Failures of the local disk's side."""

from __future__ import annotations


class ContentError(Exception):
    """Base: the local cache folder cannot do what is asked."""


class CacheDirInUse(ContentError):
    """Another mount owns the cache folder."""


class CacheDirUnsafe(ContentError):
    """The cache folder belongs to somebody else, or is a link."""


class LocalDiskFull(ContentError):
    """The budget for unsent data is used up, or the local disk has reached its floor of free space."""


class JournalFailed(ContentError):
    """The journal cannot be read or written."""


class JournalTooNew(ContentError):
    """The journal was written by a newer version: this one must not touch it."""


class StagedFileDamaged(ContentError):
    """A staged file is shorter than what was acknowledged: the local disk lost data."""


class StagedFileClosed(ContentError):
    """The staged file is no more: the NAS has it, or nobody wants it. Look at the inode again."""
