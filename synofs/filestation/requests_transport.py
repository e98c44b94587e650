"""HTTP by requests, in worker threads. The only module that knows requests and urllib3.

Failures are translated where the socket is used, in the connection classes, from the bare OSError. What requests
and urllib3 would make of it names the URL, and the URL may hold the session.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import math
import socket
import ssl
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import requests
import requests.adapters
import requests.structures
import requests.utils
import trio
import urllib3
import urllib3.connection
import urllib3.exceptions

from synofs import threads
from synofs.filestation import tls
from synofs.filestation.addresses import Addresses
from synofs.filestation.exchange import Exchange
from synofs.filestation.transport import (
    BodySink,
    CertificateUntrusted,
    ConnectFailed,
    ConnectTimeout,
    Head,
    NotHttp,
    ReceiveFailed,
    ReceiveTimeout,
    Redirected,
    Request,
    Response,
    SendFailed,
    SendTimeout,
    TlsFailed,
    TlsTimeout,
    TransportError,
    TransportOptions,
)


class _WithoutQuery(logging.Filter):
    """urllib3 logs every URL at DEBUG; the query may hold the session."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(a.partition("?")[0] if isinstance(a, str) else a for a in record.args)
        return True


log = logging.getLogger(__name__)

logging.getLogger("urllib3.connectionpool").addFilter(_WithoutQuery())
# It warns of odd header lines, with the URL. What is wrong with an answer is for us to tell.
logging.getLogger("urllib3.connection").addFilter(lambda record: False)


