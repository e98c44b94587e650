"""Which APIs a box advertises, where and in which versions (SYNO.API.Info), per major DSM version.

The FileStation part is what public dumps of real boxes show. The rest of the map of a real box (590 to 820
APIs, depending on packages) is stood for by the APIs that clients look for first.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ApiEntry:
    """One API of the map."""

    path: str
    min_version: int
    max_version: int
    takes_json: bool

    def as_json(self) -> dict[str, object]:
        entry: dict[str, object] = {
            "maxVersion": self.max_version,
            "minVersion": self.min_version,
            "path": self.path,
        }
        if self.takes_json:
            entry["requestFormat"] = "JSON"
        return entry


_FILE_STATION = {
    "BackgroundTask": (1, 3),
    "CheckExist": (1, 2),
    "CheckPermission": (1, 3),
    "Compress": (1, 3),
    "CopyMove": (1, 3),
    "CreateFolder": (1, 2),
    "Delete": (1, 2),
    "DirSize": (1, 2),
    "Download": (1, 2),
    "External.GoogleDrive": (1, 2),
    "Extract": (1, 2),
    "Favorite": (1, 2),
    "FormUpload": (2, 2),
    "Info": (1, 2),
    "List": (1, 2),
    "MD5": (1, 2),
    "Mount": (1, 1),
    "Mount.List": (1, 1),
    "Notify": (1, 1),
    "Property": (1, 1),
    "Property.ACLOwner": (1, 1),
    "Property.CompressSize": (1, 1),
    "Property.Mtime": (1, 1),
    "Rename": (1, 2),
    "Search": (1, 2),
    "Search.History": (1, 1),
    "Settings": (1, 1),
    "Sharing": (1, 3),
    "Sharing.Download": (1, 1),
    "Snapshot": (1, 2),
    "Thumb": (1, 2),
    "Timeout": (1, 1),
    "UIString": (1, 1),
    "Upload": (2, 3),
    "UserGrp": (1, 1),
    "VFS.Connection": (1, 1),
    "VFS.File": (1, 1),
    "VFS.GDrive": (1, 1),
    "VFS.Profile": (1, 1),
    "VFS.Protocol": (1, 1),
    "VFS.User": (1, 1),
    "VirtualFolder": (1, 2),
}

_FILE_STATION_DSM7 = {"PhotoUpload": (2, 3), "Thumb": (1, 3), "Worm": (1, 2), "Worm.Lock": (1, 2)}

_OTHERS = {
    "SYNO.Core.ACL": (1, 2),
    "SYNO.Core.Desktop.Initdata": (1, 1),
    "SYNO.Core.Security.DSM": (1, 4),
    "SYNO.Core.Share": (1, 1),
    "SYNO.Core.System": (1, 3),
    "SYNO.Core.System.Utilization": (1, 1),
    "SYNO.Core.TrustDevice": (1, 1),
    "SYNO.DSM.Info": (1, 2),
    "SYNO.DSM.Network": (1, 2),
    "SYNO.Entry.Request": (1, 2),
    "SYNO.Storage.CGI.Storage": (1, 1),
}


def api_map(dsm: int) -> dict[str, ApiEntry]:
    """The map of a DSM 6 or DSM 7 box."""
    files = _FILE_STATION | (_FILE_STATION_DSM7 if dsm >= 7 else {})
    entries = {
        "SYNO.API.Auth": ApiEntry("entry.cgi" if dsm >= 7 else "auth.cgi", 1, 7 if dsm >= 7 else 6, False),
        "SYNO.API.Encryption": ApiEntry("entry.cgi" if dsm >= 7 else "encryption.cgi", 1, 1, False),
        "SYNO.API.Info": ApiEntry("entry.cgi" if dsm >= 7 else "query.cgi", 1, 1, False),
    }
    for name, (low, high) in files.items():
        entries[f"SYNO.FileStation.{name}"] = ApiEntry("entry.cgi", low, high, True)
    for name, (low, high) in _OTHERS.items():
        entries[name] = ApiEntry("entry.cgi", low, high, True)
    if dsm < 7:
        entries["SYNO.Core.ACL"] = ApiEntry("entry.cgi", 1, 1, True)
    return dict(sorted(entries.items()))


def served_at(api: str, entry: ApiEntry, path: str) -> bool:
    """Whether a CGI path answers for an API.

    DSM 7 moved Auth and Info to entry.cgi and keeps the old paths alive; UI code also appends the API's name.
    """
    if path == entry.path or path == f"{entry.path}/{api}":
        return True
    return (api, path) in (("SYNO.API.Auth", "auth.cgi"), ("SYNO.API.Info", "query.cgi"))
