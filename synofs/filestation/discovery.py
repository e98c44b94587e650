"""What a NAS can do: the path and the versions of each API, as the NAS itself tells."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from synofs.filestation.calls import ApiCall
from synofs.remote import NotANas, Unsupported

# A NAS advertises 600 to 800 APIs; these are the ones that are used here.
APIS = (
    "SYNO.API.Auth",
    "SYNO.Core.TrustDevice",
    "SYNO.Entry.Request",
    *(
        f"SYNO.FileStation.{name}"
        for name in (
            "BackgroundTask", "CheckPermission", "Compress", "CopyMove", "CreateFolder", "Delete", "DirSize",
            "Download", "Extract", "Favorite", "Info", "List", "MD5", "Rename", "Search", "Sharing", "Thumb",
            "Upload", "VirtualFolder",
        )
    ),
)  # fmt: skip

# Where the question for the APIs is answered: the first on every DSM, the second on DSM 7.
INFO_PATHS = ("query.cgi", "entry.cgi")

_SAFE_PATH = re.compile(r"[A-Za-z0-9_-]+(?:[./][A-Za-z0-9_-]+)*")


MAX_PATH_LENGTH = 200  # DSM 5 has one of 66


class ApiInfo(msgspec.Struct, frozen=True, rename="camel"):
    """Where an API is answered, and in which versions."""

    path: str
    min_version: int = 1
    max_version: int = 1


class Apis:
    """The NAS's own map."""

    def __init__(self, known: Mapping[str, ApiInfo]) -> None:
        if "SYNO.API.Auth" not in known:
            raise NotANas("the host answers, but it is no Synology NAS")
        if "SYNO.FileStation.List" not in known:
            raise NotANas("the NAS answers, but its File Station is not there or switched off")
        if known["SYNO.FileStation.List"].max_version < 2:
            raise NotANas("the NAS runs a DSM older than 6, whose File Station cannot be used")
        for info in known.values():
            if len(info.path) > MAX_PATH_LENGTH or not _SAFE_PATH.fullmatch(info.path):
                raise NotANas("the host names an impossible path for one of its APIs")
        self._known = known

    def __contains__(self, api: str) -> bool:
        return api in self._known

    def path(self, api: str) -> str:
        return self._info(api).path

    def version(self, api: str, newest: int) -> int:
        """The newest version that both sides know."""
        info = self._info(api)
        if newest < info.min_version:
            raise Unsupported(f"the NAS has {api} only in versions that are not known here")
        return min(newest, info.max_version)

    def version_of(self, call: ApiCall) -> int:
        return self.version(call.api, call.version)

    def _info(self, api: str) -> ApiInfo:
        try:
            return self._known[api]
        except KeyError:
            raise Unsupported(f"the NAS does not have {api}") from None
