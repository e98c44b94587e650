"""The contract with the far side: values, promises and failures.

Everything above (`fs`, `content`, `fuse`) speaks to a NAS through `RemoteStore` only; everything below
(`filestation`) exists to keep its promises. Standard library only, so that either side can be read, tested and
replaced alone.

Paths are absolute strings with `/` between the parts. `/` is the list of shares, `/share` a share, and everything
else lies below one. A path never ends in a slash (except the root). Names are UTF-8; bytes that are not UTF-8 are
carried as lone surrogates (PEP 383), so that `os.fsencode` gives back what is on the NAS's disk.

Every method of the store may raise a `RemoteError`, and nothing else but `trio.Cancelled`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import IntFlag
from typing import BinaryIO, ClassVar, NamedTuple, Protocol


class Rights(IntFlag):
    """What the signed-in session may do with an entry (effective rights, not the rules on disk)."""

    NONE = 0
    READ = 1
    WRITE = 2
    EXECUTE = 4
    APPEND = 8
    DELETE = 16
    ALL = 31


class Fingerprint(NamedTuple):
    """Identifies one version of a file as well as a listing can: size in bytes, mtime in nanoseconds.

    The NAS reports whole seconds, so two writes of the same size within one second look alike.
    """

    size: int
    mtime_ns: int


class RemoteEntry(NamedTuple):
    """One name in a folder, as last seen on the NAS. A tuple: 100,000 of them must stay small."""

    name: str
    is_dir: bool
    size: int
    mtime_ns: int
    atime_ns: int
    ctime_ns: int
    rights: Rights

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(self.size, self.mtime_ns)


class Space(NamedTuple):
    """Capacity of the volume behind a share, in bytes."""

    total_bytes: int
    free_bytes: int


OnPage = Callable[[Sequence[RemoteEntry]], None]
OnPageOf = Callable[[int, Sequence[RemoteEntry]], None]
OnListed = Callable[[int, Exception | None], None]
OnData = Callable[[int, memoryview], Awaitable[None]]
OnProgress = Callable[[int], None]


class RemoteStore(Protocol):
    """What a NAS promises to the filesystem."""

    # ----- reading --------------------------------------------------------------------------------------------

    async def list_dir(self, path: str, on_page: OnPage) -> None:
        """List a folder (for `/`: the shares), all of it.

        `on_page` is called synchronously in the caller's thread, in the order of the NAS's sort, as soon as a part
        of the listing is certain; returning means that the listing is complete. However the folder changes
        meanwhile: every entry that was there throughout is delivered exactly once, and no name twice.
        """

    async def list_dirs(self, paths: Sequence[str], on_page: OnPageOf, on_listed: OnListed) -> None:
        """`list_dir` of several folders (`/` is not among them), in as few requests as the NAS allows.

        `on_page(number, entries)` is called like `on_page` there, with the folder's place in `paths`, and
        `on_listed(number, error)` once for each, synchronously, when its listing is complete or has failed.
        """

    @property
    def folders_at_once(self) -> int:
        """So many folders are well listed together; with 1 nothing is gained by `list_dirs`."""

    async def get_entries(self, paths: Sequence[str]) -> list[RemoteEntry | None]:
        """Look at many paths in few requests; `None` where nothing is. Same order and length as `paths`."""

    async def read_range(self, path: str, offset: int, length: int, size: int, on_data: OnData) -> None:
        """Read `length` bytes at `offset` from a file that is believed to have `size` bytes.

        `on_data(offset, piece)` is awaited in the caller's task for each piece, in order and without gaps, starting
        at `offset`; the callee owns the piece. Awaiting slowly slows the download down. On return exactly `length`
        bytes have been delivered. A broken connection is resumed once from the last byte delivered.

        Raises `Changed` when the NAS reports another size, `NotFound` when the file is gone, `ShortBody` when the
        NAS sent less than it announced. A server that ignores `Range` is read from the start and the bytes before
        `offset` are dropped: `ranges_ignored` tells that this happened.
        """

    async def read_files(self, files: Sequence[tuple[str, int]]) -> list[bytes | None]:
        """Whole small files of one folder, by path and expected size, in one request where the NAS allows that.

        Same order and length as `files`; None for each that has to be read by itself, for whatever reason. Raises
        nothing.
        """

    @property
    def files_at_once(self) -> int:
        """So many small files are well read together; with 1 nothing is gained by `read_files`."""

    @property
    def ranges_ignored(self) -> bool:
        """True once a download answered a `Range` request with the whole file. Ask for long ranges then."""

    def clock_seconds(self) -> float | None:
        """What the NAS's clock says now (seconds of the epoch), within a second or two; `None` if it does not tell."""

    async def spaces(self) -> dict[str, Space]:
        """Capacity of the volume behind each share (without a slash) that the session sees, where the NAS tells."""

    # ----- writing --------------------------------------------------------------------------------------------
    # A call that failed with a temporary error may or may not have taken effect; the caller looks before it
    # repeats. Nothing here is ever repeated blindly below this line.

    async def upload(
        self,
        path: str,
        source: BinaryIO,
        size: int,
        mtime_ns: int | None,
        *,
        overwrite: bool,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Put a whole file at `path`: `size` bytes from `source` (which is rewound for a replay).

        Raises `Exists` when something is there and `overwrite` is false.
        """

    def begin_upload(self, path: str, *, overwrite: bool) -> GrowingUpload | None:
        """Begin to send a file that is still being written. Nothing is asked yet. None where that is impossible."""

    async def make_dir(self, path: str) -> RemoteEntry:
        """Make one folder. Raises `Exists`, `NotFound` (no parent)."""

    async def rename(self, path: str, new_name: str) -> RemoteEntry:
        """Rename within the folder. Never replaces: raises `Exists`."""

    async def move(self, path: str, dest_dir: str, *, overwrite: bool) -> RemoteEntry:
        """Move into another folder, keeping the name. With `overwrite` a file of that name is replaced. Returns what
        was seen there afterwards."""

    async def remove(self, path: str) -> None:
        """Remove a file, or an empty folder (`NotEmpty` otherwise). A path that is gone is no error."""

    async def check_writable(self, dir_path: str, name: str) -> None:
        """Raise the refusal that an upload of `name` into `dir_path` would meet. Free of side effects."""

    async def md5(self, path: str) -> str:
        """MD5 of a file in hex, computed on the NAS."""


class GrowingUpload(Protocol):
    """A file whose beginning is sent while the rest is being written. Nothing is at `path` before `finish`.

    One call at a time. After a call that failed or was cancelled it is of no use, and `finish` raises `BeginningLost`.
    """

    @property
    def path(self) -> str: ...

    @property
    def overwrite(self) -> bool: ...

    @property
    def sent(self) -> int:
        """The NAS has so many bytes."""

    async def append(self, source: BinaryIO, end: int, size: int, mtime_ns: int) -> None:
        """Send the bytes of `source` from `sent` to at most `end`, which is less than `size`, the size so far."""

    async def finish(self, source: BinaryIO, size: int, mtime_ns: int) -> None:
        """Send the rest of `source`: as `upload`, the whole file is at `path` then.

        Raises `BeginningLost` when nothing has arrived, and the whole has to be sent.
        """


class RemoteError(Exception):
    """Base of every failure of the far side. The message is for people; `path` is the NAS path it is about."""

    temporary: ClassVar[bool] = False  # may the same call succeed later without anybody changing anything?

    def __init__(self, message: str, *, path: str | None = None, code: int | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.code = code  # the NAS's own number, for log lines


# The NAS answered, and the answer is about the file.


class NotFound(RemoteError):
    """Nothing is there."""


class Exists(RemoteError):
    """Something is there already."""


class NotADirectory(RemoteError):
    """A file stands where a folder is needed."""


class IsADirectory(RemoteError):
    """A folder stands where a file is needed."""


class NotEmpty(RemoteError):
    """A folder that still has entries cannot be removed."""


class PermissionDenied(RemoteError):
    """This account may not do that."""


class ReadOnlyStore(RemoteError):
    """The share or volume cannot be written to."""


class NameTooLong(RemoteError):
    """Over 255 bytes, or 143 in an encrypted share."""


class InvalidName(RemoteError):
    """The NAS refuses this name."""


class InvalidRequest(RemoteError):
    """The NAS refuses the parameters of a call."""


class QuotaExceeded(RemoteError):
    """The account's or the share's quota is used up."""


class NoSpace(RemoteError):
    """The volume is full."""


class FileTooBig(RemoteError):
    """The file system of the target, or a proxy in front of the NAS, does not take a file of this size."""


class Unsupported(RemoteError):
    """The NAS lacks this function, or the file system below it does."""


class InputOutput(RemoteError):
    """The NAS failed to read or write its disks, or says that it does not know why."""


class Changed(RemoteError):
    """The file on the NAS is not the version that was asked for."""


# The NAS did not answer, or not with sense. Temporary: worth a try later.


class Unavailable(RemoteError):
    """The NAS cannot be asked right now."""

    temporary = True


class Unreachable(Unavailable):
    """No connection: refused, no route, unknown host, reset."""


class Away(Unreachable):
    """It was found to be away, which was said then, once; so it was not even asked, or not waited for."""


class TimedOut(Unavailable):
    """No answer within the deadline."""


class Overloaded(Unavailable):
    """The NAS, or the proxy before it, says that it is too busy (402, HTTP 502, 503, 504, 429)."""


class ShortBody(Unavailable):
    """Fewer bytes came than were announced."""


class BeginningLost(Unavailable):
    """The NAS has not kept what was sent of a file so far, or does not go on with it. Nothing is under its name."""


class BadAnswer(Unavailable):
    """Not an answer that a Synology NAS gives: HTML, other JSON, broken JSON, impossible values."""


# The NAS, or whoever answers in its place, is not to be spoken to. A person has to act.


class NotANas(RemoteError):
    """The host answers, but it is no Synology NAS (or its File Station is switched off)."""


class CertificateRefused(RemoteError):
    """The certificate is not trusted. `fingerprint` is its SHA-256 in hex, for `--fingerprint`; "" if unknown."""

    def __init__(self, message: str, *, fingerprint: str = "") -> None:
        super().__init__(message)
        self.fingerprint = fingerprint


class SignInRefused(RemoteError):
    """The NAS refused to sign in, and trying again the same way would only lead to a blocked address."""


class WrongPassword(SignInRefused):
    """No such account, or not its password."""


class OtpNeeded(SignInRefused):
    """The account has two-factor sign-in: a one-time code, or a remembered device, is needed."""


class WrongOtp(SignInRefused):
    """The one-time code was not accepted."""


class OtpSetupNeeded(SignInRefused):
    """The NAS wants two-factor sign-in for this account, and it is not set up yet."""


class AccountDisabled(SignInRefused):
    """The account is disabled, locked or a guest."""


class SignInNotAllowed(SignInRefused):
    """The account may not use File Station, or not from here."""


class AddressBlocked(SignInRefused):
    """The NAS blocks this machine's address after too many failed sign-ins."""


class PasswordExpired(SignInRefused):
    """The password has to be changed on the NAS first."""
