"""What synofs takes for granted about writing to a NAS: `synofs doctor NAS --write FOLDER`.

Everything happens in one new hidden folder inside FOLDER, which is removed again whatever the checks find; nothing
else there is touched. Without `--write` none of this runs.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import trio

from synofs.app.doctor import Failed, Skipped
from synofs.app.nas_probe import ANSWER_SECONDS, Entry, NasProbe, Refused, answer_of, size_of, unwrap
from synofs.filestation.transport import Request, Response
from synofs.filestation.wire import clock_offset

LIST = "SYNO.FileStation.List"
UPLOAD = "SYNO.FileStation.Upload"
CREATE = "SYNO.FileStation.CreateFolder"
RENAME = "SYNO.FileStation.Rename"
COPYMOVE = "SYNO.FileStation.CopyMove"
DELETE = "SYNO.FileStation.Delete"
MD5 = "SYNO.FileStation.MD5"

PREFIX = ".synofs-doctor-"  # hidden from mounts
MTIME_MS = 1_500_000_000_123
OLD, NEW = b"the old version\n", b"the new version, which is longer\n"
SLICE_BYTES = 256 * 1024
TASK_LOOKS = 60
TASK_PAUSE_SECONDS = 0.5
CLEAN_UP_SECONDS = 60.0
CLOCK_MARGIN_SECONDS = 3.0
WHOLE_SECONDS = 1.1  # the NAS tells no finer times


class Bench:
    """A NAS and the folder on it in which everything is tried; "" before it is there."""

    def __init__(self, nas: NasProbe, folder: str) -> None:
        self.nas = nas
        self.within = "/" + folder.strip("/")
        self.folder = ""

    def path(self, name: str) -> str:
        self.nas.need_session()
        if not self.folder:
            raise Skipped("there is no folder to try it in")
        return f"{self.folder}/{name}"

    async def look(self, name: str) -> Entry | None:
        path = self.path(name)
        data = await self.nas.data(LIST, "getinfo", 2, {"path": [path], "additional": ["size", "time"]})
        entries = data.get("files") or [{}]
        return entries[0] if entries[0].get("name") and not entries[0].get("code") else None

    async def names(self) -> list[str]:
        listing = await self.nas.list(self.path("").rstrip("/"))
        return sorted(entry["name"] for entry in listing["files"]) if listing is not None else []

    async def upload(
        self,
        name: str,
        content: bytes,
        fields: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """As synofs does it: the session in the query, text parts before the file, the whole length announced."""
        self.path(name)
        api = self.nas.apis.get(UPLOAD)
        if api is None:
            raise Skipped(f"this NAS has no {UPLOAD}")
        boundary = secrets.token_hex(16)
        parts = {"path": self.folder, "create_parents": "false", **(fields or {})}
        head = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
            for key, value in parts.items()
        )
        head += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        words = {"api": UPLOAD, "version": str(self.upload_version), "method": "upload", **self.nas.signed}
        request = Request(
            "POST",
            f"/webapi/{api['path']}",
            query=urlencode(words, quote_via=quote),
            headers={"Content-Type": f"multipart/form-data; boundary={boundary}", **(headers or {})},
            body=head.encode() + content + f"\r\n--{boundary}--\r\n".encode(),
            answer_seconds=ANSWER_SECONDS,
        )
        return await self.nas.transport.send(request)

    @property
    def upload_version(self) -> int:
        return min(3, int(self.nas.apis.get(UPLOAD, {}).get("maxVersion", 2)))

    @property
    def leave_to_overwrite(self) -> dict[str, str]:
        return {"overwrite": "overwrite" if self.upload_version >= 3 else "true"}

    async def put(self, name: str, content: bytes) -> None:
        """Something to try with. A NAS that does not take it has failed another check."""
        try:
            unwrap("Upload", await self.upload(name, content, self.leave_to_overwrite))
        except (Refused, ValueError) as exc:
            raise Skipped("uploads fail") from exc

    async def task(self, api: str, version: int, parameters: Mapping[str, object]) -> Entry | None:
        """Run a background task. The status that it ended with; None if nobody could be told."""
        started = await self.nas.data(api, "start", version, parameters)
        unknown = 0
        for _ in range(TASK_LOOKS):
            response = await self.nas.call(api, "status", version, {"taskid": f'"{started["taskid"]}"'})
            try:
                status = unwrap(f"{api}.status", response)
            except Refused as exc:
                if exc.code != 599:
                    raise
                unknown += 1  # registered late; or over: then what is there afterwards counts
                if unknown == 2:
                    return None
            else:
                if status.get("finished"):
                    return status
            await trio.sleep(TASK_PAUSE_SECONDS)
        raise Failed(f"no end within {TASK_LOOKS * TASK_PAUSE_SECONDS:.0f} s", "is the NAS busy? Try again")

    async def transfer(self, source: str, folder: str, **wanted: object) -> int:
        """CopyMove to a folder in ours; the code it was refused with, or 0."""
        parameters = {"path": [self.path(source)], "dest_folder_path": self.path(folder), **wanted}
        try:
            status = await self.task(COPYMOVE, 3, parameters)
        except Refused as exc:
            return exc.code
        return int(((status or {}).get("errors") or [{}])[0].get("code", 0))


# ----- folders and uploads --------------------------------------------------------------------------------------------


async def write_folder(bench: Bench) -> str:
    """A folder can be made in the folder that was named."""
    bench.nas.need_session()
    name = PREFIX + secrets.token_hex(6)
    parameters = {"folder_path": [bench.within], "name": f'["{name}"]', "force_parent": "false"}
    try:
        await bench.nas.data(CREATE, "create", 2, parameters)
    except Refused as exc:
        fix = "name a folder below a share that this account may write to, as in --write /home"
        raise Failed(f"refused with code {exc.code}", fix) from exc
    bench.folder = f"{bench.within.rstrip('/')}/{name}"
    if await bench.nas.list(bench.folder) is None:
        raise Failed("it is not there", "please report this")
    return "made"


async def write_upload(bench: Bench) -> str:
    """An upload brings all of a file, under its name, accents and blanks as they are."""
    name = "Größe 1 +&%.bin"
    answer = answer_of("Upload", await bench.upload(name, OLD))
    if not answer.get("success"):
        code = answer.get("error", {}).get("code")
        raise Failed(f"refused with code {code}", "please report this: nothing can be written")
    entry = await bench.look(name)
    if entry is None or size_of(entry) != len(OLD):
        raise Failed("the file is not there, or of another size", "please report this")
    return f"Upload v{bench.upload_version}"


async def write_mtime(bench: Bench) -> str:
    """The time of an upload is taken in milliseconds, and kept in seconds."""
    await bench.put("time", OLD)
    response = await bench.upload("time", NEW, {**bench.leave_to_overwrite, "mtime": str(MTIME_MS)})
    unwrap("Upload", response)
    entry = await bench.look("time")
    found = int((entry or {}).get("additional", {}).get("time", {}).get("mtime", 0))
    if found != MTIME_MS // 1000:
        raise Failed("another time is shown", "times are remembered on this machine only")
    return "kept"


async def write_no_overwrite(bench: Bench) -> str:
    """An upload without leave to overwrite is refused where something is."""
    await bench.put("there", OLD)
    answer = answer_of("Upload", await bench.upload("there", NEW))
    entry = await bench.look("there")
    if entry is None or size_of(entry) != len(OLD):
        raise Failed("the file that was there is replaced", "please report this: do not write to this NAS")
    code = answer.get("error", {}).get("code")
    if code not in (414, 1805):
        raise Failed(f"code {code}", "please report this: a new file could be taken for written")
    return f"code {code}"


async def write_overwrite(bench: Bench) -> str:
    """An upload with leave to overwrite replaces a file."""
    await bench.put("over", OLD)
    answer = answer_of("Upload", await bench.upload("over", NEW, bench.leave_to_overwrite))
    entry = await bench.look("over")
    if not answer.get("success") or entry is None or size_of(entry) != len(NEW):
        raise Failed(f"code {answer.get('error', {}).get('code')}", "please report this")
    return f"with {bench.leave_to_overwrite['overwrite']!r}"


async def write_slices(bench: Bench) -> str:
    """A file in slices, as DSM's own page sends one over 4 GiB, arrives whole."""
    content = hashlib.sha256(b"slices").digest() * (3 * SLICE_BYTES // 64)  # one slice and a half
    pieces = [content[:SLICE_BYTES], content[SLICE_BYTES:]]
    headers = {"X-TYPE-NAME": "SLICEUPLOAD", "X-FILE-SIZE": str(len(content)), "X-FILE-CHUNK-END": "false"}
    try:
        first = unwrap("Upload", await bench.upload("sliced", pieces[0], headers=headers))
        headers |= {"X-FILE-CHUNK-END": "true", "X-TMP-FILE": str(first.get("tmpfile", ""))}
        unwrap("Upload", await bench.upload("sliced", pieces[1], headers=headers))
    except (Refused, ValueError) as exc:
        raise Failed(str(exc), "files over 4 GiB cannot be written; all others can") from exc
    entry = await bench.look("sliced")
    if entry is None or size_of(entry) != len(content) or await _md5(bench, "sliced") not in (None, _digest(content)):
        raise Failed("it arrived in part, or wrong", "files over 4 GiB cannot be written; all others can")
    return "in two slices, whole"


async def write_folder_time(bench: Bench) -> str:
    """A folder's mtime and ctime move when a name comes into it."""
    before = await _folder_times(bench)
    await trio.sleep(WHOLE_SECONDS)
    await bench.put("dated", OLD)
    after = await _folder_times(bench)
    if still := [name for name, was in before.items() if not was < after[name]]:
        raise Failed(f"{' and '.join(still)} stood still", "nothing to do: a new name is seen a few --dir-ttl later")
    return "both"


async def write_clock(bench: Bench) -> str:
    """A file that is written now gets the time that the NAS's answers tell."""
    response = await bench.upload("now", NEW, bench.leave_to_overwrite)
    unwrap("Upload", response)
    told = clock_offset(response.head.headers.get("date", ""), 0.0)
    entry = await bench.look("now")
    if told is None or entry is None:
        raise Skipped("there is no file, or no time is told")
    apart = int(entry.get("additional", {}).get("time", {}).get("mtime", 0)) - told
    if abs(apart) > CLOCK_MARGIN_SECONDS:
        raise Failed(
            f"{apart:+.0f} s apart",
            "is a proxy in between, or is this another machine's folder? Set both clocks by NTP: until then a change"
            " within a second of another one may be seen late",
        )
    return "as told"


async def _folder_times(bench: Bench) -> dict[str, int]:
    path = bench.path("").rstrip("/")
    data = await bench.nas.data(LIST, "getinfo", 2, {"path": [path], "additional": ["time"]})
    times = data["files"][0].get("additional", {}).get("time", {})
    return {name: int(times.get(name, 0)) for name in ("mtime", "ctime")}


async def write_growing(bench: Bench) -> str:
    """A file in slices may grow after its first one: then a big file is sent while it is still being written."""
    advice = "big files are sent when they are closed, and no earlier"
    pieces = [hashlib.sha256(bytes([number])).digest() * 100 for number in range(3)]
    headers, sent = {"X-TYPE-NAME": "SLICEUPLOAD"}, 0
    try:
        for number, piece in enumerate(pieces):
            sent += len(piece)
            is_last = number == len(pieces) - 1
            headers["X-FILE-SIZE"] = str(sent if is_last else sent + 1)
            headers["X-FILE-CHUNK-END"] = "true" if is_last else "false"
            reply = unwrap("Upload", await bench.upload("growing", piece, headers=headers))
            headers["X-TMP-FILE"] = str(reply.get("tmpfile", ""))
    except (Refused, ValueError) as exc:
        raise Failed(str(exc), advice) from exc
    entry = await bench.look("growing")
    content = b"".join(pieces)
    if entry is None or size_of(entry) != sent or await _md5(bench, "growing") not in (None, _digest(content)):
        raise Failed("it arrived in part, or wrong", advice)
    return "in three slices, whole"


# ----- names and places -----------------------------------------------------------------------------------------------


async def write_rename(bench: Bench) -> str:
    """Rename gives another name, and never replaces."""
    await bench.put("old", OLD)
    await bench.put("new", NEW)
    code = await _rename(bench, "old", "new")
    old, new = await bench.look("old"), await bench.look("new")
    if old is None or new is None or size_of(new) != len(NEW):
        raise Failed("it has replaced a file", "please report this: do not write to this NAS")
    await _rename(bench, "old", "other")
    if await bench.look("old") is not None or await bench.look("other") is None:
        raise Failed("the new name is not there", "please report this")
    return f"code {code} where something is"


async def write_case(bench: Bench) -> str:
    """A name can change in its case alone."""
    await bench.put("readme", OLD)
    code = await _rename(bench, "readme", "README")
    found = [name for name in await bench.names() if name.lower() == "readme"]
    if found != ["README"]:
        raise Failed(f"code {code}", "nothing to do: synofs takes two steps")
    return "in one step"


async def write_move(bench: Bench) -> str:
    """CopyMove replaces a file if told to, and else leaves both."""
    await _subfolder(bench, "moved")
    await bench.put("file", NEW)
    await bench.transfer("file", "moved", remove_src="false")
    copied = await bench.look("moved/file")
    if copied is None or size_of(copied) != len(NEW):
        raise Failed("a copy is not there", "please report this")
    await bench.put("file", OLD)
    code = await bench.transfer("file", "moved", remove_src="true")
    source, target = await bench.look("file"), await bench.look("moved/file")
    if source is None or target is None or size_of(target) != len(NEW):
        raise Failed("without leave to overwrite it has replaced", "please report this: do not write to this NAS")
    await bench.transfer("file", "moved", remove_src="true", overwrite="true")
    source, target = await bench.look("file"), await bench.look("moved/file")
    if source is not None or target is None or size_of(target) != len(OLD):
        raise Failed("with leave to overwrite it has not replaced", "please report this: files cannot be saved again")
    return f"code {code} where something is, and replaced when told to"


async def write_delete(bench: Bench) -> str:
    """Delete leaves a folder that has entries, and removes one that has none."""
    await _subfolder(bench, "full")
    await bench.put("f", OLD)
    await bench.transfer("f", "full", remove_src="true")
    code = await _delete(bench, "full")
    if await bench.look("full/f") is None:
        raise Failed("a folder was removed with what was in it", "please report this: do not write to this NAS")
    await _delete(bench, "full/f")
    await _delete(bench, "full")
    if await bench.look("full") is not None:
        raise Failed("an empty folder is still there", "please report this")
    return f"code {code} while something is in it"


async def write_md5(bench: Bench) -> str:
    """The NAS computes the MD5 of a file."""
    await bench.put("sum", NEW)
    found = await _md5(bench, "sum")
    if found is None:
        raise Skipped("the task was over before it could be asked; synofs then downloads a small file instead")
    if found != _digest(NEW):
        raise Failed("it is another one", "please report this: do not use --verify")
    return "the right one"


async def write_permission(bench: Bench) -> str:
    """CheckPermission says that a file may be written where one may be."""
    parameters = {
        "path": bench.path("").rstrip("/"),
        "filename": '"probe"',
        "overwrite": "true",
        "create_only": "false",
    }
    try:
        await bench.nas.data("SYNO.FileStation.CheckPermission", "write", 3, parameters)
    except Refused as exc:
        raise Failed(f"refused with code {exc.code}", "--write-mode writeback refuses new files here") from exc
    return "it does"


async def write_removed(bench: Bench) -> str:
    """The folder that was made for this can be removed with all that is in it."""
    folder = bench.path("").rstrip("/")
    await bench.nas.data(DELETE, "delete", 2, {"path": [folder], "recursive": "true"})
    for _ in range(TASK_LOOKS):
        if await bench.nas.list(folder) is None:
            bench.folder = ""
            return "removed"
        await trio.sleep(TASK_PAUSE_SECONDS)
    raise Failed(f"the folder {PREFIX}... is still there", "remove it in DSM")


WRITE_CHECKS: tuple[Callable[[Bench], Awaitable[str]], ...] = (
    write_folder,
    write_permission,
    write_upload,
    write_mtime,
    write_no_overwrite,
    write_overwrite,
    write_rename,
    write_case,
    write_move,
    write_delete,
    write_md5,
    write_slices,
    write_folder_time,
    write_clock,
    write_growing,
    write_removed,
)


async def clean_up(bench: Bench) -> None:
    """Whatever was interrupted: leave nothing."""
    if bench.folder and bench.nas.session:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLEAN_UP_SECONDS):
            await bench.nas.call(DELETE, "delete", 2, {"path": [bench.folder], "recursive": "true"})


async def _subfolder(bench: Bench, name: str) -> None:
    await bench.nas.data(CREATE, "create", 2, {"folder_path": [bench.path("").rstrip("/")], "name": f'["{name}"]'})


async def _rename(bench: Bench, name: str, new_name: str) -> int:
    """The code that it was refused with, the nested one if there is one; or 0."""
    return await _code(bench, RENAME, "rename", {"path": [bench.path(name)], "name": f'["{new_name}"]'})


async def _delete(bench: Bench, name: str) -> int:
    return await _code(bench, DELETE, "delete", {"path": [bench.path(name)], "recursive": "false"})


async def _code(bench: Bench, api: str, method: str, parameters: Mapping[str, object]) -> int:
    answer = answer_of(method, await bench.nas.call(api, method, 2, parameters))
    error: dict[str, Any] = answer.get("error") or {}
    nested = error.get("errors") or [{}]
    return int(nested[0].get("code", error.get("code", 0)) if isinstance(nested, list) else error.get("code", 0))


async def _md5(bench: Bench, name: str) -> str | None:
    for _ in range(3):
        status = await bench.task(MD5, 2, {"file_path": bench.path(name)})
        if status is not None:
            return str(status.get("md5", "")).lower()
    return None


def _digest(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
