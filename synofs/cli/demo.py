"""`synofs demo`: a simulated NAS with content, mounted through the real kernel, for a look around.

It can only ever touch the simulated NAS that it started itself: the address comes from that process, must be on the
loopback interface, and must carry the simulator's marker.
"""

from __future__ import annotations

import contextlib
import filecmp
import importlib.util
import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Annotated, NoReturn

import typer
from rich.text import Text
from rich.tree import Tree

from synofs.app.config import Words, read_settings
from synofs.app.control import ControlClient
from synofs.app.credentials import Credentials, Secret
from synofs.app.errors import Failure, Problem
from synofs.app.launch import prepare, start_daemon
from synofs.app.mounts import find_mount, unmount
from synofs.app.order import Order
from synofs.cli.progress import News, bar, working
from synofs.cli.terminal import console, format_bytes, say
from synofs.simnas import seed

USER = "demo"
SIMULATOR_SECONDS = 20.0
END_SECONDS = 10.0
SHOWN_PER_FOLDER = 6


def demo(
    mountpoint: Annotated[
        str | None,
        typer.Argument(
            metavar="[MOUNTPOINT]", help="An empty folder (default: a new one in /tmp).", show_default=False
        ),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Show, compare every file with the NAS's, unmount, and exit.")
    ] = False,
) -> None:
    """Try synofs without a NAS: mount a simulated one and look around.

    Needs no network and no root. Ctrl-C ends it and removes what it made.

    Examples:
      synofs demo
      synofs demo ~/nas
      synofs demo --once
    """
    if importlib.util.find_spec("uvicorn") is None:
        raise Failure(Problem.NO_EXTRA, extra="demo")
    # Whoever ends the demo politely gets the same clean end as with Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    with contextlib.ExitStack() as life:
        work = Path(life.enter_context(tempfile.TemporaryDirectory(prefix="synofs-demo-")))
        # The mount's log and caches go away with the rest.
        os.environ.update(XDG_STATE_HOME=str(work / "state"), XDG_CACHE_HOME=str(work / "cache"))
        with working("making the demo's files"):
            shares = _seed(work / "volume1")
        password = secrets.token_hex(12)
        with working("starting the simulated NAS"):
            url = life.enter_context(_simulated_nas(shares, password))
        folder = life.enter_context(_folder(mountpoint))
        daemon = life.enter_context(_mounted(url, password, folder))
        _show(folder)
        if once:
            with bar("comparing with the NAS's files") as show:
                _compare(folder, shares, show)
        else:
            _wait(folder, daemon)
    say("unmounted, and everything cleaned up")


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


# ----- what it consists of --------------------------------------------------------------------------------------


def _seed(volume: Path) -> dict[str, Path]:
    """Content, each folder of it a share: name -> directory."""
    volume.mkdir()
    seed.fill(volume)
    return {share.name: share for share in sorted(volume.iterdir()) if share.is_dir()}


@contextlib.contextmanager
def _simulated_nas(shares: dict[str, Path], password: str) -> Iterator[str]:
    """Run the simulated NAS; yields its address."""
    arguments = ["--listen", "127.0.0.1:0", "--account", f"{USER}:{password}"]
    for name, directory in shares.items():
        arguments += ["--share", f"{name}={directory}"]
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "synofs.simnas", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            start_new_session=True,  # Ctrl-C in the terminal is for us; the NAS ends after the mount
        )
        try:
            yield _address(process, complaints)
        finally:
            _end(process)


def _address(process: subprocess.Popen[bytes], complaints: IO[bytes]) -> str:
    assert process.stdout is not None
    ready = select.select([process.stdout], [], [], SIMULATOR_SECONDS)[0]
    line = process.stdout.readline().decode() if ready else ""
    if not line.startswith("simnas listening on http://127.0.0.1:"):
        process.kill()
        process.wait()
        complaints.seek(0)
        said = complaints.read().decode(errors="replace").strip().splitlines() or [line]
        raise Failure(Problem.DEMO_FAILED, detail=f"the simulated NAS did not start ({said[-1]})")
    url = line.rpartition(" ")[2].strip()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never by way of a proxy
    with opener.open(f"{url}/_simnas/", timeout=SIMULATOR_SECONDS) as answer:
        if json.load(answer).get("simnas") is not True:
            raise Failure(Problem.DEMO_FAILED, detail=f"{url} is not the simulated NAS")
    return url


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


