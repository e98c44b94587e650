"""Every failure has its errno, decided on purpose: a new exception class fails here until it has one."""

from __future__ import annotations

import errno
import importlib
import logging
import pkgutil
from collections.abc import Iterator

import pytest

import synofs
from synofs import remote
from synofs.content.errors import ContentError
from synofs.fs import errors as fs
from synofs.fuse.errno_table import ERRNO_TABLE, UNFORESEEN, verdict

DECIDED = {
    "fs.AccessDenied": errno.EACCES,
    "fs.BadHandle": errno.EBADF,
    "fs.DeadlineExceeded": errno.ETIMEDOUT,
    "fs.DirectoryNotEmpty": errno.ENOTEMPTY,
    "fs.EntryExists": errno.EEXIST,
    "fs.FilesystemError": errno.EIO,
    "fs.InvalidArgument": errno.EINVAL,
    "fs.IsADirectory": errno.EISDIR,
    "fs.NoEntry": errno.ENOENT,
    "fs.NotADirectory": errno.ENOTDIR,
    "fs.NotSupported": errno.EPERM,
    "fs.ReadOnlyFilesystem": errno.EROFS,
    "fs.StaleInode": errno.ESTALE,
    "fs.Unanswered": errno.ETIMEDOUT,
    "fs.VersionNotShown": errno.EBUSY,
    "remote.AccountDisabled": errno.EACCES,
    "remote.AddressBlocked": errno.EACCES,
    "remote.Away": errno.EHOSTUNREACH,
    "remote.BadAnswer": errno.EIO,
    "remote.BeginningLost": errno.EIO,
    "remote.CertificateRefused": errno.EACCES,
    "remote.Changed": errno.ESTALE,
    "remote.Exists": errno.EEXIST,
    "remote.FileTooBig": errno.EFBIG,
    "remote.InputOutput": errno.EIO,
    "remote.InvalidName": errno.EINVAL,
    "remote.InvalidRequest": errno.EINVAL,
    "remote.IsADirectory": errno.EISDIR,
    "remote.NameTooLong": errno.ENAMETOOLONG,
    "remote.NoSpace": errno.ENOSPC,
    "remote.NotADirectory": errno.ENOTDIR,
    "remote.NotANas": errno.EIO,
    "remote.NotEmpty": errno.ENOTEMPTY,
    "remote.NotFound": errno.ENOENT,
    "remote.OtpNeeded": errno.EACCES,
    "remote.OtpSetupNeeded": errno.EACCES,
    "remote.Overloaded": errno.EBUSY,
    "remote.PasswordExpired": errno.EACCES,
    "remote.PermissionDenied": errno.EACCES,
    "remote.QuotaExceeded": errno.EDQUOT,
    "remote.ReadOnlyStore": errno.EROFS,
    "remote.RemoteError": errno.EIO,
    "remote.ShortBody": errno.EIO,
    "remote.SignInNotAllowed": errno.EACCES,
    "remote.SignInRefused": errno.EACCES,
    "remote.TimedOut": errno.ETIMEDOUT,
    "remote.Unavailable": errno.EIO,
    "remote.Unreachable": errno.EHOSTUNREACH,
    "remote.Unsupported": errno.EOPNOTSUPP,
    "remote.WrongOtp": errno.EACCES,
    "remote.WrongPassword": errno.EACCES,
}

ROOTS = {"fs": fs.FilesystemError, "remote": remote.RemoteError}


def with_subclasses(cls: type[Exception]) -> Iterator[type[Exception]]:
    yield cls
    for subclass in cls.__subclasses__():
        yield from with_subclasses(subclass)


def all_failures() -> dict[str, type[Exception]]:
    """By name, wherever in the package they are defined. Left out: what tests define, and private classes, which
    count as what they are a kind of."""
    for module in pkgutil.walk_packages(synofs.__path__, "synofs."):
        if not module.name.startswith("synofs.simnas") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return {
        f"{family}.{cls.__name__}": cls
        for family, root in ROOTS.items()
        for cls in with_subclasses(root)
        if cls.__module__.startswith("synofs.") and not cls.__name__.startswith("_")
    }


def test_every_failure_that_the_program_knows_has_its_errno() -> None:
    failures = all_failures()
    assert sorted(failures) == sorted(DECIDED)
    assert {name: verdict(cls("text")).errno for name, cls in failures.items()} == DECIDED


def test_the_local_cache_folder_has_no_errno_but_full_and_broken() -> None:
    verdicts = {cls.__name__: verdict(cls("text")) for cls in with_subclasses(ContentError)}
    assert {name for name, decided in verdicts.items() if decided.errno == errno.ENOSPC} == {"LocalDiskFull"}
    assert {decided.errno for decided in verdicts.values()} == {errno.ENOSPC, errno.EIO}
    assert UNFORESEEN not in verdicts.values()


def test_a_failure_counts_as_what_it_is_a_kind_of() -> None:
    class MovedAway(remote.NotFound):
        pass

    assert verdict(MovedAway("text")).errno == errno.ENOENT


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), RuntimeError(), AssertionError(), Exception()])
def test_what_nobody_foresaw_is_eio_and_an_error_in_the_log(error: Exception) -> None:
    assert verdict(error) == UNFORESEEN == (errno.EIO, logging.ERROR)


def test_what_the_local_disk_says_is_passed_on() -> None:
    assert verdict(OSError(errno.ENOSPC, "no space")).errno == errno.ENOSPC
    assert verdict(OSError("without a number")) == UNFORESEEN


def test_answers_that_programs_expect_are_quiet_and_trouble_is_told() -> None:
    quiet = {cls.__name__ for cls, decided in ERRNO_TABLE.items() if decided.log_level < logging.WARNING}
    assert {"NoEntry", "NotFound", "AccessDenied", "ReadOnlyFilesystem", "NotSupported"} <= quiet
    for trouble in ("Unreachable", "TimedOut", "ShortBody", "Changed", "DeadlineExceeded", "SignInRefused"):
        assert trouble not in quiet
    assert all(decided.log_level <= logging.WARNING for decided in ERRNO_TABLE.values())
