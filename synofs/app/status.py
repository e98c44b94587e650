"""What `synofs status` reports about a running mount, and systemd's one-line form of it."""

from __future__ import annotations

import os
import time
from typing import Any

from synofs.app.assembly import Parts
from synofs.app.config import Settings
from synofs.app.logs import log_path
from synofs.fs.writes import Writes

SHOWN_UPLOADS = 100


def snapshot(parts: Parts, settings: Settings, started_at: float) -> dict[str, Any]:
    """The names of the interface first; scripts rely on them."""
    client = parts.client.stats()
    health = parts.client.health
    counters = parts.filesystem.counters()
    return {
        "state": "offline" if health.away_since else "online",
        "pending_uploads": counters.get("pending_uploads", 0),
        "failed_uploads": counters.get("failed_uploads", 0),
        "cache_bytes": counters.get("cache_bytes", 0),
        "dirty_bytes": counters.get("dirty_bytes", 0),
        "api_calls": dict(client.api_calls),
        "bytes_read": client.bytes_read,
        "bytes_written": client.bytes_written,
        "pid": os.getpid(),
        "url": settings.url,
        "user": settings.user,
        "share": settings.share,
        "mountpoint": settings.mountpoint,
        "uptime_seconds": round(time.time() - started_at, 1),
        "offline_since": health.away_since,
        "last_trouble": health.trouble,
        "requests_in_flight": client.active_requests,
        "requests_waiting": client.waiting_requests,
        "requests_allowed": client.allowed_requests,
        "sign_ins": client.sign_ins,
        "conflicts": [
            {"path": path, "kept_as": kept}
            for path, kept in (parts.filesystem.writes.conflicts if parts.filesystem.writes is not None else [])
        ][-SHOWN_UPLOADS:],
        "troubled_uploads": troubled_uploads(parts.filesystem.writes),
        "log": str(log_path(settings.mountpoint)),
        "filesystem": counters,
    }


def troubled_uploads(writes: Writes | None) -> list[dict[str, Any]]:
    """The uploads that need somebody's attention or patience: refused ones, and those that are tried again."""
    if writes is None:
        return []
    refused: list[dict[str, Any]] = [
        {"path": row.path, "why": row.refused, "kept_as": writes.area.kept_as(row)}
        for row in writes.area.still_refused()
    ]
    tried_again: list[dict[str, Any]] = [
        {"path": entry.item.path(), "why": str(entry.error), "attempts": entry.attempts}
        for entry in writes.queue.entries
        if entry.error is not None and not entry.refused
    ]
    return [*refused, *tried_again][:SHOWN_UPLOADS]


def one_line(status: dict[str, Any]) -> str:
    pending, failed = status["pending_uploads"], status["failed_uploads"]
    return f"{status['state']}, {pending} uploads pending" + (f", {failed} failed" if failed else "")
