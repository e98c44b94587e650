"""The read path: bytes from memory, from a download under way, or from a new one.

One `FileContent` per version of a file, shared by all its open handles, so two readers of the same bytes cause one
request. A read asks its `ReadAhead` what to want, starts downloads for what is neither here nor on its way, and
takes pieces as they arrive; it does not wait for a whole download.

**Never a mix of two versions.** File Station gives no ETag (none is on record), so a version is (size, mtime) from
the listing, and it is proved twice: every answer must carry the size in `Content-Range` (the store does that), and
bytes of a second or later download are handed out only after a `getinfo` that was sent after they came says that
size and mtime are still the same. The first download of a version needs no such proof: it has nothing to be mixed
with. One `getinfo` proves all that came before it, so a copy of a big file costs about one small request for each
16 MiB (on a slow line, where a reader waits for less, up to four in a second). For a small random read
the `getinfo` runs beside the download instead of after it; what is left open is a rewrite of the same size within the
milliseconds between the two, found by the next read's proof.

Locks: none. All state is changed between two awaits in trio's thread; after each await it is looked at again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count, zip_longest

import trio

from synofs.content.blocks import BlockCache, ContentKey
from synofs.content.diskcache import DiskCache
from synofs.content.filecontent import Fetch, FileContent, Held, OnDisk, PathOf, Proof
from synofs.content.readahead import MIB, ReadAhead, ReadAheadOptions
from synofs.remote import Changed, Fingerprint, NotFound, RemoteError, RemoteStore, ShortBody

log = logging.getLogger(__name__)

_MOST_YOUNG = 1000
_SETTLED_AFTER_SECONDS = 3.0  # the NAS's clock is known within a second or two


@dataclass(frozen=True, slots=True)
class ReaderOptions:
    memory_bytes: int = 128 * MIB
    request_bytes: int = 32 * MIB  # one download asks for at most so much
    lead_bytes: int = 8 * MIB  # read-ahead asks for more when fewer bytes than this are still to come
    small_read_bytes: int = 64 * 1024  # up to this the proof runs beside the download
    proof_seconds: float = 0.25  # between two proofs while a download goes on, ...
    proof_bytes: int = 16 * MIB  # ... unless so much waits for one
    idle_seconds: float = 15.0  # a whole-file stream that nobody follows is ended after this time
    readahead: ReadAheadOptions = field(default_factory=ReadAheadOptions)


class FileReader:
    """Reads of one open handle."""

    __slots__ = ("_ahead_from", "_ahead_until", "_closed", "_pattern", "_reader", "_reads", "content", "position")

    def __init__(self, reader: Reader, content: FileContent, readahead: ReadAheadOptions) -> None:
        self._reader = reader
        self.content = content
        self._pattern = ReadAhead(content.size, readahead)
        self.position = 0  # the furthest end read so far
        self._ahead_from = 0  # where the last read began
        self._ahead_until = 0
        self._closed = False
        self._reads = 0  # under way

    @property
    def served(self) -> bool:
        """Whether bytes of this version may have been handed out, through this handle or another one: the kernel
        serves all from the same pages."""
        return self.content.served

    @served.setter
    def served(self, value: bool) -> None:
        self.content.served = value

    async def read(self, offset: int, length: int) -> bytes | memoryview:
        """Bytes [offset, offset + length), shorter only at the end of the file.

        Raises `Changed` when the version that the handle pinned is no more, or the store's error; `ValueError` after
        `close`.
        """
        if self._closed:
            raise ValueError("a handle is read that was closed")
        content = self.content
        end = min(offset + length, content.size)
        if offset >= end:
            return b""
        if content.error is not None:
            raise content.error
        self._reads += 1
        try:
            if content.on_disk is None:
                await self._reader.look_on_disk(content)
            want = self._pattern.on_read(offset, end, self._reader.window_limit())
            self.position = max(self.position, end)
            self._ahead_from, self._ahead_until = offset, want.end
            self._reader.want(content, want.start, end, want.end)
            return await self._reader.collect(content, offset, end)
        finally:
            self._reads -= 1
            self._leave_when_done()

    def read_ahead(self, start: int) -> None:
        """A download of what comes before `start` is nearly over: go on, as far as the reader is expected to. It may be
        another reader's, or from before a jump: what lies between there and this reader is wanted by nobody."""
        if self._reads and self.content.held:
            self._ahead_until = max(self._ahead_until, self._pattern.on_wait(self._reader.window_limit()))
        start = max(start, self._ahead_from)
        self._reader.want(self.content, start, start, self._ahead_until)

    def close(self) -> None:
        """Reads that are under way go on."""
        self._closed = True
        self._leave_when_done()

    def _leave_when_done(self) -> None:
        if self._closed and not self._reads:
            self._reader.leave(self.content, self)


