"""The NAS as a `RemoteStore`: one method for each promise, and the one place where the layers are put together.

client > caller (retry > session) > wire (lanes) > transport > NAS
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import BinaryIO
from urllib.parse import urlsplit

import trio

from synofs.filestation import calls
from synofs.filestation.auth import AuthManager, AuthOptions, Credentials
from synofs.filestation.caller import Caller
from synofs.filestation.changes import Changes
from synofs.filestation.discovery import INFO_PATHS, ApiInfo
from synofs.filestation.download import Downloader
from synofs.filestation.health import Health, HealthOptions
from synofs.filestation.lanes import Lane, LaneOptions, Lanes
from synofs.filestation.listing import Pager, PagingOptions
from synofs.filestation.manyentries import ManyEntries
from synofs.filestation.manyfiles import ManyFiles
from synofs.filestation.manylists import ManyLists
from synofs.filestation.parsing import Listing, space_of
from synofs.filestation.requests_transport import RequestsTransport
from synofs.filestation.retry import RetryOptions
from synofs.filestation.secret import Secret
from synofs.filestation.services import Services
from synofs.filestation.tasks import TaskOptions, Tasks
from synofs.filestation.thumbnails import thumbnail
from synofs.filestation.transport import Transport, TransportOptions
from synofs.filestation.upload import Uploader, UploadOptions
from synofs.filestation.wire import Counters, Wire
from synofs.remote import (
    BadAnswer,
    GrowingUpload,
    NotANas,
    OnData,
    OnListed,
    OnPage,
    OnPageOf,
    OnProgress,
    RemoteEntry,
    Space,
    TimedOut,
)

DEFAULT_PORTS = {"https": 5001, "http": 5000}

SIGN_OUT_SECONDS = 3.0


@dataclass(frozen=True)
class ClientOptions:
    """Where the NAS is, how it is trusted, and how much is asked of it. Raises `ValueError` if it makes no sense."""

    url: str  # "https://nas:5001", "http://nas:5000", "https://example.org/nas"
    max_requests: int = 6  # at once; what a browser that shows DSM opens
    metadata_deadline_seconds: float = 20.0  # for one API call with all its retries
    connect_timeout_seconds: float = 5.0
    ca_file: str | None = None
    fingerprint: str | None = None  # SHA-256 of the certificate in hex; replaces every other check of it
    insecure_http: bool = False  # allows an http:// address
    auth: AuthOptions = field(default_factory=AuthOptions)
    retry: RetryOptions = field(default_factory=RetryOptions)
    paging: PagingOptions = field(default_factory=PagingOptions)
    tasks: TaskOptions = field(default_factory=TaskOptions)
    upload: UploadOptions = field(default_factory=UploadOptions)
    health: HealthOptions = field(default_factory=HealthOptions)

    def __post_init__(self) -> None:
        if self.max_requests < 1:
            raise ValueError("at least one request must be allowed")
        self.transport_options()

    def transport_options(self) -> TransportOptions:
        parts = urlsplit(self.url)
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"no address of a NAS: {parts.scheme}://{parts.hostname or ''}")
        if parts.username is not None or parts.password is not None:
            raise ValueError("the address of the NAS must not hold a user or a password")
        if parts.scheme == "http" and not self.insecure_http:
            raise ValueError("http:// sends the password in clear; use https://, or allow it with insecure_http")
        return TransportOptions(
            scheme=parts.scheme,
            host=parts.hostname,
            port=parts.port or DEFAULT_PORTS[parts.scheme],
            base_path=parts.path.rstrip("/"),
            # One for each lane, and a place for a connection that is just being replaced.
            max_connections=self.max_requests + 2,
            connect_timeout_seconds=self.connect_timeout_seconds,
            ca_file=self.ca_file,
            fingerprint=normal_fingerprint(self.fingerprint) if self.fingerprint else None,
        )


def normal_fingerprint(text: str) -> str:
    """SHA-256 as 64 lower-case hex digits; colons and spaces between them are fine."""
    digits = re.sub(r"[:\s]", "", text).lower().removeprefix("sha256")
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ValueError("a fingerprint has 64 hex digits (SHA-256)")
    return digits


@dataclass(frozen=True)
class ClientStats:
    """What was asked and moved since the start, and how busy the NAS is now."""

    api_calls: Mapping[str, int]  # "SYNO.FileStation.List.list": 12
    bytes_read: int
    bytes_written: int
    sign_ins: int
    max_requests: int
    allowed_requests: float  # less than max_requests after the NAS said that it is too busy
    active_requests: int
    waiting_requests: int


class FileStationClient:
    """A `RemoteStore` over File Station. Use as an async context manager, or `connect()` and `aclose()`."""

    def __init__(self, options: ClientOptions, credentials: Credentials, *, transport: Transport | None = None) -> None:
        self._options = options
        self._counters = Counters()
        self._lanes = Lanes(LaneOptions(options.max_requests))
        self._transport = transport or RequestsTransport(options.transport_options())
        self._wire = Wire(self._transport, self._lanes, self._counters)
        self._auth = AuthManager(self._wire, credentials, options.auth)
        # The probe has a connection of its own: the others may all be stuck.
        self._probe_transport = transport or RequestsTransport(options.transport_options())
        self._probe_wire = Wire(self._probe_transport, Lanes(LaneOptions(1)), Counters())
        self.health = Health(self.probe, self._counters.activity, options.health)
        self._caller = Caller(self._wire, self._auth, options.retry, options.metadata_deadline_seconds, self.health)
        self._pager = Pager(options.paging)
        self._many_lists = ManyLists(self._caller, self._pager, options.paging.first_page)
        self._many_entries = ManyEntries(self._caller)
        self._downloader = Downloader(self._caller, self._counters)
        self._many_files = ManyFiles(self._caller, self._counters)
        tasks = Tasks(self._caller, options.tasks)
        self._changes = Changes(self._caller, tasks, self._downloader)
        self.services = Services(self._caller, tasks, self._pager, self._changes)
        self._uploader = Uploader(self._caller, self._changes, self._counters, options.upload)

    # ----- life -------------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Find the NAS's APIs and sign in, once, without retries. Calls sign in by themselves if it is left out."""
        await self._auth.session()

    async def greet(self) -> None:
        """Find the NAS's APIs, once. Nothing of the account is sent."""
        await self._auth.discover()

    async def aclose(self) -> None:
        """Sign out (a few seconds at most) and close all connections. Never raises a RemoteError."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + SIGN_OUT_SECONDS):
            await self._auth.sign_out()
        await self._probe_transport.aclose()
        await self._transport.aclose()

    async def __aenter__(self) -> FileStationClient:
        try:
            await self.connect()
        except BaseException:
            await self._transport.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def set_credentials(self, credentials: Credentials) -> None:
        """Sign in with these from now on. The only way out of a refused sign-in, which is never tried again."""
        self._auth.set_credentials(credentials)

    @property
    def device_id(self) -> Secret | None:
        """What to keep for later sign-ins without a one-time code, once the NAS gave it."""
        return self._auth.device_id

    async def probe(self) -> None:
        """Ask the NAS for a sign of life, without signing in. Raises what is wrong, within a few seconds."""
        seconds = min(10.0, self._options.metadata_deadline_seconds)
        call = calls.info(["SYNO.API.Auth"])
        with trio.move_on_after(seconds):
            for path in INFO_PATHS:
                try:
                    await self._probe_wire.ask(call, dict[str, ApiInfo], lane=Lane.SIGN_IN, info_path=path)
                    return
                except (BadAnswer, NotANas):
                    if path == INFO_PATHS[-1]:
                        raise
        raise TimedOut("the NAS: no answer came in time")

    def hang_up(self) -> None:
        """Connections are dead (the machine slept, or is in another network). Each call makes a new one; those under
        way that may be repeated are repeated, and the session is renewed if the NAS has forgotten it."""
        self._probe_transport.hang_up()
        self._transport.hang_up()

    def local_address(self) -> str | None:
        """From which address of this machine the NAS is reached now, if at all."""
        return self._transport.local_address()

    def stats(self) -> ClientStats:
        lanes = self._lanes.state()
        return ClientStats(
            api_calls=dict(self._counters.api_calls),
            bytes_read=self._counters.bytes_read,
            bytes_written=self._counters.bytes_written,
            sign_ins=self._auth.sign_ins,
            max_requests=lanes.max_requests,
            allowed_requests=lanes.allowed,
            active_requests=lanes.active,
            waiting_requests=lanes.waiting,
        )

    # ----- reading ----------------------------------------------------------------------------------------------

    async def list_dir(self, path: str, on_page: OnPage) -> None:
        async def fetch(offset: int, limit: int) -> Listing:
            is_root = path == "/"
            call = calls.list_shares(offset, limit) if is_root else calls.list_folder(path, offset, limit)
            return await self._caller.call(call, Listing)

        await self._pager.list(fetch, on_page, path)

    async def list_dirs(self, paths: Sequence[str], on_page: OnPageOf, on_listed: OnListed) -> None:
        await self._many_lists.list_dirs(paths, on_page, on_listed)

    @property
    def folders_at_once(self) -> int:
        return self._many_lists.folders_at_once

    async def get_entries(self, paths: Sequence[str]) -> list[RemoteEntry | None]:
        return await self._many_entries.get(paths)

    async def read_range(self, path: str, offset: int, length: int, size: int, on_data: OnData) -> None:
        await self._downloader.read_range(path, offset, length, size, on_data)

    async def read_files(self, files: Sequence[tuple[str, int]]) -> list[bytes | None]:
        return await self._many_files.read(files)

    @property
    def files_at_once(self) -> int:
        return self._many_files.files_at_once

    @property
    def ranges_ignored(self) -> bool:
        return self._downloader.ranges_ignored

    def clock_seconds(self) -> float | None:
        offset = self._wire.clock_offset_seconds
        return None if offset is None else time.monotonic() + offset

    async def spaces(self) -> dict[str, Space]:
        listing = await self._caller.call(calls.list_shares(0, 0, details=("volume_status",)), Listing)
        found = {record.name: space_of(record) for record in listing.records if record.name}
        return {name: space for name, space in found.items() if space is not None}

    async def thumbnail(self, path: str, size: str) -> bytes:
        """The NAS's own thumbnail of a picture; `NotFound` when it has none, or has none yet."""
        return await thumbnail(self._caller, path, size)

    # ----- writing ----------------------------------------------------------------------------------------------

    async def upload(
        self,
        path: str,
        source: BinaryIO,
        size: int,
        mtime_ns: int | None,
        *,
        overwrite: bool,
        on_progress: OnProgress | None = None,
    ) -> None:
        await self._uploader.upload(path, source, size, mtime_ns, overwrite=overwrite, on_progress=on_progress)

    def begin_upload(self, path: str, *, overwrite: bool) -> GrowingUpload | None:
        return self._uploader.begin(path, overwrite=overwrite)

    async def make_dir(self, path: str) -> RemoteEntry:
        return await self._changes.make_dir(path)

    async def rename(self, path: str, new_name: str) -> RemoteEntry:
        return await self._changes.rename(path, new_name)

    async def move(self, path: str, dest_dir: str, *, overwrite: bool) -> RemoteEntry:
        return await self._changes.move(path, dest_dir, overwrite=overwrite)

    async def remove(self, path: str) -> None:
        await self._changes.remove(path)

    async def check_writable(self, dir_path: str, name: str) -> None:
        await self._changes.check_writable(dir_path, name)

    async def md5(self, path: str) -> str:
        return await self._changes.md5(path)