@contextlib.contextmanager
def _folder(mountpoint: str | None) -> Iterator[Path]:
    """The folder to mount on; made if it is not there, and then removed again.

    Never inside a directory that is cleared: should the unmount fail, that would clear the NAS.
    """
    made = mountpoint is None or not os.path.exists(mountpoint)
    if mountpoint is None:
        folder = Path(tempfile.mkdtemp(prefix="synofs-nas-"))
    else:
        folder = Path(mountpoint).absolute()
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def _mounted(url: str, password: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    words: Words = {"user": USER, "insecure-http": True}
    settings = prepare(read_settings(url, words, str(folder))[0])
    started = time.monotonic()
    with working("mounting it"):
        daemon = start_daemon(Order(settings, Credentials(USER, Secret(password))))
    say(f"mounted {url} on {folder} in {time.monotonic() - started:.1f} s")
    try:
        yield daemon
    finally:
        entry = find_mount(str(folder))
        if entry is not None:
            try:
                with ControlClient.connect(entry) as control:
                    control.ask("umount", timeout_seconds=END_SECONDS, within_seconds=2 * END_SECONDS)
                    control.wait_for_end(END_SECONDS)
            except Failure as failure:
                say(f"{failure.line}; taking it away all the same")
                unmount(entry.mountpoint, lazy=True)
        _end(daemon)


# ----- what it shows --------------------------------------------------------------------------------------------


def _show(folder: Path) -> None:
    tree = Tree(Text(str(folder), style="bold"))
    for share in sorted(folder.iterdir()):
        _add(tree, share, depth=2)
    console().print(tree)


def _add(tree: Tree, path: Path, depth: int) -> None:
    status = path.stat()
    if not path.is_dir():
        changed = datetime.fromtimestamp(status.st_mtime)
        about = f"  {format_bytes(status.st_size)}, {changed:%Y-%m-%d %H:%M}"
        tree.add(Text.assemble(path.name, (about, "dim")))
        return
    branch = tree.add(Text(f"{path.name}/", style="blue"))
    if depth:
        inside = sorted(path.iterdir())
        for entry in inside[:SHOWN_PER_FOLDER]:
            _add(branch, entry, depth - 1)
        if len(inside) > SHOWN_PER_FOLDER:
            branch.add(Text(f"and {len(inside) - SHOWN_PER_FOLDER} more", style="dim"))


def _wait(folder: Path, daemon: subprocess.Popen[bytes]) -> None:
    """Until Ctrl-C, or until somebody else unmounts."""
    out = console()
    out.print()
    out.print(Text.assemble("Look around in another terminal, or in a file manager:\n  ", (f"ls -l {folder}", "bold")))
    command = "synofs" if shutil.which("synofs") else sys.argv[0]
    out.print(Text.assemble("See what the mount does:\n  ", (f"{command} status --watch {folder}", "bold")))
    out.print("Ctrl-C unmounts and cleans up.")
    with contextlib.suppress(KeyboardInterrupt):
        daemon.wait()


def _compare(folder: Path, shares: dict[str, Path], show: Callable[[News], None]) -> None:
    """Names, sizes, times and every byte, as the mount and as the NAS's disk have them."""
    files = total_bytes = 0
    for name, source in shares.items():
        wanted, seen = _walk(source), _walk(folder / name)
        if wanted.keys() != seen.keys():
            raise _differs(f"in {name}: {sorted(wanted.keys() ^ seen.keys())[:3]}")
        for inside, status in wanted.items():
            found = seen[inside]
            if status is None or found is None:
                if found is not status:
                    raise _differs(f"{name}/{inside} is a folder on one side only")
                continue
            if (found.st_size, int(found.st_mtime)) != (status.st_size, int(status.st_mtime)):
                raise _differs(f"size or time of {name}/{inside}")
            if not filecmp.cmp(source / inside, folder / name / inside, shallow=False):
                raise _differs(f"the content of {name}/{inside}")
            files += 1
            total_bytes += status.st_size
            show({"files": files, "done_bytes": total_bytes})
    say(f"compared {files} files ({format_bytes(total_bytes)}) with the NAS's: all the same")


def _differs(what: str) -> Failure:
    return Failure(Problem.DEMO_FAILED, detail=f"the mount differs from the NAS: {what}")


def _walk(root: Path) -> dict[str, os.stat_result | None]:
    """Paths below `root`, with the status of files and None for folders."""
    found: dict[str, os.stat_result | None] = {}
    for directory, folders, names in os.walk(root):
        inside = os.path.relpath(directory, root)
        found.update({os.path.join(inside, name): None for name in folders})
        found.update({os.path.join(inside, name): os.stat(os.path.join(directory, name)) for name in names})
    return found
