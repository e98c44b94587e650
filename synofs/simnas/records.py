"""The records of shares, files and folders: exactly the keys and types that real replies have.

Clients build their values straight from `perm`, `owner`, `time` and `volume_status`, so a key more or less
breaks them.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterable
from functools import lru_cache
from grp import getgrgid
from typing import Any

from .options import AccountOptions
from .sessions import Session
from .shares import Location, Rights, Share


class Records:
    """Builds records. `accounts` give names to their numeric ids; other ids are named as on this machine."""

    def __init__(self, accounts: Iterable[AccountOptions]) -> None:
        self._users = {account.uid: account.name for account in accounts}
        self._groups = {100: "users", 101: "administrators"}

    def file(
        self,
        location: Location,
        found: os.stat_result,
        rights: Rights,
        additional: frozenset[str],
    ) -> dict[str, Any]:
        """A record of List, getinfo and everything that returns such records."""
        is_dir = stat.S_ISDIR(found.st_mode)
        record: dict[str, Any] = {"isdir": is_dir, "name": location.name, "path": location.path}
        if not additional:
            return record
        more: dict[str, Any] = {}
        if "mount_point_type" in additional:
            more["mount_point_type"] = ""
        if "owner" in additional:
            more["owner"] = self._owner(found)
        if "perm" in additional:
            more["perm"] = _permissions(rights, found.st_mode & 0o777)
        if "real_path" in additional:
            more["real_path"] = location.volume_path
        if "size" in additional:
            more["size"] = found.st_size
        if "time" in additional:
            more["time"] = _times(found)
        if "type" in additional:
            more["type"] = "" if is_dir else os.path.splitext(location.name)[1][1:].upper()
        if more:
            record["additional"] = more
        return record

    def share(
        self,
        share: Share,
        session: Session,
        volume_status: dict[str, Any],
        additional: frozenset[str],
    ) -> dict[str, Any]:
        """A record of list_share."""
        found = os.stat(share.root)
        record: dict[str, Any] = {"isdir": True, "name": share.name, "path": f"/{share.name}"}
        more: dict[str, Any] = {}
        if "mount_point_type" in additional:
            more["mount_point_type"] = ""
        if "owner" in additional:
            more["owner"] = self._owner(found)
        if "perm" in additional:
            # A share itself can be neither renamed nor deleted here; DSM's records say del: true all the same.
            rights = share.rights(session, found.st_mode, stat.S_IWUSR)
            more["perm"] = {
                "acl": rights.as_json(),
                "acl_enable": True,
                "adv_right": {"disable_download": False, "disable_list": False, "disable_modify": False},
                "is_acl_mode": True,
                "is_share_readonly": False,
                "posix": _posix(found.st_mode & 0o777),
                "share_right": share.right,
            }
        if "real_path" in additional:
            more["real_path"] = share.location.volume_path
        if "size" in additional:
            more["size"] = found.st_size
        if "sync_share" in additional:
            more["sync_share"] = False
        if "time" in additional:
            more["time"] = _times(found)
        if "volume_status" in additional:
            more["volume_status"] = volume_status
        if more:
            record["additional"] = more
        return record

    def user_name(self, uid: int) -> str:
        return self._users.get(uid) or _local_user(uid)

    def group_name(self, gid: int) -> str:
        return self._groups.get(gid) or _local_group(gid)

    def _owner(self, found: os.stat_result) -> dict[str, Any]:
        return {
            "gid": found.st_gid,
            "group": self.group_name(found.st_gid),
            "uid": found.st_uid,
            "user": self.user_name(found.st_uid),
        }


@lru_cache(maxsize=1024)
def _permissions(rights: Rights, mode: int) -> dict[str, Any]:
    """`perm` of a file or folder. The value is shared: do not change it."""
    return {"acl": rights.as_json(), "is_acl_mode": True, "posix": _posix(mode)}


def _posix(mode: int) -> int:
    """The mode as DSM shows it: decimal digits that read as octal."""
    return int(format(mode, "o"))


def _times(found: os.stat_result) -> dict[str, int]:
    """Times in whole seconds. For the creation time, which the disk does not tell, stands the earliest one."""
    ctime, mtime = int(found.st_ctime), int(found.st_mtime)
    return {"atime": int(found.st_atime), "crtime": ctime if ctime < mtime else mtime, "ctime": ctime, "mtime": mtime}


@lru_cache(maxsize=1024)
def _local_user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@lru_cache(maxsize=1024)
def _local_group(gid: int) -> str:
    try:
        return getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
