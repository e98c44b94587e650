"""What synofs takes for granted about a NAS. Each check names an assumption of docs/FILESTATION.md.

Nothing on the NAS is changed, unless writing is to be tried, too (app/doctor_write.py). A refused sign-in is not
repeated: DSM counts failures and blocks.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from synofs.app.config import Settings
from synofs.app.credentials import Credentials
from synofs.app.doctor import Failed, Result, Skipped, not_passed, passed
from synofs.app.doctor_write import WRITE_CHECKS, Bench, clean_up
from synofs.app.nas_probe import NasProbe, Refused, answer_of, size_of, unwrap
from synofs.filestation.discovery import INFO_PATHS
from synofs.filestation.manyfiles import unpacked
from synofs.filestation.transport import CertificateUntrusted, Response, TransportError
from synofs.filestation.wire import clock_offset

_T = TypeVar("_T")

GROUP = "the NAS"
SESSION = "FileStation"  # accounts without admin rights get 119 under any other name
NEEDED = {  # API -> the version that synofs speaks
    "SYNO.API.Auth": 3,
    "SYNO.FileStation.Info": 2,
    "SYNO.FileStation.List": 2,
    "SYNO.FileStation.Download": 2,
    "SYNO.FileStation.Upload": 2,
    "SYNO.FileStation.CreateFolder": 2,
    "SYNO.FileStation.Rename": 2,
    "SYNO.FileStation.CopyMove": 3,
    "SYNO.FileStation.Delete": 2,
    "SYNO.FileStation.CheckPermission": 3,
    "SYNO.FileStation.MD5": 2,
}
MISSING_NAME = "synofs-doctor-no-such-file"
SIGN_IN_FIXES = {
    400: "check user and password",
    401: "the account is disabled; enable it in DSM",
    402: "allow File Station to this account in DSM (Control Panel > User & Group > Applications)",
    403: "two-factor sign-in: add --otp CODE, or run synofs login once",
    404: "the one-time code was wrong: try the next one, and check this machine's clock",
    406: "set two-factor sign-in up in DSM's web desktop first",
    407: "this machine's address is blocked: remove it in DSM (Control Panel > Security > Protection)",
    408: "the password has expired: change it in DSM",
    409: "the password has expired: change it in DSM",
    410: "the password must be changed in DSM first",
}
LIST = "SYNO.FileStation.List"
COMPOUND = "SYNO.Entry.Request"
DOWNLOAD = "SYNO.FileStation.Download"


# ----- without signing in ---------------------------------------------------------------------------------------


async def api_map(nas: NasProbe) -> str:
    """It answers, is trusted, and tells where its APIs are."""
    try:
        for nas.map_path in INFO_PATHS:
            response = await nas.call("SYNO.API.Info", "query", 1, {"query": "all"})
            if b'"SYNO.API.Auth"' in response.body:
                break
    except CertificateUntrusted as exc:
        fix = f"compare it with DSM's, then: --fingerprint {exc.fingerprint}" if exc.fingerprint else "--ca-file FILE"
        raise Failed(f"its certificate is not trusted ({exc})", fix) from exc
    except TransportError as exc:
        raise Failed(f"no answer ({exc})", "check that it is on, address, port (DSM: 5001), network") from exc
    try:
        nas.apis = unwrap("SYNO.API.Info", response)
    except (ValueError, Refused) as exc:
        raise Failed(str(exc), "check host and port: this is not DSM's web API") from exc
    if not nas.settings.address.is_encrypted:
        return "over http, unencrypted"
    return "certificate pinned" if nas.settings.fingerprint else "certificate verified"


async def api_versions(nas: NasProbe) -> str:
    """It has the APIs that synofs needs, in the versions that it speaks."""
    _need_apis(nas)
    missing = [
        name
        for name, version in NEEDED.items()
        if not nas.apis.get(name, {}).get("minVersion", 99) <= version <= nas.apis[name].get("maxVersion", 0)
    ]
    if missing:
        raise Failed(f"missing or of another version: {', '.join(missing)}", "install and start File Station")
    return f"{len(nas.apis)} APIs, Auth up to v{nas.apis['SYNO.API.Auth']['maxVersion']}"


async def entry_point(nas: NasProbe) -> str:
    """File Station has one entry point (DSM 6 and later)."""
    _need_apis(nas)
    paths = {str(api.get("path")) for name, api in nas.apis.items() if name.startswith("SYNO.FileStation.")}
    if len(paths) != 1:
        raise Failed(f"{len(paths)} of them (DSM 5?)", "synofs is made for DSM 6 and 7; please report how it goes")
    return ", ".join(paths)


async def envelope(nas: NasProbe) -> str:
    """An API error is HTTP 200 with a JSON envelope."""
    _need_apis(nas)
    response = await nas.call("SYNO.API.Info", "no_such_method", 1)
    code = answer_of("Info.no_such_method", response).get("error", {}).get("code")
    if response.status != 200 or not code:
        raise Failed(f"HTTP {response.status}, code {code}", "please report this")
    return f"code {code}"


async def dead_session(nas: NasProbe) -> str:
    """A session that is unknown is told apart from a file that is."""
    _need_apis(nas)
    parameters = {"path": ["/no/such/file"], "mode": "download"}
    response = await nas.call(DOWNLOAD, "download", 2, parameters, session={"_sid": "not-a-session"})
    code = answer_of("Download", response).get("error", {}).get("code")
    if code not in (105, 106, 107, 119):
        raise Failed(f"code {code}", "please report this: an expired session may not be renewed")
    return f"HTTP {response.status} with code {code}"


# ----- signing in -----------------------------------------------------------------------------------------------


async def sign_in(nas: NasProbe) -> str:
    """A sign-in by POST gives a session."""
    _need_apis(nas)
    credentials = nas.credentials
    if credentials is None:
        raise Skipped("no user and password: run synofs login, or add --user and --password-file")
    version = min(7, nas.apis["SYNO.API.Auth"]["maxVersion"])
    parameters = {
        "account": credentials.user,
        "passwd": credentials.password.reveal(),
        "session": SESSION,
        "format": "sid",
        "enable_syno_token": "yes",
    }
    if credentials.otp:
        parameters["otp_code"] = credentials.otp.reveal()
    if credentials.device_id:
        parameters |= {"device_id": credentials.device_id.reveal(), "device_name": credentials.device_name}
    response = await nas.call("SYNO.API.Auth", "login", version, parameters, post=True)
    try:
        nas.session = unwrap("Auth.login", response)
    except Refused as exc:
        fix = SIGN_IN_FIXES.get(exc.code, "look at DSM's Log Center")
        raise Failed(f"refused with code {exc.code}", fix) from exc
    if not nas.session.get("sid"):
        raise Failed("the answer holds no session", "please report this")
    return f"Auth v{version}"


async def syno_token(nas: NasProbe) -> str:
    """A sign-in gives a SynoToken when asked for one."""
    nas.need_session()
    if not nas.session.get("synotoken"):
        raise Failed("none came", "nothing to do: synofs goes on without one")
    return "given"


async def device_token(nas: NasProbe) -> str:
    """A sign-in gives a device token, which spares the next one-time code."""
    nas.need_session()
    if not (nas.session.get("device_id") or nas.session.get("did")):
        raise Skipped("none came; with two-factor sign-in the code would be asked for each time")
    return "given"


async def syno_token_enforced(nas: NasProbe) -> str:
    """Calls without the SynoToken: refused or not, synofs sends it always."""
    nas.need_session()
    if not nas.session.get("synotoken"):
        raise Skipped("there is none")
    response = await nas.call(LIST, "list_share", 2, {"limit": 1}, session={"_sid": nas.session["sid"]})
    answer = answer_of("List.list_share", response)
    # Either is fine: synofs always sends it.
    return "accepted" if answer.get("success") else f"code {answer.get('error', {}).get('code')}"


# ----- listing --------------------------------------------------------------------------------------------------


async def effective_rights(nas: NasProbe) -> str:
    """Shares tell what this account may do (perm.acl)."""
    nas.need_session()
    data = await nas.data(LIST, "list_share", 2, {"additional": ["time", "perm", "volume_status"]})
    nas.shares = data["shares"]
    for share in nas.shares:
        extra = share.get("additional", {})
        if "time" not in extra or "acl" not in extra.get("perm", {}):
            raise Failed("no time, or no perm.acl", "please report this: rights may be shown wrong")
    return f"{len(nas.shares)} shares"


async def volume_status(nas: NasProbe) -> str:
    """Shares tell total and free space."""
    shares = await nas.need_shares()
    volumes = [share.get("additional", {}).get("volume_status") or {} for share in shares]
    if not any(int(volume.get("totalspace", 0)) >= int(volume.get("freespace", 0)) > 0 for volume in volumes):
        raise Failed("no share tells a plausible size", "df shows nothing useful for this mount")
    return "volume_status has free and total space"


async def time_unit(nas: NasProbe) -> str:
    """Times are seconds."""
    folder = await nas.need_folder()
    times = [entry["additional"]["time"]["mtime"] for entry in folder["files"] if "additional" in entry]
    if any(int(moment) > time.time() * 50 for moment in times):
        raise Failed("times look like milliseconds", "please report this: they would be shown wrong")
    return f"{len(times)} looked at"


async def stable_sort(nas: NasProbe) -> str:
    """A listing can be read in pages, in one order."""
    folder = await nas.need_folder()
    path, total = folder["folder_path"], folder["total"]
    half = min(total, len(folder["files"])) // 2
    pages = [await nas.list(path, offset=at, limit=half) for at in (0, half)]
    names = [entry["name"] for page in pages if page is not None for entry in page["files"]]
    if names != [entry["name"] for entry in folder["files"]][: 2 * half]:
        raise Failed("two pages differ from the whole", "if nothing changed there meanwhile, please report this")
    return f"{2 * half} entries in two pages"


async def page_cap(nas: NasProbe) -> str:
    """A page holds as many entries as are asked for."""
    folder = await nas.need_folder()
    page = await nas.list(folder["folder_path"])
    if page is None:
        raise Skipped("the folder went away")
    if len(page["files"]) < page["total"]:
        raise Failed(f"a page ends at {len(page['files'])}", "nothing to do: synofs goes on from there")
    return f"{page['total']} entries at once"


async def json_parameters(nas: NasProbe) -> str:
    """Paths are taken as JSON, whatever characters are in them."""
    shares = await nas.need_shares()
    paths = [shares[0]["path"], f'{shares[0]["path"]}/{MISSING_NAME}, [1] "2"']
    data = await nas.data(LIST, "getinfo", 2, {"path": paths})
    if [entry.get("path") for entry in data.get("files", [])] != paths:
        raise Failed("other paths were looked at than those asked for", "please report this")
    return "with blank, comma, brackets and quotes"


async def missing_path(nas: NasProbe) -> str:
    """Looking at a missing path is no error, and its answer says so."""
    shares = await nas.need_shares()
    path = f"{shares[0]['path']}/{MISSING_NAME}"
    data = await nas.data(LIST, "getinfo", 2, {"path": [path], "additional": ["size"]})
    entries = data.get("files", [])
    if len(entries) != 1:
        raise Failed(f"{len(entries)} entries for one path", "please report this: files would seem missing")
    if entries[0].get("code"):
        return f"an entry with code {entries[0]['code']}"
    if not entries[0].get("name"):
        return "an entry without a name"
    raise Failed("an entry like that of a file", "please report this: missing files would seem to be there")


async def getinfo_batch(nas: NasProbe) -> str:
    """Many paths can be looked at in one call."""
    folder = await nas.need_folder()
    paths = [entry["path"] for entry in folder["files"]][:50]
    data = await nas.data(LIST, "getinfo", 2, {"path": paths, "additional": ["size"]})
    if [entry.get("path") for entry in data.get("files", [])] != paths:
        raise Failed("the answer is not in the order of the question", "please report this")
    return f"{len(paths)} at once, in order"


async def lists_together(nas: NasProbe) -> str:
    """Several folders can be listed in one request (SYNO.Entry.Request)."""
    if COMPOUND not in nas.apis:
        raise Skipped("the NAS does not have it: folders are listed one by one")
    shares = await nas.need_shares()
    paths = [share["path"] for share in shares[:3]]
    calls = [{"api": LIST, "method": "list", "version": 2, "folder_path": path, "limit": 3} for path in paths]
    parameters = {"mode": "sequential", "stop_when_error": "false", "compound": calls}
    try:
        data = await nas.data(COMPOUND, "request", 1, parameters)
    except Refused as exc:
        raise Failed(f"refused with code {exc.code}", "nothing to do: folders are listed one by one") from exc
    results = data.get("result") or []
    if len(results) != len(paths) or not all("files" in (part.get("data") or {}) for part in results):
        raise Failed("not every folder has its answer", "nothing to do: folders are listed one by one")
    for path, part in zip(paths, results, strict=True):
        if any(str(entry.get("path")).rpartition("/")[0] != path for entry in part["data"]["files"]):
            raise Failed("the answers come in another order", "nothing to do: folders are listed one by one")
    return f"{len(paths)} at once, one after the other"


async def nas_clock(nas: NasProbe) -> str:
    """Answers tell the time of the NAS (Date)."""
    nas.need_session()
    response = await nas.call(LIST, "list_share", 2, {"limit": 1})
    offset = clock_offset(response.head.headers.get("date", ""), time.time())
    if offset is None:
        raise Failed(
            "they do not", "nothing to do: old listings are listed anew, and nothing read is kept on this disk"
        )
    return f"{offset:+.0f} s from this machine's"


# ----- downloading ----------------------------------------------------------------------------------------------


async def ranged_download(nas: NasProbe) -> str:
    """A part of a file can be downloaded, with its place and the whole size told."""
    file = await nas.need_file()
    response = await _download(nas, file["path"], "bytes=4-11")
    if response.status == 200:
        raise Failed("the range is ignored", "reading works, but only from the start to the end of a file")
    seen = response.head.headers.get("content-range")
    if response.status != 206 or seen != f"bytes 4-11/{size_of(file)}" or len(response.body) != 8:
        raise Failed(f"HTTP {response.status}, Content-Range {seen}", "please report this: reading may fail")
    return "with Content-Range and the exact bytes"


async def attachment(nas: NasProbe) -> str:
    """A download is marked as an attachment, so that it is not taken for an error."""
    file = await nas.need_file()
    response = await _download(nas, file["path"], "bytes=0-0")
    if not response.head.headers.get("content-disposition", "").startswith("attachment"):
        raise Failed("it is not", "please report this: a file that holds JSON could be taken for an error")
    return f"as {response.head.content_type}"


async def files_together(nas: NasProbe) -> str:
    """Several files come as a zip."""
    folder = await nas.need_folder()
    files = [entry for entry in folder["files"] if not entry["isdir"] and 0 < size_of(entry) <= 2_000_000][:3]
    if len(files) < 2:
        raise Skipped("no folder with two small files was found")
    parameters = {"path": [file["path"] for file in files], "mode": "download"}
    response = await nas.call(DOWNLOAD, "download", 2, parameters)
    found = unpacked(response.body, {os.fsencode(file["name"]): size_of(file) for file in files})
    if len(found) != len(files):
        raise Failed(f"{len(found)} of {len(files)} were in it", "nothing to do: files are read one by one")
    return f"{len(files)} at once"


async def missing_download(nas: NasProbe) -> str:
    """The download of a missing file fails in a way that is known."""
    shares = await nas.need_shares()
    response = await _download(nas, f"{shares[0]['path']}/{MISSING_NAME}", None)
    if response.status in (404, 502):
        return f"HTTP {response.status}"
    try:
        code = json.loads(response.body).get("error", {}).get("code")
    except (ValueError, AttributeError):
        code = None
    if code not in (407, 408):
        raise Failed(f"HTTP {response.status}, code {code}", "please report this")
    return f"HTTP {response.status} with code {code}"


async def _download(nas: NasProbe, path: str, byte_range: str | None) -> Response:
    headers = {"Accept-Encoding": "identity"} | ({"Range": byte_range} if byte_range else {})
    return await nas.call(DOWNLOAD, "download", 2, {"path": [path], "mode": "download"}, headers=headers)


# ----- the end --------------------------------------------------------------------------------------------------


async def sign_out(nas: NasProbe) -> str:
    """Signing out ends the session."""
    nas.need_session()
    ended = dict(nas.signed)
    version = min(7, nas.apis["SYNO.API.Auth"]["maxVersion"])
    await nas.data("SYNO.API.Auth", "logout", version, {"session": SESSION})
    nas.session = {}
    response = await nas.call(LIST, "list_share", 2, {"limit": 1}, session=ended)
    if answer_of("List.list_share", response).get("success"):
        raise Failed("the session still works", "sessions of ended mounts live on until the NAS forgets them")
    return "ended"


def _need_apis(nas: NasProbe) -> None:
    if not nas.apis:
        raise Skipped("the NAS did not answer")


CHECKS: tuple[Callable[[NasProbe], Awaitable[str]], ...] = (
    api_map,
    api_versions,
    entry_point,
    envelope,
    dead_session,
    sign_in,
    syno_token,
    syno_token_enforced,
    device_token,
    effective_rights,
    volume_status,
    time_unit,
    stable_sort,
    page_cap,
    json_parameters,
    missing_path,
    getinfo_batch,
    lists_together,
    nas_clock,
    ranged_download,
    attachment,
    files_together,
    missing_download,
)


def examine_nas(
    settings: Settings,
    credentials: Credentials | None,
    on_result: Callable[[Result], None],
    write_folder: str | None = None,
) -> None:
    """Run all checks, telling each result as soon as it is there. `write_folder`: where writing may be tried."""
    trio.run(_examine, settings, credentials, on_result, write_folder)


async def _examine(
    settings: Settings,
    credentials: Credentials | None,
    on_result: Callable[[Result], None],
    write_folder: str | None,
) -> None:
    nas = NasProbe(settings, credentials)

    async def run(check: Callable[[_T], Awaitable[str]], subject: _T) -> None:
        try:
            on_result(passed(GROUP, check, await check(subject)))
        except Exception as exc:  # a check that breaks is a finding, not the end of the examination
            on_result(not_passed(GROUP, check, exc))

    try:
        for check in CHECKS:
            await run(check, nas)
        if write_folder is not None:
            bench = Bench(nas, write_folder)
            try:
                for write_check in WRITE_CHECKS:
                    await run(write_check, bench)
            finally:
                await clean_up(bench)
        await run(sign_out, nas)
    finally:
        await nas.transport.aclose()
