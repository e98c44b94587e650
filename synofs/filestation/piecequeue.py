"""Pieces of a body on their way from the thread that reads the socket to the task that takes them.

The thread runs ahead of the task by a few MiB: while the task is busy, the socket would fill up, and a sender that
was stopped needs a round trip to get going again (seen: 4 % of a line of 1 Gbit/s and 20 ms).
"""

from __future__ import annotations

import threading
from collections import deque

import trio

MAX_WAITING_BYTES = 8 * 1024 * 1024


class PieceQueue:
    """Made in the task; `put` and `end` are the thread's, all else is the task's."""

    def __init__(self) -> None:
        self._pieces: deque[memoryview] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._news = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        self.ended = False  # all pieces are in it
        self.closed = False  # nobody takes pieces any more

    def put(self, piece: memoryview, *, last: bool) -> bool:
        """Wait for room. False: nobody takes it."""
        with self._changed:
            while self._waiting_bytes >= MAX_WAITING_BYTES and not self.closed:
                self._changed.wait()
            if self.closed:
                return False
            self._pieces.append(piece)
            self._waiting_bytes += len(piece)
            self.ended = last
        self._token.run_sync_soon(self._wake, idempotent=True)
        return True

    def end(self) -> None:
        """No more pieces will come."""
        self.ended = True
        self._token.run_sync_soon(self._wake, idempotent=True)

    def _wake(self) -> None:
        self._news.set()

    @property
    def empty(self) -> bool:
        return not self._pieces

    async def next(self) -> memoryview | None:
        """The next piece; None after the last one."""
        while True:
            self._news = trio.Event()
            with self._changed:
                if self._pieces:
                    piece = self._pieces.popleft()
                    self._waiting_bytes -= len(piece)
                    self._changed.notify()
                    return piece
                if self.ended:
                    return None
            await self._news.wait()

    def close(self) -> bool:
        """Take no more. False: it was all there already, so the thread need not be stopped."""
        with self._changed:
            self.closed = True
            self._changed.notify()
            return not self.ended
