"""`synofs status`, `synofs flush` and `synofs refresh`: questions to mounts that are there."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from synofs.app.control import ControlClient
from synofs.app.errors import Failure, Problem
from synofs.app.mounts import MountEntry, find_mount_above, list_mounts
from synofs.app.profiles import find_mounted, not_mounted
from synofs.cli import options as opt
from synofs.cli.mounting import read_seconds, wait_for_uploads
from synofs.cli.terminal import console, format_bytes, format_seconds

WATCH_SECONDS = 1.0
STATUS_SECONDS = 15.0  # the mount may have to find out first whether the NAS is there
REFRESH_SECONDS = 60.0
BUSIEST_CALLS = 4
TROUBLED_UPLOADS = 5

Status = dict[str, Any]


def status(
    mountpoint: Annotated[
        str | None,
        typer.Argument(metavar="[MOUNTPOINT]", help="The mounted folder; without it, all.", show_default=False),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print JSON: an object for MOUNTPOINT, without it a list of them."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Print all that goes on inside, as JSON: calls, queues, caches, tasks.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Again every second, until Ctrl-C.")] = False,
) -> None:
    """Show how mounts are doing: connection, uploads, cache, calls to the NAS.

    MOUNTPOINT may be the name of a profile.

    Examples:
      synofs status
      synofs status ~/nas --watch
      synofs status ~/nas --json | jq .pending_uploads
    """
    if watch:
        with contextlib.suppress(KeyboardInterrupt):
            _watch(mountpoint, as_json=as_json)
        return
    found = _statuses(mountpoint, "debug" if debug else "status")
    if as_json or debug:
        _print_json(mountpoint, found)
    else:
        console().print(_report(found))


def flush(
    mountpoint: opt.Mountpoint,
    timeout: Annotated[str, typer.Option(metavar="SECONDS", help="How long to wait (also 90s, 5m, 1h).")] = "10m",
) -> None:
    """Wait until everything that was written is on the NAS. Exit code 0 means that it is.

    MOUNTPOINT may be the name of a profile.

    Examples:
      synofs flush ~/nas
      synofs flush ~/nas --timeout 1h && systemctl poweroff
    """
    seconds = read_seconds("timeout", timeout, "flush")
    with ControlClient.connect(_need(mountpoint)) as daemon:
        wait_for_uploads(daemon, seconds)


def refresh(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file or folder inside a mount.", show_default=False)],
) -> None:
    """Forget what is cached about PATH and all below it, so that the next look asks the NAS.

    Seldom needed: a listing is believed for --dir-ttl seconds only.

    Examples:
      synofs refresh ~/nas/inbox
    """
    found = find_mount_above(path)
    if found is None:
        raise Failure(Problem.NOT_MOUNTED, mountpoint=path)
    entry, inside = found
    with ControlClient.connect(entry) as daemon:
        daemon.ask("refresh", path=inside, within_seconds=REFRESH_SECONDS)


def _need(mountpoint: str) -> MountEntry:
    entry = find_mounted(mountpoint)
    if entry is None:
        raise not_mounted(mountpoint)
    return entry


def _ask(entry: MountEntry, command: str) -> Status:
    with ControlClient.connect(entry) as daemon:
        return daemon.ask(command, within_seconds=STATUS_SECONDS)


def _statuses(mountpoint: str | None, command: str = "status") -> list[Status]:
    """Of one mount, or of all: then one that does not answer is part of the answer."""
    if mountpoint is not None:
        return [_ask(_need(mountpoint), command)]
    found = []
    for entry in list_mounts():
        try:
            found.append(_ask(entry, command))
        except Failure as failure:
            state = "dead" if failure.problem is Problem.DAEMON_GONE else "unknown"
            known = {"mountpoint": entry.mountpoint, "url": entry.source}
            found.append({**known, "state": state, "problem": failure.line})
    return found


def _print_json(mountpoint: str | None, found: list[Status], indent: int | None = 2) -> None:
    print(json.dumps(found if mountpoint is None else found[0], indent=indent, sort_keys=True), flush=True)


def _watch(mountpoint: str | None, *, as_json: bool) -> None:
    out = console()
    if out.is_terminal and not as_json:
        with Live(_report(_statuses(mountpoint)), console=out, auto_refresh=False, screen=True) as live:
            while True:
                live.update(_report(_statuses(mountpoint)), refresh=True)
                time.sleep(WATCH_SECONDS)
    while True:
        found = _statuses(mountpoint)
        if as_json:
            _print_json(mountpoint, found, indent=None)
        else:
            out.print(_report(found))
        time.sleep(WATCH_SECONDS)


# ----- looks ----------------------------------------------------------------------------------------------------

_STATE_STYLES = {"online": "green", "offline": "red", "dead": "red", "unknown": "yellow"}


def _report(found: list[Status]) -> RenderableType:
    if not found:
        return Text("Nothing is mounted.")
    parts: list[RenderableType] = []
    for number, one in enumerate(found):
        if number:
            parts.append(Text())
        state = str(one["state"])
        parts.append(Text.assemble((one["mountpoint"], "bold"), "  ", (state, _STATE_STYLES.get(state, ""))))
        parts.append(Padding(_details(one), (0, 0, 0, 2), expand=False))
    return Group(*parts)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def _details(one: Status) -> RenderableType:
    if "problem" in one:
        return Text(one["problem"])
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column()
    rows.add_row("NAS", f"{one['url']} as {one['user']}, for {format_seconds(one['uptime_seconds'])}")
    if one["state"] == "offline":
        silent = format_seconds(time.time() - one["offline_since"])
        rows.add_row("trouble", f"{one['last_trouble']}, for {silent}")
    rows.add_row("uploads", f"{one['pending_uploads']} pending, {one['failed_uploads']} failed")
    for upload in one["troubled_uploads"][:TROUBLED_UPLOADS]:
        kept = f"; it is kept as {upload['kept_as']}" if "kept_as" in upload else ", and will be tried again"
        rows.add_row("", Text(_printable(f"{upload['path']}: {upload['why']}{kept}"), style="yellow"))
    for conflict in one["conflicts"][-TROUBLED_UPLOADS:]:
        text = f"{conflict['path']} was changed on the NAS meanwhile; yours is {conflict['kept_as']}"
        rows.add_row("", Text(_printable(text), style="yellow"))
    if len(one["troubled_uploads"]) > TROUBLED_UPLOADS:
        rows.add_row("", f"and {len(one['troubled_uploads']) - TROUBLED_UPLOADS} more; --json has them")
    rows.add_row("cache", format_bytes(one["cache_bytes"]))
    rows.add_row("traffic", f"{format_bytes(one['bytes_read'])} read, {format_bytes(one['bytes_written'])} written")
    calls = sorted(one["api_calls"].items(), key=lambda item: -item[1])
    names = [f"{name.removeprefix('SYNO.').removeprefix('FileStation.')} {count}" for name, count in calls]
    more = [f"and {len(calls) - BUSIEST_CALLS} more"] if len(calls) > BUSIEST_CALLS else []
    rows.add_row("calls", ", ".join(names[:BUSIEST_CALLS] + more) or "none")
    rows.add_row("process", f"{one['pid']}, log: {one['log']}")
    return rows
