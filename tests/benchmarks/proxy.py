"""A TCP proxy that makes loopback as slow as a network: a latency, a bandwidth, and nothing else.

`python -m tests.benchmarks.proxy --to HOST:PORT [--latency-ms RTT] [--bandwidth-mbit N]` is a process of its own. It
prints where it listens, takes commands on stdin (one JSON object a line, one JSON answer a line on stdout) and ends
with its stdin:

    {"latency_ms": 20, "bandwidth_mbit": 1000}    change the line; what is on its way keeps its time
    {"stats": true}, {"reset": true}              counters; from zero again
    {"reset_peaks": true}                         look anew for the most requests that waited at once

*Latency* is that of a round trip: what is read here is handed on half of it later, in either direction. So a request on
a connection that is open already costs one round trip, however many bytes it has, and a new connection costs one more
before, as its handshake would. There is no slow start, no loss and no jitter.

*Bandwidth* is one line for all connections, as wide in each direction: bytes queue for it in turns, and are
read only when it is about to be free, so that a sender feels the back-pressure of a full line.

Bytes are moved by splice(2) through a pipe per piece and are never copied into this process. What is under way
is bounded by WINDOW_BYTES per connection and direction; a receiver that does not take what has arrived stops its
sender, as its TCP window would.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import heapq
import json
import os
import select
import socket
import struct
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

PIECE_BYTES = 1 << 20
WINDOW_BYTES = 256 << 20  # more than any memory bus fills in the longest latency used here
OVERDUE_BYTES = 1 << 20  # arrived, and not taken by the receiver
LINE_SLACK_SECONDS = 0.001  # how long before the line is free the next piece may be read
PIECES_PER_TURN = 64  # then sockets and the clock are looked at again
POOLED_PIPES = 64
SPLICE_FLAGS = os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE
GONE = (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN, errno.ESHUTDOWN, errno.EBADF, errno.ETIMEDOUT)
HTTP_METHODS = frozenset(
    b"GET HEAD POST PUT DELETE OPTIONS PATCH PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK".split()
)

now = time.monotonic


class Pipes:
    """Empty pipes, used again: a pipe costs two system calls and a page of memory."""

    def __init__(self) -> None:
        self._free: list[tuple[int, int]] = []

    def take(self) -> tuple[int, int]:
        if self._free:
            return self._free.pop()
        pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # more than a user may have: then smaller pieces
            fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, PIECE_BYTES)
        return pipe

    def give_back(self, pipe: tuple[int, int], *, is_empty: bool) -> None:
        if is_empty and len(self._free) < POOLED_PIPES:
            self._free.append(pipe)
        else:
            os.close(pipe[0])
            os.close(pipe[1])


class Piece:
    """Bytes on their way, in a pipe; no bytes stand for the end of the stream."""

    __slots__ = ("pipe", "size")

    def __init__(self, pipe: tuple[int, int] | None, size: int) -> None:
        self.pipe = pipe
        self.size = size


class Direction:
    """One way of one connection."""

    __slots__ = (
        "arrived",
        "connection",
        "ended",
        "in_ready",
        "is_up",
        "on_line_bytes",
        "overdue_bytes",
        "readable",
        "sink",
        "source",
        "way",
    )

    def __init__(
        self, connection: Connection, way: Way, source: socket.socket, sink: socket.socket, is_up: bool
    ) -> None:
        self.connection = connection
        self.way = way
        self.source = source
        self.sink = sink
        self.is_up = is_up
        self.arrived: deque[Piece] = deque()  # due, and not yet taken by the sink
        self.on_line_bytes = 0
        self.overdue_bytes = 0
        self.readable = True  # perhaps: a read will tell
        self.in_ready = False
        self.ended = False

    def may_read(self) -> bool:
        return (
            self.readable
            and not self.ended
            and self.overdue_bytes < OVERDUE_BYTES
            and self.on_line_bytes < WINDOW_BYTES
        )

    def want_turn(self) -> None:
        """Stand in the line's queue, if there may be something to read and room for it."""
        if not self.in_ready and self.may_read():
            self.in_ready = True
            self.way.ready.append(self)

    def flush(self) -> None:
        """Hand what has arrived to the sink, as far as it takes it."""
        try:
            while self.arrived:
                piece = self.arrived[0]
                if piece.pipe is None:
                    self.arrived.popleft()
                    self.sink.shutdown(socket.SHUT_WR)
                    self.connection.one_way_ended()
                    continue
                sent = os.splice(piece.pipe[0], self.sink.fileno(), piece.size, flags=SPLICE_FLAGS)
                piece.size -= sent
                self.overdue_bytes -= sent
                self.way.delivered_bytes += sent
                if piece.size == 0:
                    self.arrived.popleft()
                    self.connection.proxy.pipes.give_back(piece.pipe, is_empty=True)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in GONE:
                raise
            self.connection.break_off_later()
            return
        self.want_turn()

    def drop(self, piece: Piece) -> None:
        if piece.pipe is not None:
            self.connection.proxy.pipes.give_back(piece.pipe, is_empty=False)


