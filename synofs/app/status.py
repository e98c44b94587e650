"""What `synofs status` reports about a running mount, and systemd's one-line form of it."""

from __future__ import annotations

import os
import time
from typing import Any

from synofs.app.assembly import Parts
from synofs.app.config import Settings
from synofs.app.logs import log_path


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
        "log": str(log_path(settings.mountpoint)),
        "filesystem": counters,
    }


def one_line(status: dict[str, Any]) -> str:
    pending, failed = status["pending_uploads"], status["failed_uploads"]
    return f"{status['state']}, {pending} uploads pending" + (f", {failed} failed" if failed else "")
