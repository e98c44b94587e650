"""Shared folders: from a path as DSM names it to a place on disk, and what a session may do there.

Rights of the simulated session, where a real NAS has ACLs:

- An admin may do everything, in shares that are not read-only for accounts (`:ro`, `:acl-ro`).
- Any other account has the rights of the *owner bits* of the mode on disk, whoever the owner is, within the same
  limits. Group and other bits, and the user that runs this process, play no part: it may run as root, to whom
  the disk refuses nothing. Deleting or renaming an entry needs the write bit of its folder.
- A share whose folder has no owner read bit, or that is marked `:admins`, is invisible to them.
- Only an entry and its folder are looked at, not every folder above.
- What the disk itself refuses (EACCES, EROFS, ENOSPC, ...) is refused as well.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple

from .options import ShareOptions
from .quirks import Quirks
from .sessions import Session
from .wire import ApiError

RECYCLE_BIN = "#recycle"

# Files in the making, beside the place they will get. Never shown, as DSM's own spool folders are not.
SPOOL_PREFIX = ".simnas-spool-"

_CODE_OF_ERRNO = {
    errno.ENOENT: 408,
    errno.ENOTDIR: 408,
    errno.EACCES: 407,
    errno.EPERM: 407,
    errno.EROFS: 411,
    errno.ENAMETOOLONG: 412,
    errno.EEXIST: 414,
    errno.ENOTEMPTY: 414,
    errno.EDQUOT: 415,
    errno.ENOSPC: 416,
    errno.EIO: 417,
    errno.EBUSY: 421,
    errno.ELOOP: 408,
}


def spool_name(folder: str, unique: str) -> str:
    """The path of a file in the making. It names this process, so that the next one can clean up behind it."""
    return f"{folder}/{SPOOL_PREFIX}{os.getpid()}-{unique}"


def remove_stale_spool(path: str) -> None:
    """Removes a file in the making whose process is gone."""
    owner = os.path.basename(path).removeprefix(SPOOL_PREFIX).partition("-")[0]
    if owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
        with suppress(OSError):
            os.unlink(path)


class Rights(NamedTuple):
    """Effective rights of a session on an entry, as `perm.acl` shows them."""

    read: bool
    write: bool
    execute: bool
    delete: bool

    def as_json(self) -> dict[str, bool]:
        return {
            "append": self.write,
            "del": self.delete,
            "exec": self.execute,
            "read": self.read,
            "write": self.write,
        }


@dataclass(frozen=True)
class Location:
    """An entry: its share, its path as DSM names it, and its place on disk (which need not exist)."""

    share: Share
    path: str
    real: str

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def is_share(self) -> bool:
        return self.path.count("/") == 1

    @property
    def parent_real(self) -> str:
        return os.path.dirname(self.real)

    @property
    def volume_path(self) -> str:
        """The `real_path` that DSM shows."""
        return f"/volume1{self.path}"

    def child(self, name: str) -> Location:
        return Location(self.share, f"{self.path}/{name}", f"{self.real}/{name}")


class Share:
    """One shared folder."""

    def __init__(self, options: ShareOptions) -> None:
        self.name = options.name
        self.root = options.directory
        self.encrypted = "encrypted" in options.flags
        self.fat = "fat" in options.flags
        self.writable = not {"ro", "acl-ro"} & set(options.flags)
        self._flags = options.flags

    @property
    def right(self) -> str:
        """`share_right` of the accounts that see the share."""
        return "RO" if "ro" in self._flags else "RW"

    @property
    def location(self) -> Location:
        return Location(self, f"/{self.name}", self.root)

    @property
    def present(self) -> bool:
        """Not so while its volume is away."""
        return os.path.isdir(self.root)

    def visible_to(self, session: Session) -> bool:
        if not self.present:
            return False
        if session.account.admin:
            return True
        return "admins" not in self._flags and bool(os.stat(self.root).st_mode & stat.S_IRUSR)

    def contains(self, resolved: str) -> bool:
        """Whether a path without symbolic links is inside the share."""
        return resolved == self.root or resolved.startswith(self.root.rstrip("/") + "/")

    def rights(self, session: Session, mode: int, parent_mode: int) -> Rights:
        """Rights on an entry of a mode, in a folder of a mode (see the head of this module)."""
        if session.account.admin:
            return Rights(True, self.writable, True, self.writable)
        return Rights(
            read=bool(mode & stat.S_IRUSR),
            write=self.writable and bool(mode & stat.S_IWUSR),
            execute=bool(mode & stat.S_IXUSR),
            delete=self.writable and bool(parent_mode & stat.S_IWUSR),
        )


class Shares:
    """The shared folders of the NAS."""

    def __init__(self, options: Iterable[ShareOptions], quirks: Quirks, *, recycle_bin: bool) -> None:
        self._by_name = {o.name: Share(o) for o in options}
        self._quirks = quirks
        self._recycle_bin = recycle_bin
        if recycle_bin:
            for share in self._by_name.values():
                if share.writable:
                    os.makedirs(f"{share.root}/{RECYCLE_BIN}", exist_ok=True)

    def __iter__(self) -> Iterator[Share]:
        return iter(self._by_name.values())

    def visible_to(self, session: Session) -> list[Share]:
        return [share for share in self if share.visible_to(session)]

    def locate(self, path: str, session: Session, *, follow: bool = True) -> Location:
        """The place of a path, which may not exist; the code that refuses it otherwise.

        `/` is 401 (list_share lists it), a trailing slash and `..` are 418, an unknown share and a path of the
        volume (`/volume1/...`) are 408. A symbolic link that leaves the share is 408. Without `follow` the last
        component may be a link and is meant itself.
        """
        if path == "/":
            raise ApiError(401)
        first, *parts = path.split("/")
        if first or not parts or "\0" in path or any(part in ("", ".", "..") for part in parts):
            raise ApiError(418)
        share = self._by_name.get(parts[0])
        if share is None or not share.present:
            raise ApiError(408)
        if not share.visible_to(session):
            raise ApiError(407)
        if len(parts) == 1:
            return share.location
        if parts[1] == RECYCLE_BIN:
            self._check_recycle_bin(session)
        if parts[-1].startswith(SPOOL_PREFIX):
            raise ApiError(408)
        for part in parts[1:]:
            check_length(share, part)
        real = f"{share.root}/{'/'.join(parts[1:])}"
        try:
            resolved = os.path.realpath(real if follow else os.path.dirname(real))
        except OSError as error:
            raise refusal(error) from error
        if not share.contains(resolved):
            raise ApiError(408)
        return Location(share, path, real)

    def _check_recycle_bin(self, session: Session) -> None:
        if not self._recycle_bin:
            raise ApiError(408)
        if self._quirks.recycle_access == "admins" and not session.account.admin:
            raise ApiError(407)


def check_length(share: Share, name: str) -> None:
    """Names have 255 bytes at most, in encrypted shares 143."""
    length = len(os.fsencode(name))
    if share.encrypted and length > 143:
        raise ApiError(413)
    if length > 255:
        raise ApiError(412)


def refusal(error: OSError) -> ApiError:
    """The file code for what the disk refused (401, unknown file error, if it has none)."""
    return ApiError(_CODE_OF_ERRNO.get(error.errno or 0, 401))


@contextmanager
def disk_refusals() -> Iterator[None]:
    """Turns an OSError of the block into its file code."""
    try:
        yield
    except OSError as error:
        raise refusal(error) from error


def visible_stat(location: Location) -> os.stat_result | None:
    """What List shows of an entry: files and folders, through links that stay inside the share; else None."""
    try:
        found = os.lstat(location.real)
        if stat.S_ISLNK(found.st_mode):
            if not location.share.contains(os.path.realpath(location.real)):
                return None
            found = os.stat(location.real)
    except OSError:
        return None
    return found if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode) else None
