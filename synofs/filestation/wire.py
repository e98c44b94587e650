"""One attempt at one call: an `ApiCall` and a session become an HTTP request in a lane, and its answer a value.

The lowest place that knows both the API and HTTP. Everything that goes wrong leaves it as a `RemoteError`, whose
`__cause__` is the `TransportError` where there is one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import TypeVar

from synofs.filestation import retry
from synofs.filestation.calls import ApiCall, form
from synofs.filestation.discovery import INFO_PATHS, Apis
from synofs.filestation.lanes import Lane, Lanes
from synofs.filestation.parsing import data_of
from synofs.filestation.secret import Secret
from synofs.filestation.transport import (
    AnswerError,
    BodyCut,
    BodySink,
    CertificateUntrusted,
    ConnectError,
    Head,
    ReceiveError,
    ReceiveTimeout,
    Redirected,
    Request,
    RequestBody,
    Response,
    SendError,
    SendTimeout,
    SourceFailed,
    TlsTimeout,
    Transport,
    TransportError,
)
from synofs.remote import (
    BadAnswer,
    CertificateRefused,
    FileTooBig,
    InputOutput,
    InvalidRequest,
    NotANas,
    Overloaded,
    RemoteError,
    ShortBody,
    TimedOut,
    Unavailable,
    Unreachable,
)

T = TypeVar("T")


class Placement(Enum):
    """Where a request carries its session.

    Parameters are what the guide documents; for downloads and uploads they are part of the URL, which proxies
    log. The cookie is what DSM's own pages use, and other clients in production, but it is not documented for
    this API: it is tried first, and given up when the NAS does not take it.
    """

    COOKIE = "cookie"
    PARAMETERS = "parameters"


@dataclass(frozen=True, eq=False)
class Session:
    """What signing in gave. Compared by identity: another object is another session."""

    sid: Secret
    syno_token: Secret | None = None
    placement: Placement = Placement.COOKIE
    since: float = 0.0
    token_renewed: bool = False  # the SynoToken is not the one that came with the sid

    def headers(self) -> dict[str, str]:
        if self.placement is Placement.PARAMETERS:
            return {}
        headers = {"Cookie": f"id={self.sid.reveal()}"}
        if self.syno_token is not None:
            headers["X-SYNO-TOKEN"] = self.syno_token.reveal()
        return headers

    def parameters(self, *, always: bool = False) -> dict[str, str]:
        if self.placement is Placement.COOKIE and not always:
            return {}
        parameters = {"_sid": self.sid.reveal()}
        if self.syno_token is not None:
            parameters["SynoToken"] = self.syno_token.reveal()
        return parameters


@dataclass
class Counters:
    """What was asked and moved."""

    api_calls: Counter[str] = field(default_factory=Counter)
    bytes_read: int = 0
    bytes_written: int = 0
    answers: int = 0

    def activity(self) -> int:
        """Grows with every sign of life of the NAS."""
        return self.answers + self.bytes_read + self.bytes_written


SMALL_BYTES = 256 * 1024  # a transfer of this size takes no longer than an answer does


class Wire:
    """Asks the NAS, once."""

    def __init__(self, transport: Transport, lanes: Lanes, counters: Counters) -> None:
        self._transport = transport
        self._lanes = lanes
        self._counters = counters
        self.clock_offset_seconds: float | None = None  # the NAS's clock less our monotonic one; None: not known
        self._date = ""  # of the last answer
        self.apis: Apis | None = None  # set by whoever signs in
        self.trouble = False  # a connection could not be made since this was last reset

    async def ask(
        self,
        call: ApiCall,
        kind: type[T],
        session: Session | None = None,
        *,
        lane: Lane = Lane.METADATA,
        answer_seconds: float = 30.0,
        fresh_connection: bool = False,
        always_parameters: bool = False,
        info_path: str = INFO_PATHS[0],
    ) -> T:
        """A call with a small answer. Its parameters travel in a form body: no URL holds a name or a password."""
        parameters = self._basic_parameters(call) | dict(call.parameters)
        if session is not None:
            parameters |= session.parameters(always=always_parameters)
        request = Request(
            "POST",
            self._path(call, info_path),
            headers={
                "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
                "Accept-Encoding": "gzip",
                **(session.headers() if session is not None else {}),
            },
            body=form(parameters).encode("ascii"),
            answer_seconds=answer_seconds,
            max_answer_bytes=call.max_answer_bytes,
            fresh_connection=fresh_connection,
        )
        async with self._attempt(call, lane):
            response = self._clocked(await self._transport.send(request))
            check_status(response.head, call.path)
            return data_of(call.api, response.body, kind, path=call.path)

    async def fetch(
        self,
        call: ApiCall,
        session: Session,
        sink: BodySink,
        *,
        headers: Mapping[str, str],
        lane: Lane,
        body_offset: int = 0,
        max_answer_bytes: int = 1024 * 1024,  # an error's text; files go to the sink
        answer_seconds: float = 30.0,
        fresh_connection: bool = False,
        more_follows: bool = False,
    ) -> Response:
        """A call by GET whose answer is a file. (DSM honours `Range` for GET only.)"""
        parameters = self._basic_parameters(call) | dict(call.parameters) | session.parameters()
        request = Request(
            "GET",
            self._path(call),
            query=form(parameters),
            headers={"Accept-Encoding": "identity", **headers, **session.headers()},
            answer_seconds=answer_seconds,
            max_answer_bytes=max_answer_bytes,
            bulk=True,
            body_offset=body_offset,
            fresh_connection=fresh_connection,
            more_follows=more_follows,
        )
        async with self._attempt(call, lane):
            return await self._transport.send(request, sink)

    async def post_file(
        self,
        call: ApiCall,
        kind: type[T],
        session: Session,
        body: RequestBody,
        *,
        headers: Mapping[str, str],
        answer_seconds: float,
        stall_seconds: float,
        fresh_connection: bool = False,
    ) -> T:
        """A multipart POST. DSM looks for API and session in the URL or the cookie, and not in the body's parts."""
        request = Request(
            "POST",
            self._path(call),
            query=form(self._basic_parameters(call) | session.parameters()),
            headers={"Accept-Encoding": "identity", **headers, **session.headers()},
            body=body,
            answer_seconds=answer_seconds,
            stall_seconds=stall_seconds,
            max_answer_bytes=1024 * 1024,
            bulk=True,
            fresh_connection=fresh_connection,
        )
        async with self._attempt(call, lane_of(body.length)):
            response = self._clocked(await self._transport.send(request))
            check_status(response.head, call.path)
            return data_of(call.api, response.body, kind, path=call.path)

    def _clocked(self, response: Response) -> Response:
        """Learn from the `Date` of an answer (RFC 9110, 6.6.1) what the NAS's clock says. Either clock may be set at
        any moment, so every answer counts; most are of the second of the last one, and not read again."""
        date = response.head.headers.get("date", "")
        if date != self._date:
            self._date = date
            self.clock_offset_seconds = clock_offset(date, time.monotonic())
        return response

    def _basic_parameters(self, call: ApiCall) -> dict[str, str]:
        version = call.version
        if call.api != "SYNO.API.Info":
            version = self._known_apis().version_of(call)
        return {"api": call.api, "version": str(version), "method": call.method}

    def _path(self, call: ApiCall, info_path: str = INFO_PATHS[0]) -> str:
        where = info_path if call.api == "SYNO.API.Info" else self._known_apis().path(call.api)
        return f"/webapi/{where}"

    def _known_apis(self) -> Apis:
        assert self.apis is not None, "the NAS was not asked for its APIs yet"
        return self.apis

    @asynccontextmanager
    async def _attempt(self, call: ApiCall, lane: Lane) -> AsyncIterator[None]:
        """In a lane, counted, with failures translated, and the lanes told how it went."""
        async with self._lanes.enter(lane) as passage:
            self._counters.api_calls[call.name] += 1
            try:
                try:
                    yield
                except TransportError as exc:
                    self.trouble = self.trouble or isinstance(exc, ConnectError)
                    raise translated(exc, call.path) from exc
                except RemoteError:
                    self._counters.answers += 1
                    raise
                self._counters.answers += 1
            except RemoteError as exc:
                if retry.is_overload(exc):
                    passage.overloaded()
                raise
            passage.went_well()


