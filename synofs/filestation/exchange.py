"""One HTTP request under way: what its task and its thread share, and how the one stops the other.

A thread cannot be interrupted while it waits for the network, but its socket can be shut down from outside,
which ends the wait at once. So an exchange knows its socket before it is connected, and shuts it down (`cut`) when it
is cancelled or out of time. That makes all time limits real ones, whatever the NAS does: dribbling one byte a minute,
or nothing at all. The sockets have no time limits of their own.
"""

from __future__ import annotations

import contextlib
import http.client
import math
import mmap
import os
import socket
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import trio

from synofs.filestation.addresses import Address
from synofs.filestation.piecequeue import PieceQueue
from synofs.filestation.transport import (
    BodyCut,
    BodySink,
    BodyTooBig,
    ConnectFailed,
    ConnectTimeout,
    Head,
    NotHttp,
    ReceiveTimeout,
    Request,
    RequestBody,
    Response,
    SendTimeout,
    SourceFailed,
    TlsTimeout,
    TransportError,
    TransportOptions,
)

# A reader waits for the first bytes of a file, so they come in a small piece. The others are large, and end where the
# kernel's reads of a file do (1 MiB), so that a read is answered from one piece, without a copy.
FIRST_PIECE_BYTES = 64 * 1024
MAX_PIECE_BYTES = 1024 * 1024
SLOW_PIECE_SECONDS = 0.5  # who waits for a piece longer is handed smaller ones: they are the signs of life
SMALL_BODY_BYTES = 256 * 1024  # what is sent in one piece
FIRST_TRY_SECONDS = 0.4  # of each of several addresses
_HEAD_BUFFER_BYTES = 8 * 1024


_TIMEOUTS: dict[type[TransportError], str] = {
    ConnectTimeout: "nobody answered",
    TlsTimeout: "the TLS handshake did not end",
    SendTimeout: "it stopped reading the request",
    ReceiveTimeout: "no answer came in time",
}


class _Socket(socket.socket):
    """Waits in the kernel until a large buffer is full: at 1 Gbit/s bytes come in 15,000 parts a second, and for each
    the thread would need the interpreter."""

    def makefile(self, mode: str = "r", buffering: int | None = None, **options: Any) -> Any:
        """For http.client, whose own buffer takes what there is of a head. Python's size for it, 128 KiB since 3.14,
        would be waited for."""
        return super().makefile(mode, _HEAD_BUFFER_BYTES, **options)  # type: ignore[call-overload]

    def recv_into(self, buffer: memoryview, nbytes: int = 0, flags: int = 0) -> int:  # type: ignore[override]
        if len(buffer) > _HEAD_BUFFER_BYTES:  # a piece, or what its beginning in the head's buffer leaves of one
            flags |= socket.MSG_WAITALL
        return super().recv_into(buffer, nbytes, flags)


