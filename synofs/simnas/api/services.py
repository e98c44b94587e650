"""The small services around the files."""

from __future__ import annotations

import time

from ..nas import Answer, Call, Method

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


METHODS: dict[str, dict[str, Method]] = {"SYNO.DSM.Info": {"getinfo": dsm_info}}
