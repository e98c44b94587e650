"""`synofs mount` and `synofs umount`."""

from __future__ import annotations

import faulthandler
import time
from typing import Annotated, Any

import typer

from synofs.app import forced, profiles, service
from synofs.app.config import Words, parse_seconds, read_mount_options, wrong_option
from synofs.app.control import ControlClient
from synofs.app.credentials import find_credentials, saved_sign_ins
from synofs.app.errors import Failure, Problem
from synofs.app.launch import prepare, start_daemon
from synofs.app.logs import access_log_path, log_calls_to_file, log_to_stderr
from synofs.app.mounts import is_dead, unmount
from synofs.app.order import Order
from synofs.cli import options as opt
from synofs.cli.progress import bar, working
from synofs.cli.terminal import asker, say

END_SECONDS = 10.0  # after the unmount: signing out, and the end of the process


def mount(
    nas: opt.Nas,
    mountpoint: Annotated[
        str | None,
        typer.Argument(
            metavar="[MOUNTPOINT]", help="An empty folder of yours (default: the profile's).", show_default=False
        ),
    ] = None,
    user: opt.User = None,
    password_file: opt.PasswordFile = None,
    otp: opt.Otp = None,
    ca_file: opt.CaFile = None,
    fingerprint: opt.Fingerprint = None,
    insecure_http: opt.InsecureHttp = False,
    share: opt.Share = None,
    read_only: opt.ReadOnly = False,
    uid: opt.Uid = None,
    gid: opt.Gid = None,
    umask: opt.Umask = None,
    allow_other: opt.AllowOther = False,
    write_mode: opt.WriteMode = None,
    verify: opt.Verify = False,
    deadline: opt.Deadline = None,
    offline: opt.Offline = None,
    max_stale: opt.MaxStale = None,
    thumbnails: opt.Thumbnails = None,
    dir_ttl: opt.DirTtl = None,
    attr_ttl: opt.AttrTtl = None,
    cache_dir: opt.CacheDir = None,
    cache_size: opt.CacheSize = None,
    max_requests: opt.MaxRequests = None,
    drain_timeout: opt.DrainTimeout = None,
    log_level: opt.LogLevel = None,
    access_log: opt.AccessLog = False,
    mount_options: opt.MountOptions = None,
    foreground: opt.Foreground = False,
) -> None:
    """Mount a NAS on an empty folder. Returns once the mount answers.

    The password comes from --password-file, from the file that $SYNOFS_PASSWORD_FILE names, from the
    systemd credential synofs-password, or from "synofs login"; otherwise it is asked for.

    Examples:
      synofs mount https://nas:5001 ~/nas
      synofs mount anna@nas ~/photos --share photo --read-only
      synofs mount home          (a profile in ~/.config/synofs/config.toml)
    """
    words = read_mount_options(mount_options or [])
    words |= chosen(
        {
            "user": user,
            "password-file": password_file,
            "otp": otp,
            "ca-file": ca_file,
            "fingerprint": fingerprint,
            "insecure-http": insecure_http,
            "share": share,
            "read-only": read_only,
            "uid": uid,
            "gid": gid,
            "umask": umask,
            "allow-other": allow_other,
            "write-mode": write_mode,
            "verify": verify,
            "deadline": deadline,
            "offline": offline,
            "max-stale": max_stale,
            "thumbnails": thumbnails,
            "dir-ttl": dir_ttl,
            "attr-ttl": attr_ttl,
            "cache-dir": cache_dir,
            "cache-size": cache_size,
            "max-requests": max_requests,
            "drain-timeout": drain_timeout,
            "log-level": log_level,
            "access-log": access_log,
        }
    )
    settings, sign_in_words = profiles.read_mount(nas, words, mountpoint)
    settings = prepare(settings)
    order = Order(*find_credentials(settings, sign_in_words, saved_sign_ins(), asker()))
    if foreground:
        log_to_stderr(settings.log_level)
        if settings.access_log:
            log_calls_to_file(access_log_path(settings.mountpoint))
        faulthandler.enable()
        service.run(order, on_ready=lambda: None)
    else:
        with working(f"connecting to {settings.address.host}"):
            start_daemon(order)


def chosen(given: dict[str, str | bool | None]) -> Words:
    """The options that were really given."""
    return {name: value for name, value in given.items() if value is not None and value is not False}


def umount(
    mountpoint: opt.Mountpoint,
    timeout: Annotated[
        str, typer.Option(metavar="SECONDS", help="How long to wait for uploads (also 90s, 5m, 1h).")
    ] = "10m",
    force: Annotated[
        bool,
        typer.Option("--force", help="Do not wait, and unmount even while the folder is in use or its process hangs."),
    ] = False,
    dead: Annotated[
        bool, typer.Option("--dead", help="Only clear a folder whose synofs process has ended; else do nothing.")
    ] = False,
) -> None:
    """Wait until everything is on the NAS, then unmount.

    MOUNTPOINT may be the name of a profile. Ctrl-C ends the wait, and the
    folder stays mounted. With --force, what is not sent yet stays in the
    journal, and is sent after the next mount; programs that wait for a
    process that hangs are let go.

    Examples:
      synofs umount ~/nas
      synofs umount home --timeout 1m
      synofs umount ~/nas --force
    """
    seconds = read_seconds("timeout", timeout, "umount")
    entry = profiles.find_mounted(mountpoint)
    if dead:
        if entry is not None and forced.has_ended(entry):
            say(forced.clear(entry))
        return
    if entry is None:
        raise profiles.not_mounted(mountpoint)
    try:
        if force:  # what still has files open keeps the process alive, out of sight
            for line in forced.end(entry):
                say(line)
            return
        with ControlClient.connect(entry) as daemon:
            started = time.monotonic()
            try:  # apart from the unmount, so that Ctrl-C ends the wait and nothing else
                wait_for_uploads(daemon, seconds)
            except Failure as failure:
                if failure.problem is not Problem.UPLOADS_FAILED:  # those are safe in the recovery folder
                    raise
            seconds = max(0.0, seconds - (time.monotonic() - started))
            daemon.ask("umount", timeout_seconds=seconds, within_seconds=seconds + 30)
            daemon.wait_for_end(END_SECONDS)
    except Failure as failure:
        if failure.problem is not Problem.DAEMON_GONE:
            raise
        if is_dead(entry.mountpoint):
            say(forced.clear(entry))
        else:
            unmount(entry.mountpoint)


def wait_for_uploads(daemon: ControlClient, seconds: float) -> None:
    """Until nothing is pending, with a bar on a terminal. Raises `UPLOADS_PENDING`, `UPLOADS_FAILED`."""
    with bar("sending to the NAS") as show:

        def take(news: dict[str, Any]) -> None:
            show(news["progress"])

        daemon.follow("flush", {"timeout_seconds": seconds}, take)


def read_seconds(name: str, text: str, command: str) -> float:
    try:
        return parse_seconds(text)
    except ValueError as exc:
        raise wrong_option(f"--{name}: {exc}", command) from exc
