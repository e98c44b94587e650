"""Answers as a NAS may give them if it is broken, or if somebody else sits in its place.

Each begins as the answer that the evidence has for the call, and is then spoiled: in a value, in its JSON, in its
bytes or in its head. All choices come from one `random.Random`, so that a seed stands for an input.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from synofs.filestation.transport import Head, Response

FILE_BYTES = 3000  # what most files have

NAMES = (
    "..", ".", "/", "../../etc/passwd", "/etc/passwd", "a/b", "a\0b", "", " ", "\n", "a\nWARNING forged",
    "\x1b[2J\x1b]0;x\x07",
    "\x7f", "\u202egnp.exe", "\ud800", "\udcff\udcfe", "\udfff", "x" * 255, "x" * 256, "x" * 4096, "ü" * 2000, "\ufeff",
    ".synofs-x", "CON", "a\\b", '"', "%2e%2e%2f", "..\\..", "...", "\\u0000", "\ue000", "👩‍👩‍👧",
    "~", "-rf", "#recycle",
)  # fmt: skip

NUMBERS = (
    0, -1, 1, 2**31, -(2**31), 2**32, 2**53, 2**63 - 1, 2**63, -(2**63), 2**64 - 1, 2**64, 10**30, -(10**30), 10**300,
    0.5, -0.5, 1e18, 1e19, 1e300, -1e300, 5e-324, 253402300800, -62135596801, 9223372036, 9223372037,
)  # fmt: skip

# Texts that a lenient decoder takes for numbers.
NUMERALS = (
    "0",
    "-1",
    "nan",
    "inf",
    "-inf",
    "Infinity",
    "1e999",
    "1e5",
    "9" * 400,
    "9" * 5000,
    "0x10",
    "1_000",
    " 7 ",
    "٣",
    "²",
    "",
)

CODES = (
    100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 114, 115, 117, 119, 120, 125, 150, 160, 400, 401, 402, 403,
    404, 405, 406, 407,
    408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418, 419, 420, 421, 599, 600, 800, 900, 1000, 1003, 1004, 1100,
    1101, 1200,
    1300, 1400, 1403, 1800, 1805, 2000, 0, -1, 99999, 2**40,
)  # fmt: skip

# Raw JSON, for what Python's encoder does not write.
BOMBS = (
    b"[" * 100_000, b'{"a":' * 50_000, b"[" * 900 + b"]" * 900, b'{"success":true,"data":' * 500 + b"{}" + b"}" * 500,
    b'{"success":true,"data":{"total":' + b"9" * 5000 + b"}}", b'{"success":true,"data":{"total":1e400}}',
    b'{"success":false,"error":{"code":' + b"9" * 4400 + b"}}", b'{"success":true,"success":false}',
    b'{"success":true,"data":NaN}', b'{"success":true,"data":{"files":[' + b"{}," * 5000 + b"{}]}}",
    b'{"success":false,"error":' + b"[" * 400 + b"]" * 400 + b"}", b"\xef\xbb\xbf" + b'{"success":true}',
    b'{"success":true,"data":{"files":[{"name":"\xff\xfe","isdir":true}],"total":1}}', b'{"success":tru', b"null",
    b"true", b'"x"',
    b"0", b"-", b"\0" * 64, b"\xff" * 64, b"", b"   ", b"{}", b"[]", b'{"success":"yes"}', b'{"success":1,"data":[]}',
    b"<!DOCTYPE html><html><body>Sign in to the hotel's network</body></html>", b"<?xml version='1.0'?><a/>",
    b'{"\\ud800":1,"success":true}', '{"success":true,"data":{"sid":"ü"}}'.encode("utf-16"),
)  # fmt: skip

TYPES = (
    "application/json",
    "text/html",
    "text/plain",
    "application/octet-stream",
    "image/jpeg",
    "application/zip",
    "",
    "\x1b[2J",
    "a" * 4000,
)
STATUSES = (
    100,
    103,
    199,
    201,
    204,
    206,
    300,
    301,
    302,
    304,
    307,
    308,
    400,
    401,
    403,
    404,
    413,
    416,
    418,
    429,
    500,
    501,
    502,
    503,
    504,
    599,
    600,
    999,
)

Maker = Callable[[random.Random, Mapping[str, Any]], Any]


def _name(rng: random.Random) -> str:
    return rng.choice(NAMES) if rng.random() < 0.1 else f"file {rng.randrange(50)}.jpg"


def _record(rng: random.Random, path: str | None = None) -> dict[str, Any]:
    name = path.rpartition("/")[2] if path else _name(rng)
    is_dir = rng.random() < (0.3 if path is None else 0.02 if "." in name else 0.98)
    return {
        "isdir": is_dir,
        "name": name,
        "path": path or f"/media/{name}",
        "additional": {
            "size": FILE_BYTES if rng.random() < 0.95 else rng.randrange(5000),
            "time": {"atime": 1700000000, "crtime": 1600000000, "ctime": 1700000000, "mtime": 1700000000},
            "perm": {"acl": {"append": True, "del": True, "exec": True, "read": True, "write": True}, "posix": 777},
            "volume_status": {"freespace": 10**12, "readonly": False, "totalspace": 4 * 10**12},
        },
    }


def _listing(rng: random.Random, asked: Mapping[str, Any]) -> Any:
    offset, limit = (value if isinstance(value := asked.get(key), int) else 0 for key in ("offset", "limit"))
    total = rng.choice((0, 1, 3, 20, 60))
    style = rng.random()
    count = max(0, min(limit or total, total - offset)) if style < 0.8 else rng.randrange(8)
    records = []
    for position in range(offset, offset + count):
        record = _record(rng)
        if style < 0.7:
            record["name"] = f"{position:09}"
        records.append(record)
    if style > 0.93:
        total = rng.choice((-5, 0, 2, 10**6, 2**62, 10**18))  # a lie
    return {"offset": offset, "total": total, rng.choice(("files", "files", "shares")): records}


def _endless(rng: random.Random, asked: Mapping[str, Any]) -> Any:
    """A page with something new, whatever was asked for."""
    offset = asked.get("offset") if isinstance(asked.get("offset"), int) else 0
    count = rng.choice((1, 2, 40))
    records = [{"isdir": True, "name": f"{offset + n:09}", "path": f"/m/{offset + n:09}"} for n in range(count)]
    return {"offset": offset, "total": rng.choice((10**18, 2**62, offset + 1000)), "files": records, "finished": True}


def _paths(asked: Mapping[str, Any]) -> list[str]:
    path = asked.get("path")
    found = path if isinstance(path, list) else [path]
    return [p for p in found if isinstance(p, str)]


_TO_BE_MADE = ("new", "new.zip", "copy", "other", "name", "file 1.jpg")  # half of the time they are not there


def _info(rng: random.Random, asked: Mapping[str, Any]) -> Any:
    records: list[Any] = []
    for path in _paths(asked):
        name = path.rpartition("/")[2]
        missing = rng.random() < (0.5 if name in _TO_BE_MADE or name.startswith(".synofs-") else 0.02)
        records.append(
            {"code": 408 if rng.random() < 0.8 else rng.choice(CODES), "path": path} if missing else _record(rng, path)
        )
    if rng.random() < 0.1:
        rng.shuffle(records)
    return {"files": records}


def _status(rng: random.Random, asked: Mapping[str, Any]) -> Any:
    return {
        "finished": rng.random() < 0.5,
        "progress": rng.random(),
        "processed_size": rng.randrange(10**6),
        "total": rng.choice((-1, 10**6)),
        "md5": "0123456789abcdef" * 2,
        "num_dir": 3,
        "num_file": 4,
        "total_size": 10**6,
        "path": "/media",
        "processing_path": _name(rng),
        **rng.choice(
            ({}, {}, {"status": "FAIL", "errors": [{"code": 408}]}, {"error": {"code": 599}}, {"errors": "x"})
        ),
    }


def _finds(rng: random.Random, asked: Mapping[str, Any]) -> Any:
    page = _listing(rng, asked)
    page["files"] = page.pop("shares", page.get("files"))
    return page | {"finished": rng.random() < 0.6}


def _link(rng: random.Random, asked: Mapping[str, Any]) -> Any:
    return {
        "id": "abc",
        "path": "/media/x",
        "url": "https://nas/sharing/abc",
        "name": _name(rng),
        "has_password": rng.random() < 0.9,
        "date_expired": "2030-01-01",
    }


def _items(rng: random.Random, asked: Mapping[str, Any]) -> Any:
    items = []
    for _ in range(rng.randrange(4)):
        item = rng.randrange(100) if rng.random() < 0.3 else rng.randrange(10**9)
        items.append(
            {"item_id": item, "name": _name(rng), "is_dir": rng.random() < 0.3, "size": 3, "pack_size": 2, "mtime": "x"}
        )
    return {"items": items, "total": len(items)}


def _signed_in(rng: random.Random, asked: Mapping[str, Any]) -> Any:
    return {
        "sid": f"sid{rng.randrange(10**9)}",
        "synotoken": "token",
        "device_id": "device" * 14,
        "is_portal_port": False,
    }


_FILE_STATION = (
    "BackgroundTask", "CheckPermission", "Compress", "CopyMove", "CreateFolder", "Delete", "DirSize", "Download",
    "Extract",
    "Favorite", "Info", "List", "MD5", "Rename", "Search", "Sharing", "Thumb", "Upload", "VirtualFolder",
)  # fmt: skip


def _apis(rng: random.Random, asked: Mapping[str, Any]) -> Any:
    known = {
        f"SYNO.FileStation.{name}": {"path": "entry.cgi", "minVersion": 1, "maxVersion": 3} for name in _FILE_STATION
    }
    known["SYNO.Entry.Request"] = {"path": "entry.cgi", "minVersion": 1, "maxVersion": 2}
    return {"SYNO.API.Auth": {"path": "entry.cgi", "minVersion": 1, "maxVersion": rng.choice((3, 6, 7, 7))}, **known}


def _made(rng: random.Random, asked: Mapping[str, Any]) -> Any:
    names, parents = asked.get("name"), asked.get("folder_path") or asked.get("path")
    name = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else "x"
    parent = parents[0] if isinstance(parents, list) and parents and isinstance(parents[0], str) else "/media"
    return {rng.choice(("files", "folders")): [_record(rng, f"{parent}/{name}")]}


def _made_links(rng: random.Random, asked: Mapping[str, Any]) -> Any:
    return {"links": [_link(rng, asked) | {"error": rng.choice((0, 0, 0, 407))}]}


def _uploaded(rng: random.Random, asked: Mapping[str, Any]) -> Any:
    return {"blSkip": rng.random() < 0.1, "file": "x", "progress": 1, "tmpfile": "slice.1"}


def _together(rng: random.Random, asked: Mapping[str, Any]) -> Any:
    """The answers to several calls that came as one."""
    parts = asked.get("compound")
    results: list[Any] = []
    for part in parts if isinstance(parts, list) else []:
        name = f"{part['api'].removeprefix('SYNO.')}.{part['method']}"
        own = {"api": part["api"], "method": part["method"], "version": part["version"]}
        dice = rng.random()
        if dice < 0.05:
            results.append(own | {"success": False, "error": error(rng)})
        elif dice < 0.97:
            results.append(own | {"success": True, "data": good(rng, name, part)})
        elif dice < 0.99:
            results.append(hostile_value(rng))
    return {"has_fail": rng.random() < 0.5, "result": results}


def _background(rng: random.Random, asked: Mapping[str, Any]) -> Any:
    task = {"taskid": "t", "api": "SYNO.FileStation.CopyMove", "crtime": 1700000000, "progress": 0.5}
    return {"tasks": [task | {"path": _name(rng)}], "total": 1}


_MAKERS: dict[str, Maker] = {
    "API.Info.query": _apis,
    "API.Auth.login": _signed_in,
    "Entry.Request.request": _together,
    "API.Auth.token": lambda rng, asked: {"synotoken": "newtoken"},
    "FileStation.List.list": _listing,
    "FileStation.List.list_share": _listing,
    "FileStation.List.getinfo": _info,
    "FileStation.CreateFolder.create": _made,
    "FileStation.Rename.rename": _made,
    "FileStation.Search.list": _finds,
    "FileStation.Sharing.create": _made_links,
    "FileStation.Sharing.getinfo": _link,
    "FileStation.Sharing.list": lambda rng, asked: {"links": [_link(rng, asked)] * rng.randrange(3), "total": 1},
    "FileStation.Extract.list": _items,
    "FileStation.Favorite.list": lambda rng, asked: {"favorites": [{"name": _name(rng), "path": "/media"}]},
    "FileStation.Upload.upload": _uploaded,
    "FileStation.Info.get": lambda rng, asked: {"hostname": "nas", "uid": 1026, "support_sharing": True},
    "FileStation.BackgroundTask.list": _background,
}


def good(rng: random.Random, name: str, asked: Mapping[str, Any]) -> Any:
    """The `data` that the evidence has for a call, such as `FileStation.List.list`."""
    if maker := _MAKERS.get(name):
        return maker(rng, asked)
    method = name.rpartition(".")[2]
    if method == "start":
        return {"taskid": f"FileStation_{rng.randrange(10**9):X}"}
    return _status(rng, asked) if method == "status" else {}


# ----- spoiling -------------------------------------------------------------------------------------------------


def hostile_value(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(9)
    if kind == 0:
        return rng.choice(NAMES)
    if kind == 1:
        return rng.choice(NUMBERS)
    if kind == 2:
        return rng.choice(NUMERALS)
    if kind == 3:
        return rng.choice((None, True, False))
    if kind == 4 and depth < 3:
        return [hostile_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 5 and depth < 3:
        return {rng.choice(("code", "errors", "name", "path", "x")): hostile_value(rng, depth + 1) for _ in range(3)}
    if kind == 6:
        nested: Any = []
        for _ in range(rng.choice((10, 100, 300))):
            nested = [nested] if rng.random() < 0.5 else {"a": nested}
        return nested
    if kind == 7:
        return "y" * rng.choice((100, 10_000))
    return rng.choice(CODES)


def spoil(rng: random.Random, value: Any) -> Any:
    """Change one place in a tree of lists and dictionaries, which is given away."""
    node = value
    while True:
        if isinstance(node, dict) and node:
            key = rng.choice(list(node))
        elif isinstance(node, list) and node:
            key = rng.randrange(len(node))
        else:
            return hostile_value(rng)
        if isinstance(node[key], dict | list) and node[key] and rng.random() < 0.75:
            node = node[key]
            continue
        what = rng.random()
        if what < 0.7:
            node[key] = hostile_value(rng)
        elif what < 0.85:
            del node[key]
        elif isinstance(node, dict):
            node[str(rng.choice(NAMES))] = hostile_value(rng)
        else:
            node.append(node[key])
        return value


def encoded(rng: random.Random, value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=rng.random() < 0.7)
    return text.encode("utf-8", "surrogateescape" if rng.random() < 0.5 and _is_pep383(text) else "surrogatepass")


def _is_pep383(text: str) -> bool:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def error(rng: random.Random) -> Any:
    code: Any = rng.choice(CODES) if rng.random() < 0.8 else hostile_value(rng)
    shapes: tuple[Any, ...] = (
        {"code": code},
        {"code": rng.choice(CODES), "errors": [{"code": code, "path": rng.choice(NAMES)}]},
        {"code": rng.choice(CODES), "errors": {"types": [{"type": "otp"}], "token": "x", "code": code}},
        {"code": str(code)},
        hostile_value(rng),
    )
    return rng.choice(shapes)


def envelope(rng: random.Random, name: str, asked: Mapping[str, Any], evil: float) -> bytes:
    """An answer's body: JSON for the most part. `evil` is how likely it is spoiled."""
    dice = rng.random()
    if dice >= evil:
        return encoded(rng, {"success": True, "data": good(rng, name, asked)})
    part = dice / evil
    if part < 0.15:
        return encoded(rng, {"success": False, "error": error(rng)})
    if part < 0.25:
        return rng.choice(BOMBS)
    if part < 0.32:
        return encoded(rng, {"success": True, "data": _endless(rng, asked)})
    data = {"success": True, "data": good(rng, name, asked)}
    for _ in range(rng.choice((1, 1, 2, 5))):
        data = spoil(rng, data)
    body = encoded(rng, data)
    if part < 0.42:
        return damaged(rng, body)
    return body


