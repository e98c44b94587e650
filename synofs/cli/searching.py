"""`synofs search`, `synofs du` and `synofs md5`: the NAS looks at its own disks, and only the answer travels."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from synofs.app.config import wrong_option
from synofs.app.errors import Failure, Problem
from synofs.cli import options as opt
from synofs.cli.inside import Place, asking, place, put, put_json
from synofs.cli.terminal import format_bytes, say

Here = Annotated[list[str] | None, typer.Argument(metavar="[PATH]...", help="Default: here.", show_default=False)]


def search(
    pattern: Annotated[
        str,
        typer.Argument(metavar="PATTERN", help="A part of the name, or a pattern with * and ?; case does not matter."),
    ],
    path: Annotated[
        str,
        typer.Argument(metavar="[PATH]", help="The folder to search below (default: here).", show_default=False),
    ] = ".",
    kind: Annotated[
        str | None, typer.Option("--type", metavar="f|d", help="Only files, or only folders.", show_default=False)
    ] = None,
    larger: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Of at least this size, such as 10M.", show_default=False)
    ] = None,
    smaller: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Of at most this size.", show_default=False)
    ] = None,
    newer: Annotated[
        str | None, typer.Option(metavar="DATE", help="Changed on this day (2024-12-31) or later.", show_default=False)
    ] = None,
    older: Annotated[
        str | None, typer.Option(metavar="DATE", help="Changed before this day.", show_default=False)
    ] = None,
    no_recursion: Annotated[bool, typer.Option("--no-recursion", help="Not in folders below.")] = False,
    null: Annotated[bool, typer.Option("--print0", "-0", help="End each path with a NUL, for xargs -0.")] = False,
    as_json: opt.Json = False,
) -> None:
    """Find files and folders by name, with the NAS's own search.

    Paths are printed as they are found, in no particular order. The exit code
    is 0 whether or not there are any.

    Examples:
      synofs search invoice ~/nas/docs
      synofs search '*.mkv' ~/nas/video --larger 4G
      synofs search '' ~/nas/photo --newer 2024-12-24 --json
    """
    kinds = {None: "all", "f": "file", "d": "dir"}
    if kind not in kinds:
        raise wrong_option("--type: f or d", "search")
    wanted = {
        "pattern": pattern,
        "kind": kinds[kind],
        "recursive": not no_recursion,
        "size_from": _size("larger", larger),
        "size_to": _size("smaller", smaller),
        "mtime_from": _day("newer", newer),
        "mtime_to": None if older is None else _day("older", older, less=1),
    }
    where = place(path)
    found: list[dict[str, Any]] = []
    with asking(where.mount, "search") as ask:

        def show(news: dict[str, Any]) -> None:
            for hit in news.get("hits", ()):
                if as_json:
                    found.append(ask.local(hit))
                elif null:
                    sys.stdout.buffer.write(os.fsencode(_as_written(where, hit["path"])) + b"\0")
                else:
                    put(_as_written(where, hit["path"]))

        ask("search", on_news=show, path=where.inside, filter=wanted)
    sys.stdout.flush()
    if as_json:
        put_json(sorted(found, key=lambda hit: str(hit["path"])))


def _as_written(where: Place, inside: str) -> str:
    """As `find` prints it: beginning with the path that was given."""
    below = inside.removeprefix(where.inside.rstrip("/")).lstrip("/")
    return os.path.join(where.written, below) if below else where.written


def _size(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)([kmgt]?)(?:i?b)?", text.strip().lower())
    if found is None:
        raise wrong_option(f"--{name}: a number of bytes, or such as 500K, 10M, 4G", "search")
    return int(found[1]) << 10 * " kmgt".index(found[2] or " ")


def _day(name: str, text: str | None, *, less: int = 0) -> int | None:
    if text is None:
        return None
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").astimezone().timestamp()) - less
    except ValueError as exc:
        raise wrong_option(f"--{name}: a day such as 2024-12-31", "search") from exc


def du(
    paths: Here = None,
    in_bytes: Annotated[bool, typer.Option("--bytes", "-b", help="Bytes, not KiB, MiB and so on.")] = False,
    as_json: opt.Json = False,
) -> None:
    """Count what is in folders: bytes, files and folders, as the NAS counts them.

    No file is downloaded for it, and no folder is listed.

    Examples:
      synofs du ~/nas/photo ~/nas/video
      synofs du -b ~/nas/docs/report.pdf
    """
    done = []
    for path in paths or ["."]:
        where = place(path)
        with asking(where.mount, "du") as ask:
            answer = ask("du", doing=f"counting {where.name or where.written}", path=where.inside)
            done.append(ask.local(answer))
        if not as_json:
            size = str(answer["size"]) if in_bytes else format_bytes(answer["size"])
            put(f"{size}\t{answer['files']} files\t{answer['folders']} folders\t{path}")
    if as_json:
        put_json(done)


# ----- checksums ------------------------------------------------------------------------------------------------


def md5(
    paths: Annotated[list[str], typer.Argument(metavar="FILE...", help="Files in a mount.", show_default=False)],
    check: Annotated[
        bool, typer.Option("--check", "-c", help="FILEs hold sums as md5sum writes them: compare.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="With --check: do not name what is as it should be.")] = False,
    as_json: opt.Json = False,
) -> None:
    """Have the NAS compute the MD5 of files; print or --check them as md5sum does.

    It proves that a copy arrived whole, and nothing is downloaded for it. Paths
    in a list that do not begin with a slash are taken from the current folder.

    Examples:
      synofs md5 ~/nas/video/*.mp4 > sums
      cd ~/nas/backup && synofs md5 --check /home/anna/sums
    """
    if check:
        _check(paths, quiet=quiet, as_json=as_json)
        return
    done = []
    for path in paths:
        where = place(path)
        with asking(where.mount, "md5") as ask:
            answer = ask.local(ask("md5", doing=f"MD5 of {where.name}", path=where.inside))
        done.append(answer)
        if not as_json:
            put(_sum_line(answer["md5"], path))
    if as_json:
        put_json(done)


def _sum_line(digest: str, path: str) -> str:
    """md5sum begins a line with a backslash when the name in it is escaped."""
    escaped = path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{chr(92) if escaped != path else ''}{digest}  {escaped}"


@dataclass(frozen=True)
class _Sum:
    path: str
    digest: str


_LINE = re.compile(r"(\\?)([0-9a-fA-F]{32}) [ *](.+)")
_TAGGED = re.compile(r"(\\?)MD5 \((.+)\) = ([0-9a-fA-F]{32})")
_ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}


def read_sums(text: str) -> tuple[list[_Sum], int]:
    """The sums in a list, and how many of its lines are none."""
    sums, strange = [], 0
    for line in text.split("\n"):
        if not line.strip() or line.startswith("#"):
            continue
        if found := _LINE.fullmatch(line):
            escaped, digest, path = found.groups()
        elif found := _TAGGED.fullmatch(line):
            escaped, path, digest = found.groups()
        else:
            strange += 1
            continue
        if escaped:
            path = re.sub(r"\\[\\nr]", lambda match: _ESCAPES[match[0]], path)
        sums.append(_Sum(path, digest.lower()))
    return sums, strange


def _check(lists: list[str], *, quiet: bool, as_json: bool) -> None:
    results: list[dict[str, Any]] = []
    for name in lists:
        try:
            raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        except OSError as exc:
            raise wrong_option(f"{name}: {exc.strerror}", "md5") from exc
        sums, strange = read_sums(os.fsdecode(raw))
        if strange:
            say(f"{name}: lines that are no MD5 sums: {strange}")
        if not sums:
            raise wrong_option(f"{name}: there are no MD5 sums in it", "md5")
        for one in sums:
            results.append(_compared(one))
            if not as_json and not (quiet and results[-1]["result"] == "OK"):
                put(f"{one.path}: {results[-1]['result']}")
    if as_json:
        put_json(results)
    failed = sum(result["result"] != "OK" for result in results)
    if failed:
        raise Failure(Problem.CHECKSUMS_DIFFER, failed=failed, checked=len(results))


# About the one file, so that the others are compared all the same.
_OF_ONE_FILE = {Problem.MISSING, Problem.FORBIDDEN, Problem.NOT_POSSIBLE, Problem.NOT_INSIDE, Problem.NOT_SENT}


def _compared(one: _Sum) -> dict[str, Any]:
    try:
        where = place(one.path)
        with asking(where.mount, "md5") as ask:
            digest = ask("md5", doing=f"MD5 of {where.name}", path=where.inside)["md5"]
    except Failure as failure:
        if failure.problem not in _OF_ONE_FILE:
            raise
        say(failure.line)
        return {"path": one.path, "expected": one.digest, "md5": None, "result": "FAILED open or read"}
    return {
        "path": one.path,
        "expected": one.digest,
        "md5": digest,
        "result": "OK" if digest == one.digest else "FAILED",
    }