class Reader:
    def __init__(self, store: RemoteStore, options: ReaderOptions, disk: DiskCache | None = None) -> None:
        self._store = store
        self._disk = disk
        self.options = options
        self._cache = BlockCache(options.memory_bytes)
        self._contents: dict[ContentKey, FileContent] = {}
        self._young: dict[ContentKey, None] = {}  # versions whose second had not passed when bytes of them were kept
        self.on_doubt: Callable[[int, Fingerprint], None] = lambda inode, version: None  # `outgrown`, told unasked
        self._nursery: trio.Nursery | None = None
        self._moments = count(1)  # what came before what: numbers, because two events may have the same time

    @property
    def memory_bytes(self) -> int:
        """Of what is cached, that in memory."""
        return self._cache.bytes_used

    @property
    def cache_bytes(self) -> int:
        """What is cached, in memory and on the local disk."""
        return self._cache.bytes_used + (self._disk.bytes_used if self._disk is not None else 0)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve downloads until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            if self._disk is not None:
                await nursery.start(self._disk.run)
            task_status.started()
            await trio.sleep_forever()

    def open(
        self,
        inode: int,
        version: Fingerprint,
        path_of: PathOf,
        *,
        seen: bool = False,
        readahead: ReadAheadOptions | None = None,
    ) -> FileReader:
        """A reader of that version; `path_of` gives the file's path of the moment (it may be renamed). `seen`: the
        kernel may have pages of that version already."""
        key = ContentKey(inode, version)
        content = self._contents.get(key)
        if content is None or content.error is not None:
            content = self._contents[key] = FileContent(key, path_of, self._cache.has_any(key))
        content.seen |= seen
        content.served |= seen
        reader = FileReader(self, content, readahead or self.options.readahead)
        content.readers.add(reader)
        return reader

    def has_start(self, inode: int, version: Fingerprint) -> bool:
        """Are the first bytes of that version here, or on their way?"""
        key = ContentKey(inode, version)
        content = self._contents.get(key)
        return self._cache.find(key, 0) is not None or (content is not None and content.fetch_at(0) is not None)

    async def prefetch(self, inode: int, version: Fingerprint, path_of: PathOf, *, seen: bool) -> None:
        """Bring a small file into memory; who opens it meanwhile joins. A failure is left to who reads it then."""
        reader = self.open(inode, version, path_of, seen=seen)
        try:
            with contextlib.suppress(Exception):
                await reader.read(0, version.size)
        finally:
            reader.close()

    @property
    def files_at_once(self) -> int:
        """So many files are well given to `prefetch_together`."""
        return self._store.files_at_once

    async def prefetch_together(self, wanted: Sequence[tuple[int, Fingerprint, PathOf]]) -> None:
        """`prefetch` for several files of a folder, of which nobody has seen anything, with one request where the NAS
        allows that. (Each is the first download of its version, so it needs no proof.)"""
        opened = [self.open(number, version, path_of) for number, version, path_of in wanted]
        try:
            together: list[tuple[FileContent, Fetch]] = []
            for reader in opened:
                content = reader.content
                if content.on_disk is None:
                    await self.look_on_disk(content)
                if not content.seen and not content.fetches and self._gaps(content, 0, content.size):
                    content.seen = True
                    fetch = Fetch(0, content.size, True, next(self._moments))
                    content.fetches.append(fetch)
                    together.append((content, fetch))
            await self._fetch_together(together)
            for reader in opened:  # what did not come so, comes alone
                with contextlib.suppress(Exception):
                    await reader.read(0, reader.content.size)
        finally:
            for reader in opened:
                reader.close()

    async def _fetch_together(self, together: Sequence[tuple[FileContent, Fetch]]) -> None:
        found: Sequence[bytes | None] = []
        try:
            if together:
                found = await self._store.read_files([(content.path_of(), content.size) for content, _ in together])
        except Exception:  # here it would end the mount; each file is read by itself
            log.exception("reading files together met what nobody foresaw")
        finally:
            for (content, fetch), data in zip_longest(together, found):
                content.fetches.remove(fetch)
                if fetch.scope.cancel_called:
                    pass  # the file was written here meanwhile
                elif data is None:
                    content.seen = bool(content.served)
                elif content.error is None:
                    self._keep(content, 0, memoryview(data))
                fetch.advance()

    def leave(self, content: FileContent, reader: FileReader) -> None:
        content.readers.discard(reader)
        if content.readers:
            return
        for fetch in content.fetches:
            if fetch.position < fetch.end:  # else it only has to end, and its connection can be used again
                fetch.scope.cancel()
        if self._contents.get(content.key) is content:
            del self._contents[content.key]

    def written_here(self, inode: int, version: Fingerprint, path: str, data: str | None) -> None:
        """The bytes of this version were written here; they are in the file `data`, if any is right. What is cached is
        void: with times of whole seconds, it may be called like the one before it."""
        key = ContentKey(inode, version)
        self._cache.drop(key)
        if key in self._contents:
            self._read_anew(self._contents[key])
        if self._disk is not None:
            self._disk.forget(path)
            if data is not None:
                self._disk.take_over(path, version, data)

    def forget_paths(self, *paths: str) -> None:
        """What is at or below these paths is something else from now on: on the disk bytes are kept by path."""
        if self._disk is not None:
            for path in paths:
                self._disk.forget(path)

    def _read_anew(self, content: FileContent) -> None:
        """Nothing that was found of it, or is on its way, is right any more."""
        content.seen = True
        content.on_disk = OnDisk(None)
        content.let_go(next(self._moments))
        content.unasked_bytes = 0
        for fetch in content.fetches:
            fetch.scope.cancel()

    async def look_on_disk(self, content: FileContent) -> None:
        """Learn what the disk cache has of this version; once per version, before its first byte is wanted."""
        found = None
        if self._disk is not None:
            found = await self._disk.find(content.path_of(), content.key.version)
        if content.on_disk is None:
            content.on_disk = OnDisk(found)
            content.seen |= found is not None

    def outgrown(self, inode: int, version: Fingerprint) -> bool:
        """Were bytes of this version kept while it was so young that a rewrite could have gone unseen, and is it old
        enough by now? They are dropped then: whoever opens the file reads it once more."""
        key = ContentKey(inode, version)
        if key not in self._young or not self._is_settled(version):
            return False
        del self._young[key]
        self._cache.drop(key)
        return True

    def _is_settled(self, version: Fingerprint) -> bool:
        """Would any further write give the file another mtime? The NAS's times have whole seconds, so a version
        names one content only after its second has passed."""
        clock = self._store.clock_seconds()
        return clock is not None and version.mtime_ns <= (clock - _SETTLED_AFTER_SECONDS) * 1e9

    def window_limit(self) -> int:
        """Each open file's share of the memory for read-ahead, in bytes."""
        streams = sum(len(content.readers) for content in self._contents.values())
        return self.options.memory_bytes // (2 * max(1, streams))

    # ----- wanting ----------------------------------------------------------------------------------------------

    def want(self, content: FileContent, start: int, needed: int, end: int) -> None:
        """Start downloads for the parts of [start, end) that are neither here nor on their way.

        What is not `needed` yet, [needed, end), comes in long downloads one after the other: side by side they would
        share the line, and the one that the reader waits for would come no sooner than the last.
        """
        for gap_start, gap_end in self._gaps(content, start, end):
            position = gap_start
            while position < gap_end:
                coming = content.fetch_at(position) or content.held_at(position)
                if self._store.ranges_ignored:
                    if coming is None:
                        self._start_stream(content, position)
                    return
                if coming is not None:
                    position = coming.end
                    continue
                if position >= needed and content.to_come(start, end) > self.options.lead_bytes:
                    return  # `read_ahead` comes back to it
                limit = min(
                    [gap_end, position + self.options.request_bytes]
                    + [other.position for other in content.fetches if other.position > position]
                    + [held.offset for held in content.held if held.offset > position]
                )
                self._start(content, position, limit)
                position = limit

    def _gaps(self, content: FileContent, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of [start, end) that are neither in memory nor on the local disk."""
        gaps = self._cache.gaps(content.key, start, end)
        if content.on_disk is None or not gaps:
            return gaps
        return [gap for memory_gap in gaps for gap in content.on_disk.gaps(*memory_gap)]

    def _start_stream(self, content: FileContent, start: int) -> None:
        """Without ranges: download to the end of the file. There is one stream per reader, apart from those that a
        read waits for; each takes bandwidth from the start of the file on. So it costs nothing to begin with what is
        missing just before: the kernel sends the reads of a sequential reader out of order now and then."""
        for gap_start, _ in self._gaps(content, max(0, start - self.options.request_bytes), start):
            if content.fetch_at(gap_start) is None and content.held_at(gap_start) is None:
                start = gap_start
                break
        idle = [fetch for fetch in content.fetches if not fetch.waiting]
        for fetch in idle[: max(0, len(content.fetches) + 1 - len(content.readers))]:
            fetch.scope.cancel()
        self._start(content, start, content.size)

    def _start(self, content: FileContent, start: int, end: int) -> None:
        fetch = Fetch(start, end, not content.seen, next(self._moments))
        content.seen = True
        content.fetches.append(fetch)
        assert self._nursery is not None, "run() has not been started"
        self._nursery.start_soon(self._fetch, content, fetch)

    async def _fetch(self, content: FileContent, fetch: Fetch) -> None:
        small = fetch.end - fetch.start <= self.options.small_read_bytes

        async def take(offset: int, data: memoryview) -> None:
            if fetch.scope.cancel_called:
                return
            came = fetch.sent if small else next(self._moments)
            if fetch.first or came < content.proved:
                self._keep(content, offset, data)
            else:
                content.hold(Held(offset, data, came))
                if content.unasked_bytes >= min(self.options.proof_bytes, self.options.memory_bytes // 4):
                    self._prove_soon(content)
            fetch.position = offset + len(data)
            fetch.advance()
            if content.held and not content.to_come(0, content.size):
                self._prove_last(content)
            if not fetch.followed and fetch.end - fetch.position <= self.options.lead_bytes:
                fetch.followed = True
                for reader in content.readers:
                    reader.read_ahead(fetch.end)
            await self._keep_pace(content, fetch)
            if self._disk is not None and not small:
                await self._disk.keep_pace()

        if small and not fetch.first:
            self._prove_soon(content)
        try:
            with fetch.scope:
                await self._store.read_range(
                    content.path_of(), fetch.start, fetch.end - fetch.start, content.size, take
                )
        except (Changed, NotFound) as error:
            self._void(content, error)
        except Exception as error:  # who waits for the bytes raises it; here it would end the mount
            fetch.error = error
        finally:
            content.fetches.remove(fetch)
            ended_here = fetch.scope.cancel_called or content.error is not None
            if fetch.error is None and fetch.position < fetch.end and not ended_here:
                fetch.error = ShortBody("the download was ended early", path=content.path_of())
            if content.held:
                self._prove_soon(content)
            fetch.advance()

    async def _keep_pace(self, content: FileContent, fetch: Fetch) -> None:
        """Hold a whole-file stream back while it is far ahead of its readers."""
        ahead = self.options.readahead.max_window_bytes
        waiting_since = trio.current_time()
        while self._store.ranges_ignored and fetch.end - fetch.start > self.options.request_bytes:
            furthest = max((reader.position for reader in content.readers), default=0)
            if fetch.position <= furthest + min(ahead, self.options.memory_bytes // 4):
                return
            if trio.current_time() > waiting_since + self.options.idle_seconds:
                fetch.scope.cancel()
            await trio.sleep(0.02)  # readers do not signal: this is the path for servers without ranges only

    # ----- the proof --------------------------------------------------------------------------------------------

    def _prove_soon(self, content: FileContent) -> None:
        """Ask now, or as soon as the question under way is answered, which may have come too early."""
        content.in_a_hurry = True
        self._proof_of(content).hurry.set()

    def _prove_last(self, content: FileContent) -> None:
        """All is here that was wanted. Who waits for the last bytes need not wait for the answer to a question that
        came too early for them, too."""
        if content.unasked_bytes:
            if content.proof is not None and content.proof.is_asked:
                content.proof = None
            self._prove_soon(content)

    def _proof_of(self, content: FileContent) -> Proof:
        if content.proof is None:
            content.proof = Proof()
            assert self._nursery is not None
            self._nursery.start_soon(self._verify, content, content.proof)
        return content.proof

    async def _verify(self, content: FileContent, proof: Proof) -> None:
        """Ask, and let the bytes go that came before the question."""
        try:
            with trio.move_on_at(content.asked_at + self.options.proof_seconds):
                await proof.hurry.wait()
            content.in_a_hurry, content.unasked_bytes, proof.is_asked = False, 0, True
            asked, content.asked_at = next(self._moments), trio.current_time()
            content.asked = asked
            entry = (await self._store.get_entries([content.path_of()]))[0]
            if entry is None:
                self._void(content, NotFound("the file is gone", path=content.path_of()))
            elif entry.fingerprint != content.key.version:
                self._void(content, Changed("the file was changed on the NAS", path=content.path_of()))
            else:
                self._release(content, asked)
        except Exception as error:  # who waits for the proof raises it; the bytes stay, for the next one
            proof.error = error
        finally:
            if content.proof is proof:
                content.proof = None
            proof.ended.set()
            for fetch in content.fetches:
                fetch.advance()
        if content.in_a_hurry and content.held and proof.error is None:
            self._prove_soon(content)

    def _release(self, content: FileContent, asked: int) -> None:
        content.proved = max(content.proved, asked)  # answers may come in another order
        for held in content.let_go(asked):
            self._keep(content, held.offset, held.data)

    def _keep(self, content: FileContent, offset: int, data: memoryview) -> None:
        # What still comes of a download that was ended, or waited for its proof, is not of the content that has taken
        # this one's place: that one believes its first download because the cache had nothing of it.
        if content.error is not None or self._contents.get(content.key) is not content:
            return
        self._cache.add(content.key, offset, data)
        if not self._is_settled(content.key.version):
            self._young[content.key] = None
            if len(self._young) > _MOST_YOUNG:  # most are never opened again, and would be remembered for ever
                oldest = next(iter(self._young))
                del self._young[oldest]
                self._cache.drop(oldest)
                self.on_doubt(*oldest)
        elif self._disk is not None:
            self._disk.add(content.path_of(), content.key.version, offset, data)

    def _void(self, content: FileContent, error: RemoteError) -> None:
        content.error = error
        content.let_go(next(self._moments))
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
            if await self._load(content, position):
                continue
            await self._wait(content, position, end)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _load(self, content: FileContent, position: int) -> bool:
        """Bring the byte at `position` from the local disk into memory. False: it is not there."""
        on_disk = content.on_disk
        stretch = on_disk.at(position) if on_disk is not None else None
        if self._disk is None or on_disk is None or on_disk.file is None or stretch is None:
            return False
        data = await self._disk.read(on_disk.file, stretch)
        if data is None or content.on_disk is not on_disk:
            on_disk.lose(stretch)
            return False
        self._cache.add(content.key, stretch.start, data)
        return True

    async def _wait(self, content: FileContent, position: int, end: int) -> None:
        """Wait until something happened that may have brought the byte at `position`. Raises why it cannot come."""
        if content.error is not None:
            raise content.error
        if content.held_at(position) is not None:
            proof = self._proof_of(content)
            await proof.ended.wait()
            if content.error is not None:
                raise content.error
            if proof.error is not None:
                raise proof.error
            return
        fetch = content.fetch_at(position)
        if fetch is None:
            self.want(content, position, end, end)
            fetch = content.fetch_at(position)
            assert fetch is not None, "what is wanted and not here is on its way"
        fetch.waiting += 1
        try:
            await fetch.step.wait()
        finally:
            fetch.waiting -= 1
        if content.error is not None:
            raise content.error
        if fetch.error is not None and fetch.position <= position:
            raise fetch.error
