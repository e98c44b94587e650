"""SYNO.API.Info and SYNO.API.Auth: discovery, signing in and out."""

from __future__ import annotations

from typing import Any

from ..nas import Answer, Call, Method
from ..wire import ApiError


async def query(call: Call) -> Answer:
    """The API map; `query` is `all` (also when it is missing) or a comma list. No session needed."""
    wanted = call.params.raw("query") or "all"
    if wanted.strip('"').lower() == "all":
        return {name: entry.as_json() for name, entry in call.nas.apis.items()}
    names = wanted.strip('"').split(",")
    return {name: call.nas.apis[name].as_json() for name in names if name in call.nas.apis}


async def login(call: Call) -> Answer:
    """Opens a session. The reply has the shape of the login's version and of the DSM version."""
    # Auth takes raw values, quotes included: a password may well begin with one.
    text = {name: call.params.raw(name) or "" for name in ("account", "passwd", "session", "format", "otp_code")}
    sessions = call.nas.sessions
    device = (call.params.raw("device_id") or "", call.params.raw("device_name") or "")
    account = sessions.authenticate(text["account"], text["passwd"], text["otp_code"], device, call.address)
    if text["session"] == "Core" and not account.admin:
        raise ApiError(402)
    wants_token = call.version >= 6 and _yes(call.params.raw("enable_syno_token"))
    remember = call.version >= 6 and _yes(call.params.raw("enable_device_token"))
    session = sessions.open(account, text["session"], call.version, call.address, wants_token)
    call.found_session = session  # the answer then carries the cookie

    data: dict[str, Any] = {"sid": session.sid, "is_portal_port": False}
    if call.version >= 7:
        data |= {"account": account.name, "ik_message": "", "synotoken": session.syno_token or ""}
        match call.nas.quirks.device_id:
            case "token":
                data["device_id"] = sessions.device_id_for(account, device, remember)
            case "empty":
                data["device_id"] = ""
        return data
    if session.syno_token is not None:
        data["synotoken"] = session.syno_token
    if remember:
        data["did"] = sessions.device_id_for(account, device, remember)
    return data


async def logout(call: Call) -> Answer:
    """Ends the session of the sid. Without a sid it succeeds and ends nothing."""
    call.nas.sessions.close(sid_of(call))
    return None


async def token(call: Call) -> Answer:
    """The SynoToken of a live session, for whoever has lost it (from version 6 on)."""
    if call.version < 6:
        raise ApiError(103)
    session = call.nas.sessions.find(sid_of(call))
    return {"synotoken": call.nas.sessions.renew_token(session)}


async def distrust(call: Call) -> Answer:
    """TrustDevice.delete: the device that the session was signed in from needs a one-time code again."""
    if call.nas.quirks.trust_device == "works":
        device_id = (call.params.raw("device_id") or call.request.cookies.get("did") or "").strip('"')
        call.nas.sessions.distrust(call.session.account, device_id)
    return None


def sid_of(call: Call) -> str | None:
    """The sid of a call: the parameter `_sid`, or else the cookie `id`."""
    return call.params.raw("_sid") or call.request.cookies.get("id")


def token_of(call: Call) -> str | None:
    """The SynoToken of a call: parameter or header."""
    return call.params.raw("SynoToken") or call.request.headers.get("x-syno-token")


def _yes(value: str | None) -> bool:
    return (value or "").lower() in ("yes", "true", "1")


# Those of SYNO.API look at the session themselves.
METHODS: dict[str, dict[str, Method]] = {
    "SYNO.API.Info": {"query": query},
    "SYNO.API.Auth": {"login": login, "logout": logout, "token": token},
    "SYNO.Core.TrustDevice": {"delete": distrust},
}
