"""What synofs takes for granted about a NAS. Each check names an assumption of docs/FILESTATION.md.

Nothing on the NAS is changed, and a refused sign-in is not repeated: DSM counts failures and blocks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable

import trio

from synofs.app.config import Settings
from synofs.app.credentials import Credentials
from synofs.app.doctor import Failed, Result, Skipped, not_passed, passed
from synofs.app.nas_probe import NasProbe, Refused, envelope, size_of, unwrap
from synofs.filestation.transport import CertificateUntrusted, Response, TransportError

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
DOWNLOAD = "SYNO.FileStation.Download"


# ----- without signing in ---------------------------------------------------------------------------------------


async def it_can_be_reached_and_is_trusted(nas: NasProbe) -> str:
    try:
        response = await nas.call("SYNO.API.Info", "query", 1, {"query": "all"})
    except CertificateUntrusted as exc:
        fix = f"compare it with DSM's, then: --fingerprint {exc.fingerprint}" if exc.fingerprint else "--ca-file FILE"
        raise Failed("its certificate is not trusted", fix) from exc
    except TransportError as exc:
        raise Failed(f"no answer ({exc})", "check that it is on, address, port (DSM: 5001), network") from exc
    try:
        nas.apis = unwrap("SYNO.API.Info", response)
    except (ValueError, Refused) as exc:
        raise Failed(str(exc), "check host and port: this is not DSM's web API") from exc
    if not nas.settings.address.is_encrypted:
        return "over http, unencrypted"
    return "certificate pinned" if nas.settings.fingerprint else "certificate verified"


async def it_has_the_apis_that_are_needed(nas: NasProbe) -> str:
    _need_apis(nas)
    missing = [
        name
        for name, version in NEEDED.items()
        if not nas.apis.get(name, {}).get("minVersion", 99) <= version <= nas.apis[name].get("maxVersion", 0)
    ]
    if missing:
        raise Failed(f"missing or of another version: {', '.join(missing)}", "install and start File Station")
    return f"{len(nas.apis)} APIs, Auth up to v{nas.apis['SYNO.API.Auth']['maxVersion']}"


async def file_station_has_one_entry_point(nas: NasProbe) -> str:
    _need_apis(nas)
    paths = {str(api.get("path")) for name, api in nas.apis.items() if name.startswith("SYNO.FileStation.")}
    if len(paths) != 1:
        raise Failed(f"{len(paths)} of them (DSM 5?)", "synofs is made for DSM 6 and 7; please report how it goes")
    return ", ".join(paths)


async def a_dead_session_is_recognised(nas: NasProbe) -> str:
    _need_apis(nas)
    parameters = {"path": ["/no/such/file"], "mode": "download"}
    response = await nas.call(DOWNLOAD, "download", 2, parameters, session={"_sid": "not-a-session"})
    code = envelope("Download", response).get("error", {}).get("code")
    if code not in (105, 106, 107, 119):
        raise Failed(f"code {code}", "please report this: an expired session may not be renewed")
    return f"HTTP {response.status} with code {code}"


# ----- signing in -----------------------------------------------------------------------------------------------


async def signing_in_works(nas: NasProbe) -> str:
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


async def a_sign_in_gives_a_synotoken(nas: NasProbe) -> str:
    nas.need_session()
    if not nas.session.get("synotoken"):
        raise Failed("none came", "nothing to do: synofs goes on without one")
    return "given"


async def calls_without_the_synotoken_are_refused(nas: NasProbe) -> str:
    nas.need_session()
    if not nas.session.get("synotoken"):
        raise Skipped("there is none")
    response = await nas.call(LIST, "list_share", 2, {"limit": 1}, session={"_sid": nas.session["sid"]})
    answer = envelope("List.list_share", response)
    # Either is fine: synofs always sends it.
    return "accepted" if answer.get("success") else f"code {answer.get('error', {}).get('code')}"


# ----- listing --------------------------------------------------------------------------------------------------


async def shares_are_listed_with_their_rights(nas: NasProbe) -> str:
    nas.need_session()
    data = await nas.data(LIST, "list_share", 2, {"additional": ["time", "perm", "volume_status"]})
    nas.shares = data["shares"]
    for share in nas.shares:
        extra = share.get("additional", {})
        if "time" not in extra or "acl" not in extra.get("perm", {}):
            raise Failed("no time, or no perm.acl", "please report this: rights may be shown wrong")
    return f"{len(nas.shares)} shares"


async def free_space_is_told(nas: NasProbe) -> str:
    shares = await nas.need_shares()
    volumes = [share.get("additional", {}).get("volume_status") or {} for share in shares]
    if not any(int(volume.get("totalspace", 0)) >= int(volume.get("freespace", 0)) > 0 for volume in volumes):
        raise Failed("no share tells a plausible size", "df shows nothing useful for this mount")
    return "volume_status has free and total space"


async def times_are_whole_seconds(nas: NasProbe) -> str:
    folder = await nas.need_folder()
    times = [entry["additional"]["time"]["mtime"] for entry in folder["files"] if "additional" in entry]
    if any(int(moment) > time.time() * 50 for moment in times):
        raise Failed("times look like milliseconds", "please report this: they would be shown wrong")
    return f"{len(times)} looked at"


async def listings_can_be_read_in_pages(nas: NasProbe) -> str:
    folder = await nas.need_folder()
    path, total = folder["folder_path"], folder["total"]
    first = await nas.list(path, offset=0, limit=1)
    second = await nas.list(path, offset=1, limit=1)
    if first is None or second is None or len(first["files"]) != 1 or len(second["files"]) != 1:
        raise Failed("limit and offset are not honoured", "please report this: big folders would be incomplete")
    if first["total"] != total or first["files"][0]["name"] == second["files"][0]["name"]:
        raise Failed("pages overlap, or the total changes", "another program may be at work there; try again")
    return f"total {total}, page by page"


async def a_page_has_no_upper_limit(nas: NasProbe) -> str:
    folder = await nas.need_folder()
    page = await nas.list(folder["folder_path"])
    if page is None:
        raise Skipped("the folder went away")
    if len(page["files"]) < page["total"]:
        raise Failed(f"a page ends at {len(page['files'])}", "nothing to do: synofs goes on from there")
    return f"{page['total']} entries at once"


async def getinfo_succeeds_for_a_missing_path(nas: NasProbe) -> str:
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


async def getinfo_takes_many_paths(nas: NasProbe) -> str:
    folder = await nas.need_folder()
    paths = [entry["path"] for entry in folder["files"]][:50]
    data = await nas.data(LIST, "getinfo", 2, {"path": paths, "additional": ["size"]})
    if [entry.get("path") for entry in data.get("files", [])] != paths:
        raise Failed("the answer is not in the order of the question", "please report this")
    return f"{len(paths)} at once, in order"


# ----- downloading ----------------------------------------------------------------------------------------------


async def a_range_is_answered_with_206(nas: NasProbe) -> str:
    file = await nas.need_file()
    response = await _download(nas, file["path"], "bytes=4-11")
    if response.status == 200:
        raise Failed("the range is ignored", "reading works, but only from the start to the end of a file")
    seen = response.head.headers.get("content-range")
    if response.status != 206 or seen != f"bytes 4-11/{size_of(file)}" or len(response.body) != 8:
        raise Failed(f"HTTP {response.status}, Content-Range {seen}", "please report this: reading may fail")
    return "with Content-Range and the exact bytes"


async def a_download_is_marked_as_an_attachment(nas: NasProbe) -> str:
    file = await nas.need_file()
    response = await _download(nas, file["path"], "bytes=0-0")
    if not response.head.headers.get("content-disposition", "").startswith("attachment"):
        raise Failed("it is not", "please report this: a file that holds JSON could be taken for an error")
    return f"as {response.head.content_type}"


async def a_missing_download_is_recognised(nas: NasProbe) -> str:
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


async def signing_out_ends_the_session(nas: NasProbe) -> str:
    nas.need_session()
    ended = dict(nas.signed)
    version = min(7, nas.apis["SYNO.API.Auth"]["maxVersion"])
    await nas.data("SYNO.API.Auth", "logout", version, {"session": SESSION})
    nas.session = {}
    response = await nas.call(LIST, "list_share", 2, {"limit": 1}, session=ended)
    if envelope("List.list_share", response).get("success"):
        raise Failed("the session still works", "sessions of ended mounts live on until the NAS forgets them")
    return "ended"


def _need_apis(nas: NasProbe) -> None:
    if not nas.apis:
        raise Skipped("the NAS did not answer")


CHECKS: tuple[Callable[[NasProbe], Awaitable[str]], ...] = (
    it_can_be_reached_and_is_trusted,
    it_has_the_apis_that_are_needed,
    file_station_has_one_entry_point,
    a_dead_session_is_recognised,
    signing_in_works,
    a_sign_in_gives_a_synotoken,
    calls_without_the_synotoken_are_refused,
    shares_are_listed_with_their_rights,
    free_space_is_told,
    times_are_whole_seconds,
    listings_can_be_read_in_pages,
    a_page_has_no_upper_limit,
    getinfo_succeeds_for_a_missing_path,
    getinfo_takes_many_paths,
    a_range_is_answered_with_206,
    a_download_is_marked_as_an_attachment,
    a_missing_download_is_recognised,
    signing_out_ends_the_session,
)


def examine_nas(settings: Settings, credentials: Credentials | None, on_result: Callable[[Result], None]) -> None:
    """Run all checks, telling each result as soon as it is there."""
    trio.run(_examine, settings, credentials, on_result)


async def _examine(settings: Settings, credentials: Credentials | None, on_result: Callable[[Result], None]) -> None:
    nas = NasProbe(settings, credentials)
    try:
        for check in CHECKS:
            try:
                on_result(passed(GROUP, check, await check(nas)))
            except Exception as exc:  # a check that breaks is a finding, not the end of the examination
                on_result(not_passed(GROUP, check, exc))
    finally:
        await nas.transport.aclose()
