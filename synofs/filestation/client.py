"""The NAS as a `RemoteStore`: one method for each promise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO

from synofs.filestation.auth import Credentials, Secret
from synofs.remote import OnData, OnPage, OnProgress, RemoteEntry, Space


@dataclass(frozen=True)
class ClientOptions:
    """Where the NAS is, how it is trusted, and how much is asked of it."""

    url: str  # "https://nas:5001", "http://nas:5000", "https://example.org/nas"
    max_requests: int = 6  # at once; what a browser that shows DSM opens
    metadata_deadline_seconds: float = 20.0  # for one API call with all its retries
    connect_timeout_seconds: float = 5.0
    ca_file: str | None = None
    fingerprint: str | None = None  # SHA-256 of the certificate in hex; replaces every other check of it
    insecure_http: bool = False  # allows an http:// address


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

    def __init__(self, options: ClientOptions, credentials: Credentials) -> None:
        self._options = options
        self._credentials = credentials

    # ----- life -----------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Find the NAS's APIs and sign in, once, without retries. Calls sign in by themselves if it is left out."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Sign out (a few seconds at most) and close all connections. Never raises a RemoteError."""
        raise NotImplementedError

    async def __aenter__(self) -> FileStationClient:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def set_credentials(self, credentials: Credentials) -> None:
        """Sign in with these from now on. The only way out of a refused sign-in, which is never tried again."""
        raise NotImplementedError

    @property
    def device_id(self) -> Secret | None:
        """What to keep for later sign-ins without a one-time code, once the NAS gave it."""
        raise NotImplementedError

    async def probe(self) -> None:
        """Ask the NAS for a sign of life, without signing in. Raises what is wrong."""
        raise NotImplementedError

    def stats(self) -> ClientStats:
        raise NotImplementedError

    # ----- RemoteStore ----------------------------------------------------------------------------------------

    async def list_dir(self, path: str, on_page: OnPage) -> None:
        raise NotImplementedError

    async def get_entries(self, paths: Sequence[str]) -> list[RemoteEntry | None]:
        raise NotImplementedError

    async def read_range(self, path: str, offset: int, length: int, size: int, on_data: OnData) -> None:
        raise NotImplementedError

    @property
    def ranges_ignored(self) -> bool:
        raise NotImplementedError

    async def space(self, share: str) -> Space | None:
        raise NotImplementedError

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
        raise NotImplementedError

    async def make_dir(self, path: str) -> RemoteEntry:
        raise NotImplementedError

    async def rename(self, path: str, new_name: str) -> RemoteEntry:
        raise NotImplementedError

    async def move(self, path: str, dest_dir: str, *, overwrite: bool) -> None:
        raise NotImplementedError

    async def remove(self, path: str) -> None:
        raise NotImplementedError

    async def check_writable(self, dir_path: str, name: str) -> None:
        raise NotImplementedError

    async def md5(self, path: str) -> str:
        raise NotImplementedError
