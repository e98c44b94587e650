"""The folder on the local disk: who owns it, what lies where.

CACHE_DIR/                    what the user names with --cache-dir
  synofs-v1/                  ours: cleaning up can never reach the user's own files
    <identity>/               one NAS, account and share
      lock                    flock: one mount at a time; holds the name that this folder's mount has on the NAS
      journal.db              what is unsent (journal.py)
      staging/                the bytes of unsent files (staging.py)
      recovery/               files that the NAS refused for good, under names that people can read
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from synofs.content.errors import CacheDirInUse
from synofs.content.private import claim_dir, make_dirs, safe_place

LAYOUT = "synofs-v1"


def identity(url: str, user: str, share: str | None) -> str:
    """A folder name for what is mounted: readable, and unique for (NAS, account, share)."""
    text = "\n".join((url.rstrip("/").lower(), user, share or ""))
    host = url.split("//", 1)[-1].split("/", 1)[0].split("@")[-1]
    readable = "".join(c if c.isalnum() or c in "-." else "_" for c in host)[:40]
    return f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@dataclass(frozen=True, slots=True)
class CacheDir:
    """An owned cache folder. Close it to give it up."""

    root: Path
    lock_fd: int
    client_id: str  # eight hex digits that no other cache folder has

    @property
    def journal(self) -> Path:
        return self.root / "journal.db"

    @property
    def staging(self) -> Path:
        return self.root / "staging"

    @property
    def recovery(self) -> Path:
        return self.root / "recovery"

    def close(self) -> None:
        os.close(self.lock_fd)

    def __enter__(self) -> CacheDir:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_cache_dir(base: Path, name: str) -> CacheDir:
    """Create and lock `base/synofs-v1/name`. Blocking; call it from a thread.

    Raises `CacheDirInUse` when another process holds it, `CacheDirUnsafe` when a part of it is a link, belongs to
    another user or can be replaced by one, `OSError` when the disk refuses.
    """
    make_dirs(base)
    root = safe_place(base) / LAYOUT / name
    for path in (root.parent, root, root / "staging", root / "recovery"):
        claim_dir(path)
    fd = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise CacheDirInUse(
            f"{root} is in use by another mount of the same share; unmount that one, or give this one a --cache-dir"
        ) from None
    return CacheDir(root, fd, _client_id(fd))


def _client_id(lock_fd: int) -> str:
    """Made once per folder: hidden names on the NAS that begin with it are this folder's, and nobody else's."""
    known = os.pread(lock_fd, 64, 0).decode("ascii", "replace")
    if len(known) != 8 or not set(known) <= set("0123456789abcdef"):
        known = secrets.token_hex(4)
        os.ftruncate(lock_fd, 0)
        os.pwrite(lock_fd, known.encode(), 0)
        os.fsync(lock_fd)
    return known