def clock_offset(date: str, now: float) -> float | None:
    try:
        moment = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return moment - now


def lane_of(length: int) -> Lane:
    return Lane.SMALL if length <= SMALL_BYTES else Lane.BULK


# ----- failures -------------------------------------------------------------------------------------------------

# The nearest class in an error's ancestry counts, so a whole phase needs one line.
ERRORS: Mapping[type[TransportError], type[RemoteError]] = {
    ConnectError: Unreachable,
    TlsTimeout: TimedOut,
    SendError: Unreachable,
    SendTimeout: TimedOut,
    SourceFailed: InputOutput,
    ReceiveError: Unreachable,
    ReceiveTimeout: TimedOut,
    BodyCut: ShortBody,
    AnswerError: BadAnswer,
    Redirected: NotANas,
}


def translated(error: TransportError, path: str | None = None) -> RemoteError:
    if isinstance(error, CertificateUntrusted):
        return CertificateRefused(f"the NAS's certificate: {error}", fingerprint=error.fingerprint)
    kind = next(ERRORS[base] for base in type(error).__mro__ if base in ERRORS)
    return kind(f"the NAS: {error}", path=path)


_OVERLOADED_STATUS = frozenset({429, 502, 503, 504})
_REFUSED_STATUS = frozenset({414, 431})  # too long; asking again does not make it shorter


def check_status(head: Head, path: str | None) -> None:
    """The API answers with 200 whatever happens; another status is from a web server or a proxy before it."""
    status = head.status
    if status == 200:
        return
    if status in _OVERLOADED_STATUS:
        text = f"the NAS, or a proxy before it, is too busy (HTTP {status})"
        raise Overloaded(text, path=path, code=status)
    if status == 413:
        text = "a proxy before the NAS does not take a file of this size (HTTP 413)"
        raise FileTooBig(text, path=path, code=status)
    if status in _REFUSED_STATUS:
        raise InvalidRequest(f"the NAS, or a proxy before it, does not take the request (HTTP {status})", path=path)
    if status >= 500 and status != 501:  # 501: a plain web server's word for POST
        raise Unavailable(f"the NAS, or a proxy before it, failed (HTTP {status})", path=path, code=status)
    raise BadAnswer(f"no answer of a NAS, but HTTP {status}", path=path, code=status)
