"""The whole simulated NAS, and one call to it."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from .bandwidth import Link
from .catalogue import api_map
from .connection import SCOPE_KEY, Connection
from .directory import DirectoryReader
from .faults import FaultList
from .options import Options
from .records import Records
from .remembered import Remembered
from .sessions import Session, Sessions
from .shares import Location, Shares
from .stats import Stats
from .tasks import Tasks
from .volume import Volume
from .wire import ApiError, Params

Result = TypeVar("Result")

# In the scope of a request: its body has been read to the end.
BODY_COMPLETE = "simnas.body_complete"


class Nas:
    """State and services of the simulated NAS, shared by all calls."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.quirks = options.quirks
        self.apis = api_map(options.dsm)
        if options.quirks.compound == "absent":
            del self.apis["SYNO.Entry.Request"]
        self.answer: Callable[[Call], Awaitable[Answer]] = _nobody  # one call within another, set by the web API
        self.sessions = Sessions(options)
        self.shares = Shares(options.shares, options.quirks, recycle_bin=options.recycle_bin)
        self.volume = Volume(self.shares, options.volume_bytes, options.quota_bytes)
        self.directories = DirectoryReader(hide_not_utf8=options.quirks.names_not_utf8 == "hide")
        self.records = Records(options.accounts)
        self.stats = Stats()
        self.faults = FaultList()
        # Files that arrive in slices: the name the client knows, and the file on disk.
        self.slices: dict[str, str] = {}
        self.slice_sizes: dict[str, str | None] = {}  # announced with the first slice
        self.slice_numbers = itertools.count(1)
        # Held by whatever looks whether a name is taken and then takes it.
        self.changes = threading.Lock()
        self.tasks = Tasks(options.quirks)
        self.remembered = Remembered()
        self.uplink = Link(options.bandwidth_mbit)
        self.downlink = Link(options.bandwidth_mbit)
        # The disk. Its own pool, so that slow disk work of many calls cannot use up asyncio's default one.
        self._disk = ThreadPoolExecutor(max_workers=16, thread_name_prefix="disk")

    async def on_disk(self, work: Callable[..., Result], *args: Any) -> Result:
        """Runs blocking work in a thread."""
        self.stats.disk_turns += 1
        return await asyncio.get_running_loop().run_in_executor(self._disk, partial(work, *args))

    def close(self) -> None:
        """The end of the process: nothing that runs is waited for."""
        self.faults.clear()
        self.tasks.close()
        self._disk.shutdown(wait=False, cancel_futures=True)


@dataclass
class Shaping:
    """What shall happen to the body of an answer."""

    drop_after: int | None = None
    reset: bool = False
    truncate_to: int | None = None
    corrupt: bool = False

    @property
    def none(self) -> bool:
        return self == Shaping()


@dataclass
class Call:
    """One API call, with its parameters decoded and, if the method needs one, its session checked."""

    nas: Nas
    request: Request
    api: str
    version: int
    method: str
    params: Params
    found_session: Session | None = None
    shaping: Shaping = field(default_factory=Shaping)
    drop_request_after: int | None = None
    about: str = ""  # the texts that it gave
    outcome: str = "dropped"

    @property
    def session(self) -> Session:
        """The session of the call; only for methods that need one."""
        if self.found_session is None:
            raise ApiError(119)
        return self.found_session

    @property
    def connection(self) -> Connection:
        connection: Connection = self.request.scope[SCOPE_KEY]
        return connection

    @property
    def address(self) -> str:
        return self.request.client.host if self.request.client else ""

    def locate(self, path: str, *, follow: bool = True) -> Location:
        return self.nas.shares.locate(path, self.session, follow=follow)


# What a method returns: the content of `data` (None: no data), or a whole HTTP response.
Answer = Any | Response
Method = Callable[[Call], Awaitable[Answer]]


async def _nobody(call: Call) -> Answer:
    raise ApiError(100)


def looking(work: Callable[[Call], Answer]) -> Method:
    """A method that looks at a few entries of the disk: done at once, for a thread costs more than that."""

    async def method(call: Call) -> Answer:
        return work(call)

    return method


def blocking(work: Callable[[Call], Answer]) -> Method:
    """A method that works on the disk, run in a thread."""

    async def method(call: Call) -> Answer:
        return await call.nas.on_disk(work, call)

    return method