def damaged(rng: random.Random, body: bytes) -> bytes:
    """Cut, or with some bytes changed."""
    if not body or rng.random() < 0.3:
        return body[: rng.randrange(len(body) + 1)]
    changed = bytearray(body)
    for _ in range(rng.choice((1, 3, 20))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


_DATES = (
    "",
    "x",
    "Tue, 99 Nov 99999 99:99:99 +9999",
    "1 Jan 1 0:0:0 +9999",
    "0" * 5000,
    "Thu, 1 Jan 1970 00:00:00 -99999",
)


def whole(rng: random.Random, body: bytes, evil: float) -> Response:
    """The body with a head."""
    headers = {"content-type": 'application/json; charset="UTF-8"', "date": "Tue, 24 Nov 2026 15:00:00 GMT"}
    status = 200
    if rng.random() < evil / 4:
        status = rng.choice(STATUSES)
    if rng.random() < evil / 4:
        headers["content-type"] = rng.choice(TYPES)
    if rng.random() < evil / 4:
        headers["date"] = rng.choice(_DATES)
    return Response(Head(status, headers), body)


def file_answer(rng: random.Random, start: int, end: int, size: int, evil: float) -> Response:
    """The answer to a download of bytes [start, end) of a file of `size` bytes, all of which are "x"."""
    whole_file = rng.random() < 0.2
    body = b"x" * (size if whole_file else end - start)
    headers = {
        "content-type": "application/octet-stream",
        "content-disposition": 'attachment; filename="x"',
        "content-length": str(len(body)),
    }
    if not whole_file:
        headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
    status = 200 if whole_file else 206
    if rng.random() < evil:
        what = rng.randrange(8)
        if what == 0:
            first, last = (rng.choice((start, end - 1, *NUMBERS[:20], "9" * 5000, "x")) for _ in range(2))
            headers["content-range"] = f"bytes {first}-{last}/{rng.choice((size, '*', -1, '9' * 5000, 'x'))}"
        elif what == 1:
            headers["content-range"] = rng.choice(
                ("", "bytes", "bytes */0", f"bytes */{size}", "bytes */" + "9" * 5000, "items 0-1/2")
            )
        elif what == 2:
            headers["content-length"] = rng.choice(("", "-1", "0", "9" * 5000, str(2**63), "x", str(size * 2)))
        elif what == 3:
            del headers["content-length"]
        elif what == 4:
            body = body[: rng.randrange(len(body) + 1)]
        elif what == 5:
            body += b"y" * rng.choice((1, 100_000))
        elif what == 6:
            headers[rng.choice(list(headers))] = rng.choice(("gzip", "", "inline", "x" * 5000, "\0"))
            headers["content-encoding"] = rng.choice(("gzip", "br", "identity", "GZIP ", ""))
        else:
            status = rng.choice((*STATUSES, 200, 206, 416))
    return Response(Head(status, headers), body)


_PACKINGS = (
    zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA,
)  # fmt: skip


def zip_of(rng: random.Random, names: Sequence[str], evil: float) -> bytes:
    """Files of a folder, `FILE_BYTES` of "x" in each; or something that only looks so."""
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w") as packed:
        warnings.simplefilter("ignore", UserWarning)  # a name that comes twice
        for name in names:
            packing = rng.choice(_PACKINGS) if rng.random() < evil else rng.choice(_PACKINGS[:2])
            called = rng.choice(NAMES) if rng.random() < evil / 4 else name
            size = rng.choice((0, FILE_BYTES + 1, 500_000)) if rng.random() < evil / 4 else FILE_BYTES
            for _ in range(2 if rng.random() < evil / 8 else 1):
                info = zipfile.ZipInfo(_text_of(called) or "x")
                info.compress_type = packing
                packed.writestr(info, b"x" * size)
    body = out.getvalue()
    if rng.random() < evil / 4:  # its end, which says where all is
        return body[:-30] + damaged(rng, body[-30:])
    return damaged(rng, body) if rng.random() < evil else body


def _text_of(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def answer_for(rng: random.Random, name: str, asked: Mapping[str, Any], wanted: str, evil: float) -> Response:
    """The whole answer to a call; `wanted` is the `Range` of a download."""
    if name == "FileStation.Download.download" and len(_paths(asked)) > 1 and rng.random() >= evil / 4:
        names = [path.rpartition("/")[2] for path in _paths(asked)]
        return Response(Head(200, {"content-type": "application/octet-stream"}), zip_of(rng, names, evil))
    if name == "FileStation.Download.download" and rng.random() >= evil / 2:
        start, end = 0, FILE_BYTES
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last) + 1, FILE_BYTES)
        return file_answer(rng, start, end, FILE_BYTES, evil)
    if name == "FileStation.Thumb.get" and rng.random() >= evil:
        return Response(Head(200, {"content-type": "image/jpeg"}), b"\xff\xd8")
    return whole(rng, envelope(rng, name, asked, evil), evil)


def bomb(megabytes: int) -> bytes:
    """So much JSON white space, gzipped."""
    packer = zlib.compressobj(wbits=31)
    piece = b" " * 1_048_576
    return b"".join(packer.compress(piece) for _ in range(megabytes)) + packer.flush()


def gzipped(body: bytes) -> bytes:
    return gzip.compress(body)
