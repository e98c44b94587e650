"""A NAS as `synofs doctor` sees it: raw calls and raw answers.

The client smooths over what it knows to differ between builds. Here nothing is smoothed over: a check wants to see
what really comes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from synofs.app.assembly import client_options
from synofs.app.config import Settings
from synofs.app.credentials import Credentials
from synofs.app.doctor import Skipped
from synofs.filestation.discovery import INFO_PATHS
from synofs.filestation.requests_transport import RequestsTransport
from synofs.filestation.transport import Request, Response

ANSWER_SECONDS = 30.0
SAMPLE_FOLDERS = 40  # how many folders are looked into for something to check with

Entry = dict[str, Any]
Parameters = Mapping[str, object]


class Refused(Exception):
    """The NAS answered with an error code. `error` is its error object."""

    def __init__(self, what: str, error: Mapping[str, Any]) -> None:
        self.code = int(error.get("code", 0))
        self.error = error
        super().__init__(f"{what}: code {self.code}")


class NasProbe:
    """One NAS under examination, and what was learnt about it so far."""

    def __init__(self, settings: Settings, credentials: Credentials | None) -> None:
        self.settings = settings
        self.credentials = credentials
        self.transport = RequestsTransport(client_options(settings).transport_options())
        self.apis: dict[str, Entry] = {}
        self.map_path = INFO_PATHS[0]
        self.session: Entry = {}  # the reply to the sign-in
        self.shares: list[Entry] | None = None
        self._samples: tuple[Entry | None, Entry | None] | None = None

    # ----- raw calls --------------------------------------------------------------------------------------------

    async def call(
        self,
        api: str,
        method: str,
        version: int,
        parameters: Parameters | None = None,
        *,
        post: bool = False,
        headers: Mapping[str, str] | None = None,
        session: Parameters | None = None,
    ) -> Response:
        """A call with the session that was signed in, or with the one given."""
        if self.apis and api not in self.apis:
            raise Skipped(f"this NAS has no {api}")
        path = f"/webapi/{self.apis[api]['path'] if self.apis else self.map_path}"
        words = {"api": api, "version": version, "method": method, **(parameters or {})}
        words |= self.signed if session is None else session
        text = urlencode({name: _word(value) for name, value in words.items()}, quote_via=quote)
        headers = dict(headers or {})
        if not post:
            request = Request("GET", path, query=text, headers=headers, answer_seconds=ANSWER_SECONDS)
        else:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            request = Request("POST", path, headers=headers, body=text.encode(), answer_seconds=ANSWER_SECONDS)
        return await self.transport.send(request)

    async def data(self, api: str, method: str, version: int, parameters: Parameters | None = None) -> Entry:
        """What a call that must succeed returns."""
        return unwrap(f"{api}.{method}", await self.call(api, method, version, parameters))

    @property
    def signed(self) -> dict[str, str]:
        """The parameters that stand for the session."""
        words = {"_sid": self.session.get("sid"), "SynoToken": self.session.get("synotoken")}
        return {name: value for name, value in words.items() if value}

    # ----- things to check with ---------------------------------------------------------------------------------

    def need_session(self) -> None:
        if not self.session:
            raise Skipped("not signed in")

    async def need_shares(self) -> list[Entry]:
        self.need_session()
        if not self.shares:
            raise Skipped("this account sees no share")
        return self.shares

    async def need_folder(self) -> Entry:
        """The listing of a folder with at least two entries."""
        folder, _ = await self._find_samples()
        if folder is None:
            raise Skipped("no folder with two entries was found")
        return folder

    async def need_file(self) -> Entry:
        """A file of at least 16 bytes."""
        _, file = await self._find_samples()
        if file is None:
            raise Skipped("no file of 16 bytes was found")
        return file

    async def _find_samples(self) -> tuple[Entry | None, Entry | None]:
        if self._samples is not None:
            return self._samples
        waiting = [share["path"] for share in await self.need_shares()]
        folder: Entry | None = None
        file: Entry | None = None
        for _ in range(SAMPLE_FOLDERS):
            if not waiting or (folder and file):
                break
            listing = await self.list(waiting.pop(0), limit=500)
            if listing is None:
                continue
            files = listing["files"]
            if folder is None and len(files) >= 2:
                folder = listing
            file = file or next((f for f in files if not f["isdir"] and size_of(f) >= 16), None)
            waiting += [f["path"] for f in files if f["isdir"] and not f["name"].startswith(("#", "@"))]
        self._samples = folder, file
        return self._samples

    async def list(self, folder: str, *, offset: int = 0, limit: int = 0) -> Entry | None:
        """A page of a folder with `folder_path` added; None where this account may not look."""
        parameters = {
            "folder_path": folder,
            "offset": offset,
            "limit": limit,
            "sort_by": "name",
            "additional": ["size", "time", "perm"],
        }
        try:
            return {**await self.data("SYNO.FileStation.List", "list", 2, parameters), "folder_path": folder}
        except Refused:
            return None


def _word(value: object) -> str:
    """Arrays and paths as JSON, as version 2 of the File Station APIs wants them; everything else as it is."""
    if isinstance(value, list) or (isinstance(value, str) and value.startswith("/")):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def unwrap(what: str, response: Response) -> Entry:
    """The `data` of an answer."""
    answer = answer_of(what, response)
    if not answer.get("success"):
        raise Refused(what, answer.get("error") or {})
    data = answer.get("data")
    return data if isinstance(data, dict) else {}


def answer_of(what: str, response: Response) -> Entry:
    try:
        answer = json.loads(response.body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or "success" not in answer:
        kind = response.head.content_type or "no content type"
        raise ValueError(f"{what}: HTTP {response.status}, {kind}, is not an answer of the API")
    return answer


def size_of(entry: Entry) -> int:
    return int(entry.get("additional", {}).get("size", 0))
