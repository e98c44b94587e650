"""`synofs fav`, `synofs tasks` and `synofs thumb`: File Station's bookmarks, its background tasks, and thumbnails."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from synofs.app.config import wrong_option
from synofs.cli import options as opt
from synofs.cli.inside import asking, place, put, put_json, somewhere
from synofs.cli.terminal import format_bytes, format_time
from synofs.filestation.thumbnails import SIZES

_SETTINGS: dict[str, Any] = {
    "no_args_is_help": True,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
favourites = typer.Typer(help="List, add and remove the favourites that File Station shows.", **_SETTINGS)
tasks = typer.Typer(help="List and stop what the NAS does in the background.", **_SETTINGS)

Folder = Annotated[str, typer.Argument(metavar="FOLDER", help="A folder in a mount.", show_default=False)]


@favourites.command("list")
def fav_list(path: opt.SomePath = None, as_json: opt.Json = False) -> None:
    """List the account's favourites.

    One whose folder is not there any more is marked as broken.

    Examples:
      synofs fav list ~/nas
    """
    where = somewhere(path)
    with asking(where.mount, "fav") as ask:
        found = ask("fav_list")["favourites"]
        if as_json:
            put_json([ask.local(one) for one in found])
            return
        for one in found:
            broken = "" if one["status"] == "valid" else f"\t({one['status']})"
            put(f"{one['name']}\t{ask.shown(one)}{broken}")


@favourites.command("add")
def fav_add(
    folder: Folder,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Its name there (default: the folder's).", show_default=False),
    ] = None,
    as_json: opt.Json = False,
) -> None:
    """Add a folder to the favourites.

    They belong to the account and show in File Station on every device.

    Examples:
      synofs fav add ~/nas/photo/2024 --name "This year"
    """
    where = place(folder)
    with asking(where.mount, "fav") as ask:
        answer = ask.local(ask("fav_add", path=where.inside, name=name))
    if as_json:
        put_json(answer)


@favourites.command("rm")
def fav_rm(folder: Folder, as_json: opt.Json = False) -> None:
    """Remove a folder from the favourites. The folder itself stays.

    One that is broken, because its folder is gone, can be removed, too.

    Examples:
      synofs fav rm ~/nas/photo/2023
    """
    where = place(folder)
    with asking(where.mount, "fav") as ask:
        answer = ask.local(ask("fav_remove", path=where.inside))
    if as_json:
        put_json(answer)


@tasks.command("list")
def tasks_list(path: opt.SomePath = None, as_json: opt.Json = False) -> None:
    """List the account's background tasks on the NAS: copies, archives, searches.

    Also those that were started in File Station or on another device.

    Examples:
      synofs tasks list ~/nas
    """
    where = somewhere(path)
    with asking(where.mount, "tasks") as ask:
        found = ask("tasks_list")["tasks"]
        if as_json:
            put_json([ask.local(task) for task in found])
            return
        for task in found:
            state = "finished" if task["finished"] else f"{task['progress']:.0%}"
            what = task["api"].removeprefix("SYNO.FileStation.")
            size = format_bytes(task["processed_size"])
            put(f"{task['id']}\t{format_time(task['created'])}\t{what}\t{state}\t{size}\t{ask.shown(task)}")


@tasks.command("stop")
def tasks_stop(
    task: Annotated[str, typer.Argument(metavar="ID", help="As synofs tasks list shows it.", show_default=False)],
    path: opt.SomePath = None,
    as_json: opt.Json = False,
) -> None:
    """Stop a background task. What it has done so far stays.

    Its ID is what synofs tasks list shows first.

    Examples:
      synofs tasks stop FileStation_51D00B7912CDE0B0 ~/nas
    """
    where = somewhere(path)
    with asking(where.mount, "tasks") as ask:
        answer = ask.local(ask("tasks_stop", id=task))
    if as_json:
        put_json(answer)


@tasks.command("clear")
def tasks_clear(path: opt.SomePath = None) -> None:
    """Take the tasks that have ended from the list.

    Those that are still running go on.

    Examples:
      synofs tasks clear ~/nas
    """
    with asking(somewhere(path).mount, "tasks") as ask:
        ask("tasks_clear")


def thumb(
    path: Annotated[str, typer.Argument(metavar="PATH", help="An image or a video.", show_default=False)],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to; - is standard output.", show_default=False),
    ] = None,
    size: Annotated[str, typer.Option(metavar="SIZE", help=", ".join(SIZES))] = "small",
    as_json: opt.Json = False,
) -> None:
    """Fetch the thumbnail that the NAS makes of an image or video.

    The file itself stays there. The NAS keeps thumbnails beside the file, which
    changes the time of its folder.

    Examples:
      synofs thumb ~/nas/photo/IMG_1.jpg -o thumb.jpg
      synofs thumb ~/nas/photo/IMG_1.jpg --size large > large.jpg
    """
    if size not in SIZES:
        raise wrong_option(f"--size: {', '.join(SIZES)}", "thumb")
    if output is None and sys.stdout.isatty():
        raise wrong_option("an image would only garble the terminal; use --output FILE, or a pipe", "thumb")
    if as_json and output in (None, "-"):
        raise wrong_option("--json needs --output FILE: both would go to standard output", "thumb")
    where = place(path)
    with asking(where.mount, "thumb") as ask:
        answer = ask.local(ask("thumb", doing=f"thumbnail of {where.name}", path=where.inside, size=size))
    content = base64.b64decode(answer.pop("content"))
    if output in (None, "-"):
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        try:
            Path(str(output)).write_bytes(content)
        except OSError as exc:
            raise wrong_option(f"--output: cannot write {output} ({exc.strerror})", "thumb") from exc
    if as_json:
        put_json({**answer, "bytes": len(content), "output": output})