class Way:
    """All connections in one direction: the line that they share."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.ready: deque[Direction] = deque()  # may have bytes to read, in turn
        self.line: deque[tuple[float, Direction, Piece]] = deque()  # (when it arrives, where, what), in order
        self.free_at = 0.0
        self.delivered_bytes = 0

    def deliver_due(self) -> None:
        while self.line and self.line[0][0] <= now():
            _, direction, piece = self.line.popleft()
            direction.on_line_bytes -= piece.size
            if direction.connection.is_closed:
                direction.drop(piece)
                continue
            direction.overdue_bytes += piece.size
            direction.arrived.append(piece)
            if len(direction.arrived) == 1:
                direction.flush()

    def read_ready(self) -> bool:
        """Take pieces off the sources, in turns; True if there is more to take at once."""
        for _ in range(PIECES_PER_TURN):
            if not self.ready or self._is_full():
                return False
            direction = self.ready.popleft()
            direction.in_ready = False
            if not direction.connection.is_closed and direction.may_read():
                self._read_from(direction)
                direction.want_turn()
        return bool(self.ready) and not self._is_full()

    def _is_full(self) -> bool:
        return self.proxy.bytes_per_second > 0 and self.free_at > now() + LINE_SLACK_SECONDS

    def _read_from(self, direction: Direction) -> None:
        proxy = self.proxy
        connection = direction.connection
        if direction.is_up and connection.server_spoke_last:
            self._note_request(direction)
        pipe = proxy.pipes.take()
        try:
            size = os.splice(direction.source.fileno(), pipe[1], proxy.piece_bytes, flags=SPLICE_FLAGS)
        except BlockingIOError:
            proxy.pipes.give_back(pipe, is_empty=True)
            direction.readable = False
            return
        except OSError as error:
            proxy.pipes.give_back(pipe, is_empty=True)
            if error.errno not in GONE:
                raise
            direction.ended = True
            connection.break_off_later()
            return
        read_at = now()
        connection.wait_for_answer(direction.is_up and size > 0)
        if size == 0:
            proxy.pipes.give_back(pipe, is_empty=True)
            direction.ended = True
            self._put(direction, Piece(None, 0), read_at)
            return
        connection.server_spoke_last = not direction.is_up
        self._put(direction, Piece(pipe, size), read_at)

    def _put(self, direction: Direction, piece: Piece, read_at: float) -> None:
        sent_at = read_at
        if self.proxy.bytes_per_second > 0:
            sent_at = max(read_at, self.free_at) + piece.size / self.proxy.bytes_per_second
            self.free_at = sent_at
        arrives_at = sent_at + self.proxy.one_way_seconds
        direction.on_line_bytes += piece.size
        if self.line:  # a latency that was lowered does not let pieces overtake each other
            arrives_at = max(arrives_at, self.line[-1][0])
        self.line.append((arrives_at, direction, piece))
        if arrives_at <= read_at:
            self.deliver_due()

    def _note_request(self, direction: Direction) -> None:
        """The client speaks after the server has: a turn, and in HTTP a request."""
        try:
            start = direction.source.recv(12, socket.MSG_PEEK)
        except OSError:
            return
        if start:
            self.proxy.turns += 1
            method = start.split(b" ", 1)[0]
            if method in HTTP_METHODS:
                self.proxy.requests[method.decode()] += 1


class Connection:
    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self.proxy = proxy
        self.client = client
        self.server = socket.socket(proxy.family)
        self.is_closed = False
        self.is_breaking = False
        self.server_spoke_last = True  # the client's first words are a turn, too
        self._is_waiting = False
        self._ways_ended = 0
        self.up: Direction | None = None
        self.down: Direction | None = None
        # The client believes that it is connected a round trip after it asked, and speaks from then on.
        proxy.at(now() + 2 * proxy.one_way_seconds, self._listen_to_client)
        proxy.at(now() + 3 * proxy.one_way_seconds, self._connect_server)

    def wait_for_answer(self, waits: bool) -> None:
        """From the first bytes of a request to the first bytes of its answer. With pipelining they would be one."""
        self.proxy.count_waiting(waits - self._is_waiting)
        self._is_waiting = waits

    def _listen_to_client(self) -> None:
        if self.is_closed:
            return
        self.up = Direction(self, self.proxy.ways[0], self.client, self.server, is_up=True)
        self.proxy.watch(self.client, self)
        self.up.want_turn()

    def _connect_server(self) -> None:
        if self.is_closed:
            return
        try:
            self.server.connect(self.proxy.target)  # loopback: done or refused at once
        except OSError:
            self._close()
            return
        self.server.setblocking(False)
        self.server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.down = Direction(self, self.proxy.ways[1], self.server, self.client, is_up=False)
        self.proxy.watch(self.server, self)
        self.down.want_turn()
        if self.up is not None and self.up.arrived:
            self.up.flush()

    def on_event(self, fd: int, mask: int) -> None:
        if self.is_closed:
            return
        is_client = fd == self.client.fileno()
        reading, writing = (self.up, self.down) if is_client else (self.down, self.up)
        if mask & ~select.EPOLLOUT and reading is not None:
            reading.readable = True
            reading.want_turn()
        if mask & select.EPOLLOUT and writing is not None and writing.arrived:
            writing.flush()

    def one_way_ended(self) -> None:
        self._ways_ended += 1
        if self._ways_ended == 2:
            self._close()

    def break_off_later(self) -> None:
        """One side has gone: the other hears of it when the news has travelled."""
        if not self.is_breaking:
            self.is_breaking = True
            self.proxy.at(now() + self.proxy.one_way_seconds, self._reset)

    def _reset(self) -> None:
        if not self.is_closed:
            for end in (self.client, self.server):
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._close()

    def _close(self) -> None:
        self.is_closed = True
        self.wait_for_answer(False)
        for direction in (self.up, self.down):
            if direction is not None:
                for piece in direction.arrived:
                    direction.drop(piece)
                direction.arrived.clear()
        self.proxy.unwatch(self.client)
        self.proxy.unwatch(self.server)
        self.client.close()
        self.server.close()


class Proxy:
    def __init__(self, target: tuple[str, int], latency_ms: float = 0, bandwidth_mbit: float = 0) -> None:
        self.target = target
        self.family = socket.AF_INET
        self.pipes = Pipes()
        self.ways = (Way(self), Way(self))  # up to the server, down from it
        self.turns = 0
        self.requests: Counter[str] = Counter()
        self.connections = 0
        self.waiting = self.peak_waiting = 0
        self.set_line(latency_ms, bandwidth_mbit)
        self._events = select.epoll()
        self._watched: dict[int, Connection] = {}
        self._alarms: list[tuple[float, int, Callable[[], None]]] = []
        self._alarm_number = 0
        self._commands = b""
        self._has_ended = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._events.register(self._listener, select.EPOLLIN)

    def set_line(self, latency_ms: float, bandwidth_mbit: float) -> None:
        self.latency_ms = latency_ms
        self.bandwidth_mbit = bandwidth_mbit
        self.one_way_seconds = latency_ms / 2000
        self.bytes_per_second = bandwidth_mbit * 1e6 / 8
        # A piece keeps the line busy for half a millisecond at most, so that small requests wait no longer for it.
        fair = int(self.bytes_per_second * 0.0005)
        self.piece_bytes = PIECE_BYTES if fair <= 0 else min(PIECE_BYTES, max(4096, fair))

    def count_waiting(self, more: int) -> None:
        self.waiting += more
        self.peak_waiting = max(self.peak_waiting, self.waiting)

    def at(self, when: float, what: Callable[[], None]) -> None:
        if when <= now():
            what()
            return
        self._alarm_number += 1
        heapq.heappush(self._alarms, (when, self._alarm_number, what))

    def watch(self, end: socket.socket, connection: Connection) -> None:
        self._watched[end.fileno()] = connection
        self._events.register(end, select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET)

    def unwatch(self, end: socket.socket) -> None:
        if self._watched.pop(end.fileno(), None) is not None:
            self._events.unregister(end)

    def serve(self, commands: int) -> None:
        """Until the descriptor `commands` ends."""
        os.set_blocking(commands, False)
        self._events.register(commands, select.EPOLLIN)
        while not self._has_ended:
            wait = self._work()
            if wait is None or wait > 0:
                # epoll counts whole milliseconds; select on it counts microseconds.
                select.select([self._events], [], [], wait)
            for fd, mask in self._events.poll(0, 512):
                if fd == self._listener.fileno():
                    self._accept()
                elif fd == commands:
                    self._read_commands(commands)
                elif connection := self._watched.get(fd):
                    connection.on_event(fd, mask)

    def _work(self) -> float | None:
        """Do what is due; seconds until there is more to do, None if only an event brings it."""
        while self._alarms and self._alarms[0][0] <= now():
            heapq.heappop(self._alarms)[2]()
        at_once = False
        for way in self.ways:
            way.deliver_due()
            at_once |= way.read_ready()
        if at_once:
            return 0
        times = [way.line[0][0] for way in self.ways if way.line]
        times += [way.free_at - LINE_SLACK_SECONDS for way in self.ways if way.ready]
        times += [alarm[0] for alarm in self._alarms[:1]]
        return max(0.0, min(times) - now()) if times else None

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            while True:
                client, _ = self._listener.accept()
                client.setblocking(False)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += 1
                Connection(self, client)

    def _read_commands(self, commands: int) -> None:
        data = os.read(commands, 65536)
        self._has_ended = not data
        self._commands += data
        while b"\n" in self._commands:
            line, self._commands = self._commands.split(b"\n", 1)
            print(json.dumps(self.obey(json.loads(line))), flush=True)

    def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        if "latency_ms" in command or "bandwidth_mbit" in command:
            self.set_line(
                command.get("latency_ms", self.latency_ms), command.get("bandwidth_mbit", self.bandwidth_mbit)
            )
        answer = {
            "connections": self.connections,
            "turns": self.turns,
            "requests": dict(self.requests),
            "peak_waiting": self.peak_waiting,
            "bytes_up": self.ways[0].delivered_bytes,
            "bytes_down": self.ways[1].delivered_bytes,
            "latency_ms": self.latency_ms,
            "bandwidth_mbit": self.bandwidth_mbit,
        }
        if command.get("reset_peaks"):
            self.peak_waiting = self.waiting
        if command.get("reset"):
            self.connections = self.turns = 0
            self.requests.clear()
            for way in self.ways:
                way.delivered_bytes = 0
        return answer


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.proxy", description="A TCP delay proxy.")
    parser.add_argument("--to", required=True, metavar="HOST:PORT")
    parser.add_argument("--latency-ms", type=float, default=0, metavar="RTT")
    parser.add_argument("--bandwidth-mbit", type=float, default=0, metavar="N", help="0: as fast as it goes")
    given = parser.parse_args()
    host, _, port = given.to.rpartition(":")
    proxy = Proxy((host, int(port)), given.latency_ms, given.bandwidth_mbit)
    print(f"proxy listening on 127.0.0.1:{proxy.port}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        proxy.serve(sys.stdin.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