class RequestsTransport:
    """`Transport` over one pooled adapter of requests.

    Without its `Session`, which prepares the next request when it sees a redirect, even if it is told not to follow
    it, and keeps cookies: with addresses and cookies that are made to be indigestible, both fail in many ways.
    """

    def __init__(self, options: TransportOptions) -> None:
        self._options = options
        self._address = f"{options.scheme}://{_bracketed(options.host)}:{options.port}{options.base_path}"
        self._adapter_lock = threading.Lock()
        self._lazy_adapter: _Adapter | None = None
        self._exchanges: set[Exchange] = set()
        self._addresses = Addresses(options)
        # The lanes above decide how much goes on at once. These bound the threads whatever the lanes do.
        self._call_threads = trio.CapacityLimiter(options.max_connections)
        self._bulk_threads = trio.CapacityLimiter(options.max_connections)
        self._spare_threads = trio.CapacityLimiter(1)

    async def send(self, request: Request, sink: BodySink | None = None) -> Response:
        exchange = Exchange(request, sink, self._options)
        with exchange.scope:
            exchange.addresses = await self._addresses.current()
            self._exchanges.add(exchange)
            try:
                await self._run_in_thread(exchange)
            finally:
                self._exchanges.discard(exchange)
        if exchange.address is not None:
            self._addresses.took_us(exchange.address)
        if exchange.scope.cancelled_caught:
            raise exchange.timeout()
        if exchange.sink_error is not None:
            raise exchange.sink_error
        if exchange.error is not None:
            if isinstance(exchange.error, ConnectFailed | ConnectTimeout):
                self._addresses.doubt()
            raise exchange.error
        assert exchange.response is not None
        if not exchange.streams_out and not isinstance(request.body, bytes | None):
            request.body.sent(request.body.length)
        return exchange.response

    async def aclose(self) -> None:
        adapter, self._lazy_adapter = self._lazy_adapter, None
        if adapter is not None:
            adapter.close()

    def hang_up(self) -> None:
        for exchange in self._exchanges:
            exchange.cut()
        self._addresses.doubt()
        adapter, self._lazy_adapter = self._lazy_adapter, None
        if adapter is not None:
            adapter.close()

    def local_address(self) -> str | None:
        for family, _, _, address in self._addresses.known:
            with socket.socket(family, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
                sock.connect(address)  # UDP: nothing is sent
                return str(sock.getsockname()[0])
        return None

    async def _run_in_thread(self, exchange: Exchange) -> None:
        if exchange.sink is None and not exchange.request.more_follows:
            await self._in_thread(exchange)
        else:
            async with trio.open_nursery() as nursery:
                if exchange.sink is not None:
                    nursery.start_soon(exchange.hand_over)
                if exchange.request.more_follows:
                    nursery.start_soon(self._prepare_spare, exchange)
                await self._in_thread(exchange)
                if exchange.sink is not None:
                    await exchange.handed_over.wait()
                nursery.cancel_scope.cancel()
        if exchange.error is not None or exchange.was_cut:
            # Cut off because we were cancelled, it failed in whatever way, or took a torn head for a whole one: be
            # cancelled instead.
            await trio.lowlevel.checkpoint_if_cancelled()

    async def _in_thread(self, exchange: Exchange) -> None:
        """Not abandoned when cancelled: the thread uses the caller's files, and ends at once anyway."""
        limiter = self._bulk_threads if exchange.request.bulk else self._call_threads
        await threads.run_sync(self._run, exchange, limiter=limiter, cut=exchange.cut)

    async def _prepare_spare(self, exchange: Exchange) -> None:
        """Have an idle connection when this request is under way. A connection costs a round trip, with TLS two more,
        in which nothing of a file would move."""
        await exchange.sent.wait()
        if self._spare_threads.borrowed_tokens == 0:
            spare = Exchange(exchange.request, None, self._options)
            spare.addresses = exchange.addresses
            # Abandoned when the request ends before: who needs the connection next finds it in the pool.
            await trio.to_thread.run_sync(
                self._open_spare, spare, self._adapter(), limiter=self._spare_threads, abandon_on_cancel=True
            )

    # ----- in the thread ----------------------------------------------------------------------------------------

    def _run(self, exchange: Exchange) -> None:
        """From end to end. Never raises: the nursery would wrap it."""
        _thread.exchange = exchange
        try:
            exchange.response = self._exchange(exchange)
        except BaseException as exc:
            exchange.error = exc
        finally:
            exchange.finish()
            del _thread.exchange

    def _open_spare(self, spare: Exchange, adapter: _Adapter) -> None:
        _thread.exchange = spare
        try:
            pool = adapter.poolmanager.connection_from_url(self._address)
            connection = pool._get_conn()  # the one that would be taken next; urllib3 has no other name for that
            try:
                if connection.sock is None:
                    connection.connect()
                    connection.idle_since = _now()
            finally:
                pool._put_conn(connection)
                if adapter.closed:  # meanwhile: nobody else would close this one
                    adapter.close()
        except (OSError, TransportError, urllib3.exceptions.HTTPError) as exc:
            log.debug("no spare connection: %s", exc)  # whoever needs one will say what is wrong
        finally:
            spare.finish()
            del _thread.exchange

    def _adapter(self) -> _Adapter:
        with self._adapter_lock:
            if self._lazy_adapter is None:
                self._lazy_adapter = _Adapter(self._options)
            return self._lazy_adapter

    def _exchange(self, exchange: Exchange) -> Response:
        answer = self._send(exchange)
        raw = exchange.raw_answer
        assert raw is not None
        head = Head(answer.status_code, {name.lower(): value for name, value in answer.raw.headers.itermerged()})
        try:
            if 300 <= head.status < 400 and "location" in head.headers:
                target = _origin(head.headers["location"]) or self._address
                raise Redirected(f"it redirects to {target}; redirects are not followed", target=target)
            return exchange.receive(head, raw)
        finally:
            if not raw.isclosed():  # something is left unread: this connection cannot serve again
                answer.raw.close()
            if isinstance(connection := answer.raw.connection, _Connection):
                connection.idle_since = _now()
            answer.raw.release_conn()

    def _send(self, exchange: Exchange) -> requests.Response:
        request = exchange.request
        prepared = requests.PreparedRequest()
        prepared.method = request.method
        prepared.url = self._address + request.path + ("?" + request.query if request.query else "")
        prepared.headers = requests.structures.CaseInsensitiveDict(request.headers)
        if isinstance(request.body, bytes):
            prepared.headers["Content-Length"] = str(len(request.body))
            prepared.body = request.body
        elif request.body is not None:
            prepared.headers["Content-Length"] = str(request.body.length)
            body = request.body
            prepared.body = exchange.pieces(body) if exchange.streams_out else exchange.whole(body)  # type: ignore[assignment]
        try:
            return self._adapter().send(prepared, stream=True)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as exc:
            if exchange.raw_answer is not None:  # urllib3 forgets it, and with it its hold on the socket
                exchange.raw_answer.close()
            if exchange.phase is ReceiveTimeout:  # urllib3 does not take the answer's head
                raise exchange.failed(NotHttp, f"it does not answer in HTTP ({type(exc).__name__})") from None
            raise exchange.failed(SendFailed, f"the request failed ({type(exc).__name__})") from None


# ----- connections ----------------------------------------------------------------------------------------------


def _now() -> float:
    """A clock that goes on while the machine sleeps: a connection is old after that."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class _CurrentExchange(threading.local):
    exchange: Exchange


_thread = _CurrentExchange()


class _RawAnswer(http.client.HTTPResponse):
    """Makes itself known, so that the body can be read straight from it into our own buffers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _thread.exchange.raw_answer = self

    def begin(self) -> None:
        """A head that is cut or broken is no head. (http.client takes what it understands of it.)"""
        super().begin()
        multipart = self.msg.get_content_maintype() == "multipart"
        if not multipart and (self.msg.defects or self.msg.get_payload()):
            raise http.client.HTTPException("broken header lines")
        encoding = self.msg.get("transfer-encoding", "identity").strip().lower()
        if encoding not in ("chunked", "identity") or (encoding == "chunked" and "content-length" in self.msg):
            raise http.client.HTTPException("a body of two lengths, or of none that is known here")

    def _read_next_chunk_size(self) -> int:
        """A chunk of -1 bytes would be all that ever comes, kept in memory."""
        size: int = super()._read_next_chunk_size()  # type: ignore[misc]
        if size < 0:
            raise ValueError("a chunk of less than nothing")  # as http.client says of what is no number
        return size


class _Connection(urllib3.connection.HTTPConnection):
    response_class = _RawAnswer
    idle_since = math.inf
    _holds_head = False
    _head = b""  # one that waits for its body

    def _new_conn(self) -> socket.socket:
        return _thread.exchange.open_socket()

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(None)
        _thread.exchange.connected = True

    def request(self, *args: Any, **kwargs: Any) -> None:
        exchange = _thread.exchange
        if self.sock is not None and not exchange.connected:
            idle_seconds = _now() - self.idle_since
            if exchange.request.fresh_connection or idle_seconds > exchange.options.max_idle_seconds:
                self.close()
            else:
                exchange.watch(self.sock)
        if self.sock is None:
            self.connect()
        exchange.phase = SendTimeout
        self._holds_head, self._head = exchange.sends_whole_body, b""
        try:
            super().request(*args, **kwargs)
            exchange.has_been_sent()
        except TransportError:
            raise
        except OSError as exc:
            # It may have answered before it had everything, and hung up, as a proxy does with a body that it
            # finds too long. urllib3 looks for that answer when it meets this kind of failure.
            exchange.send_failed = True
            raise BrokenPipeError(str(exc)) from exc

    def send(self, data: Any) -> None:
        """A head goes with a body that is there: one packet and one wake-up less, here and on the NAS."""
        if self._holds_head:
            self._holds_head, self._head = False, data
            return
        if self._head:
            data, self._head = self._head + data, b""
        super().send(data)

    def getresponse(self) -> Any:
        exchange = _thread.exchange
        failure: type[TransportError] = SendFailed
        if not exchange.send_failed:
            exchange.phase, failure = ReceiveTimeout, ReceiveFailed
        try:
            _acknowledge_quickly(self.sock)
            return super().getresponse()
        except ConnectionResetError as exc:  # also what http.client makes of an end without an answer
            raise exchange.failed(failure, "it hung up without an answer") from exc
        except OSError as exc:
            raise exchange.failed(failure, f"the connection broke ({exc})") from exc
        except (http.client.HTTPException, ValueError) as exc:
            raise exchange.failed(NotHttp, "it does not answer in HTTP") from exc


def _acknowledge_quickly(sock: socket.socket) -> None:
    """A server that sends head and body of a small answer apart, with Nagle's algorithm on, waits for our ACK in
    between, and the kernel would hold that back for 40 ms (measured: 44 ms a call, 1 ms with this). It forgets
    the wish after a while, so it is told each time."""
    if hasattr(socket, "TCP_QUICKACK"):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


class _TlsConnection(_Connection, urllib3.connection.HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        _thread.exchange.phase = TlsTimeout
        return sock

    def connect(self) -> None:
        try:
            super().connect()
        except TransportError:
            raise
        except (ssl.SSLCertVerificationError, urllib3.exceptions.SSLError) as exc:
            reason = getattr(exc, "verify_message", "") or "it is not the pinned one"
            raise CertificateUntrusted(reason, fingerprint=self._fingerprint()) from exc
        except TimeoutError as exc:
            raise TlsTimeout("the TLS handshake did not end") from exc
        except OSError as exc:
            reason = getattr(exc, "reason", None) or exc
            if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
                raise TlsFailed("it speaks no TLS at this port, and nothing was sent to it in clear") from exc
            raise TlsFailed(f"no TLS connection ({reason})") from exc

    def _fingerprint(self) -> str:
        """Look at the refused certificate over a second connection, which carries nothing."""
        try:
            return tls.fingerprint_of_peer(self._new_conn(), self.host)
        except (TransportError, OSError, ValueError):
            return ""


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Adapter(requests.adapters.HTTPAdapter):
    """One pool to one NAS, with our connections and our idea of trust."""

    def __init__(self, options: TransportOptions) -> None:
        self._options = options
        self._pool: urllib3.HTTPConnectionPool | None = None
        self.closed = False
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        options = self._options
        trust: dict[str, Any] = {}
        if options.scheme == "https" and options.fingerprint is None:
            context = tls.verifying_context(options.ca_file, requests.utils.DEFAULT_CA_BUNDLE_PATH)
            trust = {"ssl_context": context, "cert_reqs": ssl.CERT_REQUIRED}
        elif options.scheme == "https":
            trust = {"ssl_context": tls.unverified_context(), "cert_reqs": ssl.CERT_NONE}
            trust["assert_fingerprint"] = options.fingerprint
        self.poolmanager = urllib3.PoolManager(1, maxsize=options.max_connections, **trust)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}

    def close(self) -> None:
        """urllib3 leaves the closing of a pool to whoever collects it, and an exception's traceback may keep it."""
        self.closed = True
        for key in self.poolmanager.pools.keys():  # noqa: SIM118 - it can be asked for its keys only
            self.poolmanager.pools[key].close()
        super().close()

    def get_connection_with_tls_context(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        if self._pool is None:
            self._pool = self.poolmanager.connection_from_url(request.url)
        return self._pool

    def request_url(self, request: Any, proxies: Any) -> str:
        """Path and query. (It would look for a proxy first, which is not ours to use.)"""
        return request.url[request.url.index("/", len("https://")) :]  # type: ignore[no-any-return]

    def build_response(self, request: Any, answer: Any) -> requests.Response:
        """What we look at, and no more."""
        response = requests.Response()
        response.status_code = answer.status
        response.raw = answer
        return response

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """The pool knows already."""


def _origin(location: str) -> str:
    """Scheme and host of a redirect's target; its path and query may repeat what we sent."""
    try:
        parts = urlsplit(location)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an address that is none"
    return f"{parts.scheme}://{_bracketed(parts.hostname or '')}{port}" if parts.netloc else ""


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
