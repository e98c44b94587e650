"""The read path: bytes from memory, from a download under way, or from a new one.

One `FileContent` per version of a file, shared by all its open handles, so two readers of the same bytes cause one
request. A read asks its `ReadAhead` what to want, starts downloads for what is neither here nor on its way, and
takes pieces as they arrive; it does not wait for a whole download.

**Never a mix of two versions.** File Station gives no ETag (none is on record), so a version is (size, mtime) from
the listing, and it is proved twice: every answer must carry the size in `Content-Range` (the store does that), and
bytes of a second or later download are handed out only after a `getinfo` that was sent after they came says that
size and mtime are still the same. The first download of a version needs no such proof: it has nothing to be mixed
with. One `getinfo` proves all that came before it, so a copy of a big file costs about one small request for each
download. For a small random read the `getinfo` runs beside the download instead of after it; what is left open is a
rewrite of the same size within the milliseconds between the two, found by the next read's proof.

Locks: none. All state is changed between two awaits in trio's thread; after each await it is looked at again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from synofs.content.blocks import BlockCache, ContentKey
from synofs.content.readahead import MIB, ReadAhead, ReadAheadOptions
from synofs.remote import Changed, Fingerprint, NotFound, RemoteError, RemoteStore, ShortBody

log = logging.getLogger(__name__)

PathOf = Callable[[], str]


@dataclass(frozen=True, slots=True)
class ReaderOptions:
    memory_bytes: int = 128 * MIB
    request_bytes: int = 8 * MIB  # one download asks for at most so much
    small_read_bytes: int = 64 * 1024  # up to this the proof runs beside the download
    idle_seconds: float = 15.0  # a whole-file stream that nobody follows is ended after this time
    readahead: ReadAheadOptions = field(default_factory=ReadAheadOptions)


class _Fetch:
    """A download of [start, end) under way. `step` is set and replaced whenever bytes came or it ended."""

    __slots__ = ("end", "error", "first", "position", "scope", "sent_at", "start", "step")

    def __init__(self, start: int, end: int, first: bool, sent_at: float) -> None:
        self.start = start
        self.end = end
        self.position = start  # bytes before this have come
        self.first = first
        self.sent_at = sent_at
        self.error: RemoteError | None = None
        self.scope = trio.CancelScope()
        self.step = trio.Event()

    def advance(self) -> None:
        self.step.set()
        self.step = trio.Event()


class _Held:
    """Bytes that wait for the proof that they are of the right version."""

    __slots__ = ("came_at", "data", "fetch", "offset")

    def __init__(self, fetch: _Fetch, offset: int, data: memoryview, came_at: float) -> None:
        self.fetch = fetch
        self.offset = offset
        self.data = data
        self.came_at = came_at


class FileContent:
    """One version of one file, as far as it is here or on its way."""

    __slots__ = ("error", "fetches", "held", "key", "path_of", "readers", "verified_at", "verifying")

    def __init__(self, key: ContentKey, path_of: PathOf) -> None:
        self.key = key
        self.path_of = path_of
        self.readers: set[FileReader] = set()
        self.fetches: list[_Fetch] = []
        self.held: list[_Held] = []
        self.verifying: trio.Event | None = None  # set when the proof under way has ended
        self.verified_at = float("-inf")  # bytes that came before this are proved
        self.error: RemoteError | None = None  # the version is no more; no read can succeed

    @property
    def size(self) -> int:
        return self.key.version.size

    def fetch_at(self, position: int) -> _Fetch | None:
        for fetch in self.fetches:
            if fetch.start <= position < fetch.end:
                return fetch
        return None


class FileReader:
    """Reads of one open handle."""

    __slots__ = ("_content", "_pattern", "_reader", "position")

    def __init__(self, reader: Reader, content: FileContent) -> None:
        self._reader = reader
        self._content = content
        self._pattern = ReadAhead(content.size, reader.options.readahead)
        self.position = 0  # the furthest end read so far

    async def read(self, offset: int, length: int) -> bytes | memoryview:
        """Bytes [offset, offset + length), shorter only at the end of the file.

        Raises `Changed` when the version that the handle pinned is no more, or the store's error.
        """
        content = self._content
        end = min(offset + length, content.size)
        if offset >= end:
            return b""
        if content.error is not None:
            raise content.error
        want = self._pattern.on_read(offset, end, self._reader.window_limit())
        self.position = max(self.position, end)
        self._reader.want(content, want.start, want.end)
        return await self._reader.collect(content, offset, end)

    def close(self) -> None:
        self._reader.leave(self._content, self)


class Reader:
    def __init__(self, store: RemoteStore, options: ReaderOptions) -> None:
        self._store = store
        self.options = options
        self._cache = BlockCache(options.memory_bytes)
        self._contents: dict[ContentKey, FileContent] = {}
        self._nursery: trio.Nursery | None = None

    @property
    def cache_bytes(self) -> int:
        return self._cache.bytes_used

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve downloads until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def open(self, inode: int, version: Fingerprint, path_of: PathOf) -> FileReader:
        """A reader of that version; `path_of` gives the file's path of the moment (it may be renamed)."""
        key = ContentKey(inode, version)
        content = self._contents.get(key)
        if content is None or content.error is not None:
            content = self._contents[key] = FileContent(key, path_of)
        reader = FileReader(self, content)
        content.readers.add(reader)
        return reader

    def leave(self, content: FileContent, reader: FileReader) -> None:
        content.readers.discard(reader)
        if content.readers:
            return
        for fetch in content.fetches:
            fetch.scope.cancel()
        if self._contents.get(content.key) is content:
            del self._contents[content.key]

    def forget(self, inode: int, version: Fingerprint) -> None:
        """The bytes of this version were written here: with times of whole seconds, it may be called like the one
        before it."""
        self._cache.drop(ContentKey(inode, version))

    def window_limit(self) -> int:
        """Each open file's share of the memory for read-ahead, in bytes."""
        streams = sum(len(content.readers) for content in self._contents.values())
        return self.options.memory_bytes // (2 * max(1, streams))

    # ----- wanting ----------------------------------------------------------------------------------------------

    def want(self, content: FileContent, start: int, end: int) -> None:
        """Start downloads for the parts of [start, end) that are neither here nor on their way."""
        if self._store.ranges_ignored:
            if not content.fetches and self._cache.gaps(content.key, start, end):
                gap_start, _ = self._cache.gaps(content.key, start, end)[0]
                self._start(content, gap_start, content.size)
            return
        for gap_start, gap_end in self._cache.gaps(content.key, start, end):
            position = gap_start
            while position < gap_end:
                fetch = content.fetch_at(position)
                if fetch is not None:
                    position = fetch.end
                    continue
                limit = min(
                    [gap_end, position + self.options.request_bytes]
                    + [other.start for other in content.fetches if other.start > position]
                )
                self._start(content, position, limit)
                position = limit

    def _start(self, content: FileContent, start: int, end: int) -> None:
        first = not content.fetches and not content.held and not self._cache.has_any(content.key)
        fetch = _Fetch(start, end, first, trio.current_time())
        content.fetches.append(fetch)
        assert self._nursery is not None, "run() has not been started"
        self._nursery.start_soon(self._fetch, content, fetch)

    async def _fetch(self, content: FileContent, fetch: _Fetch) -> None:
        small = fetch.end - fetch.start <= self.options.small_read_bytes

        async def take(offset: int, data: memoryview) -> None:
            came_at = fetch.sent_at if small else trio.current_time()
            if fetch.first or came_at <= content.verified_at:
                self._cache.add(content.key, offset, data)
            else:
                content.held.append(_Held(fetch, offset, data, came_at))
            fetch.position = offset + len(data)
            fetch.advance()
            await self._keep_pace(content, fetch)

        if small and not fetch.first:
            self._verify_soon(content)
        try:
            with fetch.scope:
                await self._store.read_range(
                    content.path_of(), fetch.start, fetch.end - fetch.start, content.size, take
                )
        except (Changed, NotFound) as error:
            self._void(content, error)
        except RemoteError as error:
            fetch.error = error
        finally:
            content.fetches.remove(fetch)
            if fetch.error is None and content.error is None and fetch.position < fetch.end:
                fetch.error = ShortBody("the download was ended early", path=content.path_of())
            if content.held:
                self._verify_soon(content)
            fetch.advance()

    async def _keep_pace(self, content: FileContent, fetch: _Fetch) -> None:
        """Hold a whole-file stream back while it is far ahead of its readers."""
        ahead = self.options.readahead.max_window_bytes
        waiting_since = trio.current_time()
        while self._store.ranges_ignored and fetch.end - fetch.start > self.options.request_bytes:
            furthest = max((reader.position for reader in content.readers), default=0)
            if fetch.position <= furthest + min(ahead, self.options.memory_bytes // 2):
                return
            if trio.current_time() > waiting_since + self.options.idle_seconds:
                fetch.scope.cancel()
            await trio.sleep(0.02)  # readers do not signal: this is the path for servers without ranges only

    # ----- the proof --------------------------------------------------------------------------------------------

    def _verify_soon(self, content: FileContent) -> None:
        if content.verifying is None:
            content.verifying = trio.Event()
            assert self._nursery is not None
            self._nursery.start_soon(self._verify, content, content.verifying)

    async def _verify(self, content: FileContent, ended: trio.Event) -> None:
        """Ask until nothing held is older than the last answer, then let the bytes go."""
        try:
            asked_at = trio.current_time()
            entry = (await self._store.get_entries([content.path_of()]))[0]
            if entry is None:
                self._void(content, NotFound("the file is gone", path=content.path_of()))
            elif entry.fingerprint != content.key.version:
                self._void(content, Changed("the file was changed on the NAS", path=content.path_of()))
            else:
                self._release(content, asked_at)
        except RemoteError as error:
            for held in content.held:
                held.fetch.error = error
            content.held.clear()
        finally:
            content.verifying = None
            ended.set()
            for fetch in content.fetches:
                fetch.advance()

    def _release(self, content: FileContent, asked_at: float) -> None:
        content.verified_at = asked_at
        waiting: list[_Held] = []
        for held in content.held:
            if held.came_at <= asked_at:
                self._cache.add(content.key, held.offset, held.data)
            else:
                waiting.append(held)
        content.held = waiting

    def _void(self, content: FileContent, error: RemoteError) -> None:
        content.error = error
        content.held.clear()
        self._cache.drop(content.key)
        for fetch in content.fetches:
            fetch.scope.cancel()

    # ----- collecting -------------------------------------------------------------------------------------------

    async def collect(self, content: FileContent, start: int, end: int) -> bytes | memoryview:
        """Wait for [start, end) piece by piece and put it together."""
        parts: list[memoryview] = []
        position = start
        while position < end:
            found = self._cache.find(content.key, position)
            if found is not None:
                piece_start, data = found
                part = data[position - piece_start : end - piece_start]
                parts.append(part)
                position += len(part)
                continue
            await self._wait(content, position, end)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _wait(self, content: FileContent, position: int, end: int) -> None:
        """Wait until something happened that may have brought the byte at `position`. Raises why it cannot come."""
        if content.error is not None:
            raise content.error
        if any(held.offset <= position < held.offset + len(held.data) for held in content.held):
            self._verify_soon(content)
            assert content.verifying is not None
            await content.verifying.wait()
            if content.error is not None:
                raise content.error
            return
        fetch = content.fetch_at(position)
        if fetch is None:
            self.want(content, position, end)
            fetch = content.fetch_at(position)
            if fetch is None:
                await trio.lowlevel.checkpoint()
                return
        await fetch.step.wait()
        if content.error is not None:
            raise content.error
        if fetch.error is not None and fetch.position <= position:
            raise fetch.error
