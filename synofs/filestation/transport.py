"""The seam to HTTP: what goes in, what comes out, and every way it can fail. No I/O happens here.

The failures form a tree of phase x cause, because the phase decides what may be repeated:

    TransportError
      ConnectError        nothing of the request has left this machine
        HostUnknown  ConnectFailed  ConnectTimeout  TlsFailed  TlsTimeout  CertificateUntrusted
      SendError           the NAS may have seen a part of the request
        SendFailed  SendTimeout  SourceFailed
      ReceiveError        the NAS has the request, and its answer is missing or torn
        ReceiveFailed  ReceiveTimeout  BodyCut
      AnswerError         an answer came that is of no use
        NotHttp  BodyTooBig  Redirected
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

MAX_ANSWER_BYTES = 32 * 1024 * 1024  # a page of a listing has 2 MB; with the longest paths there are, ten times that


@dataclass(frozen=True)
class TransportOptions:
    """How the connection to one NAS is made and trusted."""

    scheme: str
    host: str
    port: int
    base_path: str = ""  # "/nas" for a NAS behind a reverse proxy's path
    max_connections: int = 8
    connect_timeout_seconds: float = 5.0
    # The NAS announces 20 s and was seen to hang up on idle connections after about 7.
    max_idle_seconds: float = 4.0
    ca_file: str | None = None
    fingerprint: str | None = None  # 64 lower-case hex digits


class RequestBody(Protocol):
    """A body that is made while it is sent, with its exact length known before."""

    @property
    def length(self) -> int: ...

    def pieces(self) -> Iterator[bytes | memoryview]:
        """From the first byte on, each time it is called. Runs in a worker thread, and may block on a disk."""

    def sent(self, byte_count: int) -> None:
        """So much of the body is on its way. Called in the caller's task; must not raise."""


class BodySink(Protocol):
    """Where the body of an answer goes when it is not to be kept in memory."""

    def wants(self, head: Head) -> bool:
        """Shall this answer's body come here? Called in a worker thread; otherwise the body is in `Response`."""

    async def take(self, piece: memoryview) -> bool:
        """The next bytes, for keeps. Awaited in the caller's task. False means: enough, hang up."""


@dataclass(frozen=True)
class Request:
    """One HTTP exchange. Its repr names the path only: query, headers and body may hold secrets."""

    method: str
    path: str  # below the NAS's address, "/webapi/entry.cgi"
    query: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | RequestBody | None = field(default=None, repr=False)
    # From the start (after the last byte of a `RequestBody`) until the answer's head, or until the whole
    # answer where no sink wants it.
    answer_seconds: float = 30.0
    # How long one piece of a streamed body may take, in either direction: no progress, not "took long".
    stall_seconds: float = 60.0
    max_answer_bytes: int = MAX_ANSWER_BYTES
    bulk: bool = False  # moves file contents
    body_offset: int = 0  # where in its file the answer's body begins, as far as is known
    fresh_connection: bool = False
    more_follows: bool = False  # the next one, soon and beside it: a connection is made ready for that


@dataclass(frozen=True)
class Head:
    """An answer before its body. Header names are in lower case; repeated headers are joined with ", "."""

    status: int
    headers: Mapping[str, str] = field(repr=False)

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def content_length(self) -> int | None:
        """None when it is not said, or nonsense: Python refuses to convert numbers of thousands of digits."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


@dataclass(frozen=True)
class Response:
    """An answer. `body` is empty when a sink took it."""

    head: Head
    body: bytes = field(repr=False)
    streamed: bool = False

    @property
    def status(self) -> int:
        return self.head.status


class Transport(Protocol):
    """Exchanges requests for answers with one NAS."""

    async def send(self, request: Request, sink: BodySink | None = None) -> Response:
        """One attempt: nothing is repeated, redirected or remembered.

        Raises a `TransportError`, and whatever the sink raises. When it is cancelled, or a time limit of the
        request passes, the connection is cut and the call ends at once.
        """

    def hang_up(self) -> None:
        """All connections are dead: cut those in use, close the others, and look the NAS up anew."""

    def local_address(self) -> str | None:
        """From which address of this machine the NAS is reached now; None if it is not, or was never looked up."""

    async def aclose(self) -> None:
        """Close all idle connections."""


class TransportError(Exception):
    """No usable answer."""

    def __init__(self, message: str, *, reused: bool = False) -> None:
        super().__init__(message)
        self.reused = reused  # on a connection that had served a request before


class ConnectError(TransportError):
    """Nothing of the request has left this machine."""


class HostUnknown(ConnectError):
    """The name has no address."""


class ConnectFailed(ConnectError):
    """Refused, reset, no route."""


class ConnectTimeout(ConnectError):
    """Nobody answered at that address."""


class TlsFailed(ConnectError):
    """Something answered, but it does not speak TLS as we do."""


class TlsTimeout(ConnectError):
    """The TLS handshake did not end."""


class CertificateUntrusted(ConnectError):
    """The certificate is not one that we trust. `fingerprint` is its SHA-256 in hex, "" if it was not seen."""

    def __init__(self, message: str, *, fingerprint: str = "") -> None:
        super().__init__(message)
        self.fingerprint = fingerprint


class SendError(TransportError):
    """The NAS may have seen a part of the request."""


class SendFailed(SendError):
    """The connection broke while the request was sent, and no answer was there to read."""


class SendTimeout(SendError):
    """The NAS stopped reading."""


class SourceFailed(SendError):
    """What was to be sent could not be read, or had not the length that was announced."""


class ReceiveError(TransportError):
    """The NAS has the request, and its answer is missing or torn."""


class ReceiveFailed(ReceiveError):
    """The connection ended before an answer."""


class ReceiveTimeout(ReceiveError):
    """No answer, or the answer stopped."""


class BodyCut(ReceiveError):
    """The connection ended within the answer's body."""


class AnswerError(TransportError):
    """An answer came that is of no use."""


class NotHttp(AnswerError):
    """What came is not HTTP, or not intact."""


class BodyTooBig(AnswerError):
    """More than we are ready to keep in memory."""


class Redirected(AnswerError):
    """The NAS, or what stands before it, points elsewhere. `target` is the address without path and query."""

    def __init__(self, message: str, *, target: str) -> None:
        super().__init__(message)
        self.target = target
