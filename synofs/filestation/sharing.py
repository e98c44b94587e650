"""Sharing links: public addresses of files and folders, with a password and dates if wanted."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import msgspec

from synofs.filestation import calls
from synofs.filestation.api_errors import error_of_code
from synofs.filestation.caller import Caller
from synofs.filestation.parsing import Empty
from synofs.filestation.secret import Secret
from synofs.remote import BadAnswer, InputOutput, InvalidRequest, NotFound, RemoteError

API = "SYNO.FileStation.Sharing"
MAX_PASSWORD_LENGTH = 16
UNKNOWN_LINK = 401  # what a delete says of an id that it does not know


class Link(msgspec.Struct, frozen=True, rename={"is_dir": "isFolder", "owner": "link_owner"}):
    """A sharing link. Dates are as the NAS gives them, "" for none."""

    id: str
    path: str
    url: str
    name: str = ""
    is_dir: bool = False
    has_password: bool = False
    date_available: str = ""
    date_expired: str = ""
    status: str = "valid"  # invalid, expired, broken
    owner: str = ""


class _Made(msgspec.Struct, frozen=True):
    id: str = ""
    path: str = ""
    url: str = ""
    error: int = 0


class _MadeLinks(msgspec.Struct, frozen=True):
    links: list[_Made] = []


class _Links(msgspec.Struct, frozen=True):
    links: list[Link] = []
    total: int | None = None


class Sharing:
    """Makes, lists and removes the account's links."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def create(
        self,
        path: str,
        *,
        password: Secret | None = None,
        expires: datetime.date | None = None,
        available: datetime.date | None = None,
    ) -> Link:
        if password is not None and len(password.reveal()) > MAX_PASSWORD_LENGTH:
            raise InvalidRequest(f"a link's password has {MAX_PASSWORD_LENGTH} characters at most", path=path)
        call = calls.sharing_create(
            path,
            password.reveal() if password is not None else None,
            expires.isoformat() if expires is not None else None,
            available.isoformat() if available is not None else None,
        )
        made = (await self._caller.call(call, _MadeLinks)).links
        if len(made) != 1:
            raise BadAnswer("the NAS made another number of links than was asked for", path=path)
        if made[0].error:
            raise error_of_code(API, made[0].error, path=path)
        if not made[0].id or not made[0].url:
            raise BadAnswer("the NAS made a link without an address", path=path)
        return await self._checked(made[0], path, password is not None, expires)

    async def _checked(self, made: _Made, path: str, protected: bool, expires: datetime.date | None) -> Link:
        """A link that is open to more people, or for longer, than was asked for is worse than none."""
        link = await self._caller.call(calls.sharing_link(made.id, path), Link)
        if link.has_password is protected and link.date_expired.startswith(expires.isoformat() if expires else ""):
            return link
        lost = "password" if link.has_password is not protected else "last day"
        try:
            await self.remove([made.id])
        except RemoteError as exc:
            raise InputOutput(f"the link {made.id} lacks its {lost}; remove it in DSM", path=path) from exc
        raise InputOutput(f"the NAS made a link without the {lost}; it was removed again", path=path)

    async def list(self) -> Sequence[Link]:
        return (await self._caller.call(calls.sharing_links(), _Links)).links

    async def remove(self, ids: Sequence[str]) -> None:
        """Raises `NotFound` if one of them is not known (the others may be removed by then)."""
        try:
            await self._caller.call(calls.sharing_delete(ids), Empty)
        except RemoteError as exc:
            if exc.code == UNKNOWN_LINK:
                raise NotFound("there is no such sharing link", path=exc.path, code=exc.code) from exc
            raise
