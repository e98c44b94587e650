"""What the NAS can do by itself, beyond what a filesystem asks of it: `client.services.search.find(...)`."""

from __future__ import annotations

import msgspec

from synofs.filestation import calls
from synofs.filestation.archives import Archives
from synofs.filestation.background import BackgroundTasks
from synofs.filestation.caller import Caller
from synofs.filestation.changes import Changes
from synofs.filestation.copying import Copying
from synofs.filestation.devices import Devices
from synofs.filestation.favourites import Favourites
from synofs.filestation.listing import Pager
from synofs.filestation.measures import Measures
from synofs.filestation.recycling import RecycleBin
from synofs.filestation.search import Search
from synofs.filestation.sharing import Sharing
from synofs.filestation.tasks import Tasks
from synofs.filestation.thumbnails import Thumbnails


class StationInfo(msgspec.Struct, frozen=True):
    """The NAS, and who this session is to it."""

    hostname: str = ""
    uid: int | None = None
    is_manager: bool = False
    support_sharing: bool = False


class Services:
    """One attribute for each service."""

    def __init__(self, caller: Caller, tasks: Tasks, pager: Pager, changes: Changes) -> None:
        self._caller = caller
        self.measures = Measures(caller, tasks, pager)
        self.copying = Copying(caller, tasks, changes, self.measures)
        self.search = Search(caller)
        self.sharing = Sharing(caller)
        self.recycle_bin = RecycleBin(caller, tasks, pager, changes, self.copying)
        self.archives = Archives(caller, tasks, changes)
        self.favourites = Favourites(caller)
        self.devices = Devices(caller)
        self.background = BackgroundTasks(caller)
        self.thumbnails = Thumbnails(caller)

    async def info(self) -> StationInfo:
        return await self._caller.call(calls.station_info(), StationInfo)