class Exchange:
    """A request, its deadline, its socket and its outcome."""

    def __init__(self, request: Request, sink: BodySink | None, options: TransportOptions) -> None:
        self.request = request
        self.sink = sink
        self.options = options
        self.addresses: Sequence[Address] = ()
        self.address: Address | None = None  # the one that took us, if a connection was made
        self.phase: type[TransportError] = ConnectTimeout  # what running out of time means just now
        self.connected = False  # by this exchange; otherwise its connection came from the pool
        self.send_failed = False
        self.raw_answer: http.client.HTTPResponse | None = None
        self.response: Response | None = None
        self.error: BaseException | None = None
        self.sink_error: Exception | None = None
        self.pieces_in = PieceQueue() if sink is not None else None
        self.handed_over = trio.Event()
        self.sent = trio.Event()  # if more follows: it has its connection, and is on its way
        self.streams_out = not isinstance(request.body, bytes | None) and request.body.length > SMALL_BODY_BYTES
        seconds = request.stall_seconds if self.streams_out else request.answer_seconds
        self.scope = trio.CancelScope(deadline=trio.current_time() + seconds)
        self._token = trio.lowlevel.current_trio_token()
        self._lock = threading.Lock()
        self._handle = -1  # our own descriptor of the socket
        self._over = False
        self.was_cut = False

    # ----- in the task ------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """It is cancelled, or its connection is dead: the thread meets an error at once."""
        if self.pieces_in is not None:
            self.pieces_in.close()
        with self._lock:
            self.was_cut = self.was_cut or not self._over
            self._over = True
            if self._handle >= 0:
                # Not through the thread's own socket object: an SSLSocket's shutdown() would turn it into a plain
                # one under the thread's hands, and its descriptor may be closed and given away at any moment.
                handle = socket.socket(fileno=self._handle)
                self._handle = -1
                with handle, contextlib.suppress(OSError):
                    handle.shutdown(socket.SHUT_RDWR)

    async def hand_over(self) -> None:
        """Give the pieces to the sink as they come, until the last one or until it has enough."""
        assert self.sink is not None
        assert self.pieces_in is not None
        while (piece := await self.pieces_in.next()) is not None:
            self.scope.deadline = math.inf  # the receiver's own time
            try:
                keep_on = await self.sink.take(piece)
            except Exception as exc:  # `send` raises it; here the nursery would wrap it
                self.sink_error, keep_on = exc, False
            if not keep_on:
                if self.pieces_in.close():
                    self.cut()
                break
            if self.pieces_in.empty:
                self._allow(self.request.stall_seconds)
        self.handed_over.set()

    def _count_sent(self, body: RequestBody, byte_count: int, *, last: bool) -> None:
        self._allow(self.request.answer_seconds if last else self.request.stall_seconds)
        body.sent(byte_count)

    def _allow(self, seconds: float) -> None:
        self.scope.deadline = trio.current_time() + seconds

    def timeout(self) -> TransportError:
        return self.failed(self.phase, _TIMEOUTS[self.phase])

    # ----- in the thread ----------------------------------------------------------------------------------------

    @property
    def sends_whole_body(self) -> bool:
        """There is a body, and it goes in one piece."""
        body = self.request.body
        return not self.streams_out and bool(body if isinstance(body, bytes | None) else body.length)

    def failed(self, kind: type[TransportError], message: str) -> TransportError:
        return kind(message, reused=self.phase is not ConnectTimeout and not self.connected)

    def has_been_sent(self) -> None:
        if self.request.more_follows:
            trio.from_thread.run_sync(self.sent.set, trio_token=self._token)

    def watch(self, sock: socket.socket) -> None:
        """From now on `sock` is what has to be shut down to end this exchange."""
        with self._lock:
            if self._over:
                raise ConnectFailed("given up")
            if self._handle >= 0:
                os.close(self._handle)
            self._handle = os.dup(sock.fileno())

    def finish(self) -> None:
        """The thread is done with the socket; from now on it belongs to the pool."""
        if self.pieces_in is not None:
            self.pieces_in.end()
        with self._lock:
            self._over = True
            if self._handle >= 0:
                os.close(self._handle)
                self._handle = -1

    def open_socket(self) -> socket.socket:
        """Connect to the first address that takes us."""
        failure: TransportError = ConnectFailed("it has no address")
        for address, seconds in self._tries():
            try:
                sock = self._connected(address, seconds)
            except TimeoutError as exc:
                failure = ConnectTimeout("nobody answered")
                failure.__cause__ = exc
            except OSError as exc:
                failure = ConnectFailed(exc.strerror or str(exc))
                failure.__cause__ = exc
            else:
                self.address = address
                return sock
        raise failure

    def _tries(self) -> Iterator[tuple[Address, float]]:
        """Each of several addresses for a moment first: behind one may be nobody (IPv6 that leads nowhere), and a probe
        has less time than a connection."""
        if len(self.addresses) > 1:
            yield from ((address, FIRST_TRY_SECONDS) for address in self.addresses)
        yield from ((address, self.options.connect_timeout_seconds) for address in self.addresses)

    def _connected(self, address: Address, seconds: float) -> socket.socket:
        family, kind, protocol, where = address
        sock = _Socket(family, kind, protocol)
        try:
            self.watch(sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(min(seconds, self.options.connect_timeout_seconds))
            sock.connect(where)
        except BaseException:
            sock.close()
            raise
        return sock

    def whole(self, body: RequestBody) -> bytes:
        """A small body in one piece: each piece would cost a hop between threads."""
        return b"".join(self._exactly(body))

    def pieces(self, body: RequestBody) -> Iterator[bytes | memoryview]:
        """The body, counted."""
        left = body.length
        for piece in self._exactly(body):
            yield piece
            left -= len(piece)
            trio.from_thread.run_sync(
                partial(self._count_sent, body, len(piece), last=left == 0), trio_token=self._token
            )

    def _exactly(self, body: RequestBody) -> Iterator[bytes | memoryview]:
        """The body, held against its announced length."""
        left = body.length
        source = body.pieces()
        while True:
            try:
                piece = next(source, None)
            except OSError as exc:
                raise SourceFailed(f"what was to be sent could not be read ({exc.strerror})") from exc
            if piece is None:
                break
            left -= len(piece)
            if left < 0:
                raise SourceFailed("what was to be sent has become longer")
            yield piece
        if left:
            raise SourceFailed("what was to be sent has become shorter")

    def receive(self, head: Head, raw: http.client.HTTPResponse) -> Response:
        """Read the body, into the sink or into memory."""
        if self.sink is not None and self.pieces_in is not None and self.sink.wants(head):
            self._stream(head, raw, self.pieces_in)
            return Response(head, b"", streamed=True)
        body = self._read_whole(head, raw)
        return Response(head, _decoded(body, head, self.request.max_answer_bytes))

    def _stream(self, head: Head, raw: http.client.HTTPResponse, pieces: PieceQueue) -> None:
        length = head.content_length
        if length == 0:
            with self._torn_bodies_named():
                raw.read()  # or the connection would count as one with something left in it
        received = 0
        grown = FIRST_PIECE_BYTES
        while length is None or received < length:
            to_boundary = MAX_PIECE_BYTES - (self.request.body_offset + received) % MAX_PIECE_BYTES
            buffer = _memory(min(grown, to_boundary, length - received if length is not None else grown))
            began = time.monotonic()
            try:
                with self._torn_bodies_named():
                    byte_count = raw.readinto(buffer)
            except TransportError:
                if pieces.closed:  # the receiver has enough, and hung up
                    return
                raise
            if byte_count == 0:
                break
            received += byte_count
            if not pieces.put(buffer[:byte_count], last=received == length):
                return
            if time.monotonic() - began < SLOW_PIECE_SECONDS:
                grown = min(2 * grown, MAX_PIECE_BYTES)
            else:
                grown = max(grown // 8, _HEAD_BUFFER_BYTES)
        if length is not None and received < length and not pieces.closed:
            raise self.failed(BodyCut, f"{received} of {length} bytes came")

    def _read_whole(self, head: Head, raw: http.client.HTTPResponse) -> bytes:
        limit = self.request.max_answer_bytes
        length = head.content_length
        if length is not None and length > limit:
            raise BodyTooBig(f"an answer of {length} bytes")
        body = bytearray()
        with self._torn_bodies_named():
            while piece := raw.read(MAX_PIECE_BYTES):
                body += piece
                if len(body) > limit:
                    raise BodyTooBig(f"an answer of more than {limit} bytes")
        if length is not None and len(body) < length:
            raise self.failed(BodyCut, f"{len(body)} of {length} bytes came")
        return bytes(body)

    @contextlib.contextmanager
    def _torn_bodies_named(self) -> Iterator[None]:
        try:
            yield
        except http.client.HTTPException as exc:
            raise self.failed(BodyCut, "the answer was cut off") from exc
        except OSError as exc:
            raise self.failed(BodyCut, f"the connection broke within the answer ({exc})") from exc


def _memory(length: int) -> memoryview:
    """Room for a piece. A large one begins on a page, so that a disk can take it from where it lies (`O_DIRECT`)."""
    if length < FIRST_PIECE_BYTES:
        return memoryview(bytearray(length))
    return memoryview(mmap.mmap(-1, length, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def _decoded(body: bytes, head: Head, limit: int) -> bytes:
    encoding = head.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip"):
        raise NotHttp(f"the answer is encoded as {encoding}, which nobody asked for")
    decoder = zlib.decompressobj(wbits=31)
    try:
        plain = decoder.decompress(body, limit + 1)
    except zlib.error as exc:
        raise NotHttp("the answer's gzip encoding is broken") from exc
    if len(plain) > limit:
        raise BodyTooBig(f"an answer of more than {limit} bytes when unpacked")
    if not decoder.eof:
        raise NotHttp("the answer's gzip encoding ends early")
    return plain
