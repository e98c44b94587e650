"""`/webapi/`: from an HTTP request to the method of an API, and its answer back.

The order of the checks is DSM's: parameters (101), API (102), version (104), method (103), session (119 and the
like). API refusals are HTTP 200 with a JSON body.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from email.utils import formatdate
from functools import partial

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from . import strike, wire
from .api import METHODS
from .api.info_auth import sid_of, token_of
from .catalogue import served_at
from .nas import BODY_COMPLETE, Answer, Call, Method, Nas
from .pages import html_error
from .wire import ApiError, Params

_CGI_PATHS = ("entry.cgi", "auth.cgi", "query.cgi", "encryption.cgi")

_COOKIE_SECONDS = 7 * 86400

_MAX_FORM_BYTES = 32 * 2**20

_GZIP_MIN_BYTES = 512

# A thread costs more than to compress this much.
_GZIP_AT_ONCE_BYTES = 32 * 2**10


class FormTooLarge(Exception):
    """A urlencoded form of a size that nobody sends."""


class WebApi:
    """The ASGI application below `/webapi`."""

    def __init__(self, nas: Nas) -> None:
        self._nas = nas
        nas.answer = lambda call: self._answer(call, "entry.cgi")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, self._counting(scope, receive))
        path = scope["path"].removeprefix("/webapi").lstrip("/")
        if path.partition("/")[0] not in _CGI_PATHS:
            await html_error(404)(scope, receive, send)
            return
        if request.method not in ("GET", "POST"):
            await html_error(405)(scope, receive, send)  # nothing is on record of HEAD and the rest
            return
        try:
            call = await self._decode(request)
        except ClientDisconnect:
            return
        except FormTooLarge:
            await html_error(413)(scope, receive, send)
            return
        name, began_at = f"{call.api}.{call.method}", time.time()
        with self._nas.stats.call(name):
            if self._nas.options.latency_seconds:
                await asyncio.sleep(self._nas.options.latency_seconds)
            try:
                response = await self._respond(call, path)
            except (strike.Dropped, ClientDisconnect):
                return
            finally:
                self._nas.stats.ended(began_at, name, call.about, call.outcome)
            await response(scope, receive, strike.shaped(call, send))

    # -- requests --

    async def _decode(self, request: Request) -> Call:
        quirks = self._nas.quirks
        fields = wire.decode_query(request.scope["query_string"], plus_is_space=quirks.plus_in_query == "space")
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if request.method == "POST" and content_type == "application/x-www-form-urlencoded":
            form = wire.decode_query(await _read(request, _MAX_FORM_BYTES), plus_is_space=True)
            fields = form | fields
        version = fields.get("version", "")
        number = int(version) if version.isascii() and version.isdigit() else 0
        api = fields.get("api", "").strip('"')
        method = fields.get("method", "").strip('"')
        # Auth and Info take raw values in every version.
        takes_json = number >= 2 and not api.startswith("SYNO.API.")
        params = Params(fields, 2 if takes_json else 1, quirks)
        return Call(self._nas, request, api, number, method, params)

    def _counting(self, scope: Scope, receive: Receive) -> Receive:
        async def counted() -> Message:
            message = await receive()
            size = len(message.get("body", b""))
            scope[BODY_COMPLETE] = not message.get("more_body", False)
            self._nas.stats.bytes_received += size
            await self._nas.uplink.pass_bytes(size)
            return message

        return counted

    # -- answers --

    async def _respond(self, call: Call, path: str) -> Response:
        quirks = self._nas.quirks
        try:
            answer = await self._answer(call, path)
        except ApiError as error:
            call.outcome = f"error {error.code}"
            response = await self._json(call, path, wire.failure(error, quirks))
            if call.api == "SYNO.FileStation.Download" and error.code in (105, 106, 107, 119):
                response.headers["x-request-error"] = "unauth"
        else:
            if isinstance(answer, Response):
                response = answer
                call.outcome = f"HTTP {answer.status_code}"
            else:
                response = await self._json(call, path, wire.success(answer, quirks))
                call.outcome = "ok"
        response.headers["keep-alive"] = "timeout=20"
        if call.found_session is not None:
            response.headers["set-cookie"] = _cookie(call.found_session.sid)
        return response

    async def _answer(self, call: Call, path: str) -> Answer:
        if call.api == "SYNO.FileStation.Upload":
            # Its path is in the body, so that the method itself looks for the faults that hit it.
            return await self._method(call, path)(call)
        paths = call.about = "\n".join(call.params.all_texts())
        struck = self._nas.faults.striking(call.api, call.method, paths)
        early = await strike.strike(call, struck)
        if early is not None:
            return early
        answer = await self._method(call, path)(call)
        late = strike.late_answer(struck)
        return answer if late is None else late

    async def _json(self, call: Call, path: str, body: bytes) -> Response:
        """A JSON answer as nginx sends it on: chunked, compressed if the client takes it."""
        is_old_cgi = path in ("auth.cgi", "query.cgi", "encryption.cgi")
        headers = {
            "content-type": f'{"text/plain" if is_old_cgi else "application/json"}; charset="UTF-8"',
            "cache-control": "max-age=0, no-cache, no-store, must-revalidate",
        }
        offered = call.request.headers.get("accept-encoding", "")
        if len(body) >= _GZIP_MIN_BYTES and "gzip" in offered and self._nas.quirks.gzip == "on":
            headers["content-encoding"] = "gzip"
            compress = partial(gzip.compress, body, 1, mtime=0)
            body = compress() if len(body) <= _GZIP_AT_ONCE_BYTES else await self._nas.on_disk(compress)
        response = Response(body, headers=headers)
        del response.headers["content-length"]
        return response

    def _method(self, call: Call, path: str) -> Method:
        """The method that a call means, its session checked."""
        if not call.api or not call.method or call.params.raw("version") is None:
            raise ApiError(101)
        entry = self._nas.apis.get(call.api)
        if entry is None or not served_at(call.api, entry, path):
            raise ApiError(102)
        if not entry.min_version <= call.version <= entry.max_version:
            raise ApiError(104)
        method = METHODS.get(call.api, {}).get(call.method)
        if method is None:
            raise ApiError(103)
        if not call.api.startswith("SYNO.API."):
            session = self._nas.sessions.find(sid_of(call))
            self._nas.sessions.check(call.api, session, token_of(call), call.address)
            call.found_session = session
        return method


def _cookie(sid: str) -> str:
    """`Set-Cookie` of a session."""
    until = formatdate(time.time() + _COOKIE_SECONDS, usegmt=True)
    return f"id={sid}; expires={until}; HttpOnly; Max-Age={_COOKIE_SECONDS}; Path=/"


async def _read(request: Request, limit: int) -> bytes:
    """The body of a form."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise FormTooLarge
    return bytes(body)
