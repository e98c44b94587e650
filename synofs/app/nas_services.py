"""The commands of a running mount that have the NAS do something: its end of `synofs cp`, `share` and so on."""

from __future__ import annotations

from functools import partial

from synofs.app.assembly import Parts
from synofs.app.commands import Request
from synofs.app.config import Settings
from synofs.app.control import LongCommand
from synofs.app.nas_account import AccountServices
from synofs.app.nas_desk import NasDesk
from synofs.app.nas_files import FileServices


def nas_commands(parts: Parts, settings: Settings) -> dict[type[Request], LongCommand]:
    desk = NasDesk(parts, settings)
    handlers = FileServices(desk).handlers() | AccountServices(desk).handlers()
    return {request: partial(desk.guarded, handler) for request, handler in handlers.items()}
