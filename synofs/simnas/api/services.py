"""The small services around the files: box information, settings, properties, accounts.

Of many of them only the names of the methods are known; those answer as they do on a real box to a call without
arguments.
"""

from __future__ import annotations

import os
import time

from ..nas import Answer, Call, Method, blocking
from ..shares import Location
from ..wire import ApiError
from .listing import readable

_STARTED = time.monotonic()


async def dsm_info(call: Call) -> Answer:
    """SYNO.DSM.Info.getinfo, which clients ask right after the login."""
    version, text = ("69057", "DSM 7.2.1-69057") if call.nas.options.dsm >= 7 else ("25556", "DSM 6.2.4-25556")
    return {
        "codepage": "enu",
        "model": "simnas",
        "ram": 1024,
        "serial": "0000SIMNAS000",
        "temperature": 40,
        "temperature_warn": False,
        "time": time.strftime("%a %b %d %H:%M:%S %Y"),
        "uptime": int(time.monotonic() - _STARTED),
        "version": version,
        "version_string": text,
    }


async def settings(call: Call) -> Answer:
    """Settings.get: the keys and types that a DSM 7.4 box shows."""
    off = dict.fromkeys(
        (
            "allow_normal_disable_html",
            "enable_list_usergrp",
            "enable_send_email_attachment",
            "enable_view_google",
            "enable_view_microsoft",
            "runpgsql",
            "transfer_log_enable",
            "use_unix_default_perm",
        ),
        False,
    )
    empty = dict.fromkeys(
        (
            "bandwidth_enable",
            "enable_sharing_custom_setting",
            "file_request_allow",
            "rf_allow",
            "schedule_plan",
            "sharing_allow",
            "sharing_default_limit",
            "sharing_disable_html",
            "sharing_gofile_protocol",
            "vd_allow",
        ),
        "",
    )
    nobody: dict[str, dict[str, list[str]]] = {
        name: {"items": []}
        for name in (
            "file_request_group_privilege",
            "file_request_privilege",
            "sharing_group_privilege",
            "sharing_privilege",
        )
    }
    return {**off, **empty, **nobody, "link_limit": []}


async def avoid_timeout(call: Call) -> Answer:
    """Timeout.avoid: by its name it keeps the session alive, which every call does."""
    return None


async def mounts(call: Call) -> Answer:
    """Mount.List.get: nothing is mounted."""
    config = {"enable_iso_mount": False, "enable_remote_mount": False}
    return {"isoList": [], "mountConfig": config, "remoteList": []}


async def list_users(call: Call) -> Answer:
    """UserGrp.list_user; FileStation.Info says that only admins may."""
    _check_admin(call)
    users = [{"name": a.name, "uid": a.uid} for a in call.nas.options.accounts]
    return {"offset": 0, "total": len(users), "users": users}


async def list_groups(call: Call) -> Answer:
    """UserGrp.list_group."""
    _check_admin(call)
    groups = [{"gid": 100, "name": "users"}, {"gid": 101, "name": "administrators"}]
    return {"groups": groups, "offset": 0, "total": len(groups)}


def _check_admin(call: Call) -> None:
    if not call.session.account.admin:
        raise ApiError(105)


async def set_property(call: Call) -> Answer:
    """Property.set: whatever was tried on 7.2.2, it said that it was running and changed nothing."""
    return {"running": 1, "taskid": f"FileStation_{time.time_ns():X}"}


async def property_status(call: Call) -> Answer:
    return {"errItems": [], "errno": 0, "finished": True, "result": "fail"}


async def property_stop(call: Call) -> Answer:
    return None


def _by_real_path(call: Call) -> Location:
    """The `file` of a property call, which is a path of the volume; 407 without one."""
    file = call.params.text("file")
    if not file.startswith("/volume1/"):
        raise ApiError(407)
    return readable(call, file.removeprefix("/volume1"))


def acl_owner(call: Call) -> Answer:
    """Property.ACLOwner.get."""
    found = os.stat(_by_real_path(call).real)
    name = call.nas.records.user_name(found.st_uid)
    return {"hasPrivilege": call.session.account.admin, "name": name, "type": "user", "value": found.st_uid}


def disk_size(call: Call) -> Answer:
    """Property.CompressSize.get."""
    return {"diskSize": os.stat(_by_real_path(call).real).st_blocks * 512}


def refusing(code: int) -> Method:
    """A method of which nothing is known but its answer to a call without arguments."""

    async def refuse(call: Call) -> Answer:
        raise ApiError(code)

    return refuse


METHODS: dict[str, dict[str, Method]] = {
    "SYNO.DSM.Info": {"getinfo": dsm_info},
    "SYNO.FileStation.Settings": {"get": settings},
    "SYNO.FileStation.Timeout": {"avoid": avoid_timeout},
    "SYNO.FileStation.Mount.List": {"get": mounts},
    "SYNO.FileStation.UserGrp": {"list_user": list_users, "list_group": list_groups},
    "SYNO.FileStation.Property": {"set": set_property, "status": property_status, "stop": property_stop},
    "SYNO.FileStation.Property.ACLOwner": {"get": blocking(acl_owner)},
    "SYNO.FileStation.Property.CompressSize": {"get": blocking(disk_size)},
    "SYNO.FileStation.Property.Mtime": {"get": refusing(401)},
    "SYNO.FileStation.Snapshot": {"list": refusing(400), "history": refusing(400), "desc": refusing(400)},
    "SYNO.FileStation.CheckExist": {"check": refusing(400)},
}
