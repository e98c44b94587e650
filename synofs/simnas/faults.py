"""Scripted faults: what shall go wrong with which calls.

A fault is a JSON object posted to `/_simnas/faults`. It names its kind and which calls it meets; DESCRIPTION is
the reference that `--help` prints.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

DESCRIPTION = """\
GET    /_simnas/faults           the faults and how often each has struck
POST   /_simnas/faults           adds one fault (an object) or several (an array); answers {"ids": [...]}
DELETE /_simnas/faults           removes all and lets hanging calls go on; DELETE /_simnas/faults/ID removes one

Which calls (all optional): "api", "method": exact names ("SYNO.FileStation.List" or "List"); "path": part of a
path of the call; "skip": let the first N matching calls pass; "times": strike at most N times (default: always);
"probability": 0..1, drawn with "seed", so that a run can be repeated.

kind         fields            what happens
delay        seconds           the call is answered later
hang                           no answer, until the fault is removed or the client goes away
drop         after_bytes=0     the connection ends after N bytes of the answer's body (0: before the headers);
             when="response"   the work of the call is done by then. when="request": after N bytes of the request's
             reset=false       body, nothing is done. reset: with a TCP reset
status       status, body,     an HTTP status with an HTML page in place of the answer; when="after": the call is
             when="before"     executed first (an answer that was lost on its way)
error        code, errors,     {"success": false, "error": {"code": ...}}; when="after": the call is executed first
             when="before"
truncate     bytes             the answer's body ends after N bytes and looks complete
body         body,             another body in place of the answer (HTTP 200 or "status")
             content_type
corrupt                        one bit of the answer's body is wrong, its length is right

At once (no matching):
expire_sids  code              ends all sessions; their sids get the code (default: as the quirk dead-sid)
rotate_tokens                  every session's SynoToken becomes invalid, the sids stay
drop_idle                      closes every idle keep-alive connection
restart      seconds=0         cuts all connections, forgets all sids and tasks, refuses connections for a while
unblock                        lifts auto blocks
volume       bytes             size of the volume from now on (null: the real disk); `quota` likewise
quota        bytes
readonly     on=true           the volume is read-only (411)
bandwidth    mbit=0            the link's speed in each direction from now on, in Mbit/s; 0: no limit
"""

IMMEDIATE = frozenset(
    ("expire_sids", "rotate_tokens", "drop_idle", "restart", "unblock", "volume", "quota", "readonly", "bandwidth")
)

Kind = Literal[
    "delay",
    "hang",
    "drop",
    "status",
    "error",
    "truncate",
    "body",
    "corrupt",
    "expire_sids",
    "rotate_tokens",
    "drop_idle",
    "restart",
    "unblock",
    "volume",
    "quota",
    "readonly",
    "bandwidth",
]


class Fault(msgspec.Struct, forbid_unknown_fields=True):
    """One fault as posted."""

    kind: Kind
    api: str | None = None
    method: str | None = None
    path: str | None = None
    skip: int = 0
    times: int | None = None
    probability: float = 1.0
    seed: int = 0
    seconds: float = 0.0
    after_bytes: int = 0
    when: Literal["before", "after", "request", "response"] | None = None
    reset: bool = False
    status: int | None = None
    code: int | None = None
    errors: list[dict[str, Any]] | dict[str, Any] | None = None
    bytes: int | None = None
    body: str = ""
    content_type: str = "text/html"
    on: bool = True
    mbit: float = 0.0


@dataclass
class ActiveFault:
    """A fault that waits for its calls."""

    id: int
    fault: Fault
    struck: int = 0
    passed: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._random = random.Random(self.fault.seed)

    def strikes(self, api: str, method: str, paths: str) -> bool:
        """Whether this call is hit; counts."""
        fault = self.fault
        if fault.times is not None and self.struck >= fault.times:
            return False
        if fault.api is not None and fault.api not in (api, api.removeprefix("SYNO.FileStation.")):
            return False
        if fault.method is not None and fault.method != method:
            return False
        if fault.path is not None and fault.path not in paths:
            return False
        if self.passed < fault.skip:
            self.passed += 1
            return False
        if fault.probability < 1.0 and self._random.random() >= fault.probability:
            return False
        self.struck += 1
        return True


class FaultList:
    """The faults in force."""

    def __init__(self) -> None:
        self._active: list[ActiveFault] = []
        self._next_id = 1

    def add(self, fault: Fault) -> int:
        active = ActiveFault(self._next_id, fault)
        self._next_id += 1
        self._active.append(active)
        return active.id

    def clear(self, fault_id: int | None = None) -> None:
        """Removes all faults, or one; calls that hang on them go on."""
        for active in self._active:
            if fault_id in (None, active.id):
                active.released.set()
        self._active = [a for a in self._active if not a.released.is_set()]

    def striking(self, api: str, method: str, paths: str) -> list[ActiveFault]:
        """The faults that hit this call."""
        return [active for active in self._active if active.strikes(api, method, paths)]

    def as_json(self) -> list[dict[str, Any]]:
        return [
            {"id": active.id, "struck": active.struck, **msgspec.to_builtins(active.fault)} for active in self._active
        ]
