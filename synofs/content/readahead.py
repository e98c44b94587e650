"""How much to fetch for a read, and how much beyond it. Pure.

Three patterns, told apart per open file:

- a *small file* comes whole in one request, whatever is asked of it;
- *sequential* reading opens a window ahead of the reader that grows eightfold each time half of it is used up,
  so a `head` costs little and a copy soon runs at the speed of the line; it begins with twice what is read at once, if
  that is more. While the reader waits for a proof of what
  came (content/reader.py) it uses nothing up, and the line would be idle: from the second one on, the window grows
  then, too;
- *random* reading fetches what was asked, rounded to 32 KiB: 200 random reads of 4 KiB move 6.4 MB. (A fixed large
  block would move gigabytes.) Who reads on from where it jumped to gets at first four times as much ahead as it has
  read since: a database reads a few pages in a row, and then elsewhere.

The kernel sends reads of one sequential reader out of order now and then (it keeps a few in flight), so "next"
means "near the furthest end seen": within four times the length of the read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class ReadAheadOptions:
    small_file_bytes: int = 1 * MIB
    random_block_bytes: int = 32 * KIB
    first_window_bytes: int = 512 * KIB
    first_window_reads: int = 2  # or as much as so many reads like the first, if that is more
    max_window_bytes: int = 64 * MIB
    waiting_window_bytes: int = 32 * MIB  # up to here the window grows while the reader waits for a proof
    window_after_jump_runs: int = 4  # at most so many times what was read since the jump, while that is less than
    # first_window_bytes
    slack_reads: int = 4  # how far from the expected offset a read still counts as sequential: so many times its length
    slack_bytes: int = 512 * KIB  # ... and so far at most


# For programs that open every file of a folder to look at its first bytes, and now and then read on to its end.
GENTLE = ReadAheadOptions(small_file_bytes=64 * KIB, first_window_bytes=32 * KIB, first_window_reads=0)
# For readers that look at a few places of many files: nothing is fetched that was not asked for.
NO_READAHEAD = ReadAheadOptions(small_file_bytes=64 * KIB, slack_bytes=-1)


class Want(NamedTuple):
    """Fetch [start, end) if it is not here yet. `end` may lie beyond what was asked: that part is read-ahead."""

    start: int
    end: int


class ReadAhead:
    """The reading pattern of one open file of `size` bytes."""

    __slots__ = ("_ahead_until", "_jumped_to", "_next", "_options", "_size", "_waited_at", "_window")

    def __init__(self, size: int, options: ReadAheadOptions) -> None:
        self._size = size
        self._options = options
        self._jumped_to: int | None = None  # None: it has read from the start on
        self._next = 0
        self._ahead_until = 0
        self._window = 0
        self._waited_at = 0

    def on_read(self, start: int, end: int, window_limit: int) -> Want:
        """A read of [start, end), `end` <= size. `window_limit` is this file's share of the memory, in bytes."""
        options = self._options
        if self._size <= options.small_file_bytes:
            return Want(0, self._size)
        if abs(start - self._next) > min(options.slack_bytes, options.slack_reads * (end - start)):
            self._window = 0
            self._jumped_to = start
            self._next = self._ahead_until = end
            return self._in_blocks(start, end)
        self._next = max(self._next, end)
        limit = max(options.first_window_bytes, min(options.max_window_bytes, window_limit))
        self._ahead_until = max(self._ahead_until, end)
        if self._ahead_until - self._next <= self._window // 2:
            window = max(options.first_window_bytes, self._window * 8, options.first_window_reads * (end - start))
            self._open_window(min(limit, window))
        return Want(start, self._ahead_until) if self._jumped_to is None else self._in_blocks(start, self._ahead_until)

    def on_wait(self, window_limit: int) -> int:
        """The reader waits for a proof of what comes. Up to where to go on meanwhile: once per place where it waits,
        the window grows fourfold, from the second one on (4 MiB, so 12 MiB are in vain if the reader ends there)."""
        options = self._options
        if self._window > options.first_window_bytes and self._next > self._waited_at:
            self._waited_at = self._next
            limit = min(options.waiting_window_bytes, options.max_window_bytes, window_limit)
            self._open_window(max(self._window, min(limit, self._window * 4)))
        return self._ahead_until

    def _open_window(self, window: int) -> None:
        if self._jumped_to is not None:
            run = self._next - self._jumped_to
            if run < self._options.first_window_bytes:
                window = min(window, self._options.window_after_jump_runs * run)
        self._window = window
        self._ahead_until = max(self._ahead_until, min(self._size, self._next + window))

    def _in_blocks(self, start: int, end: int) -> Want:
        block = self._options.random_block_bytes
        return Want(start // block * block, min(self._size, -(-end // block) * block))
