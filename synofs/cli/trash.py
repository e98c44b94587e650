"""`synofs trash`: the recycle bins of the NAS's shares."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from synofs.cli import options as opt
from synofs.cli.inside import asking, confirm, place, put, put_json, somewhere
from synofs.cli.terminal import format_bytes, format_time, say

app = typer.Typer(
    help="List, restore and empty the recycle bin of a share.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("list")
def list_(
    path: opt.SomePath = None,
    as_json: opt.Json = False,
) -> None:
    """List what was deleted at and below PATH, each with the path that it had.

    Each line has the time, the size and the path of one file.

    Examples:
      synofs trash list ~/nas/docs
      synofs trash list ~/nas --json
    """
    where = somewhere(path)
    found: list[dict[str, Any]] = []
    with asking(where.mount, "trash") as ask:

        def show(news: dict[str, Any]) -> None:
            for one in news.get("discarded", ()):
                local = ask.local(one)
                found.append(local)
                if not as_json:
                    put(f"{format_time(local['mtime'])}\t{format_bytes(local['size'])}\t{ask.shown(one)}")

        ask("trash_list", on_news=show, path=where.inside)
    if as_json:
        put_json(sorted(found, key=lambda one: str(one["path"])))


@app.command("restore")
def restore(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="The paths that they had.", show_default=False)],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-f", help="Replace what has taken their place.", show_default=False)
    ] = False,
    as_json: opt.Json = False,
) -> None:
    """Put deleted files and folders back where they were.

    Folders that they were in are made again.

    Examples:
      synofs trash restore ~/nas/docs/2024/report.odt
    """
    done = []
    for path in paths:
        where = place(path)
        with asking(where.mount, "trash") as ask:
            answer = ask("trash_restore", doing=f"restoring {where.name}", path=where.inside, overwrite=overwrite)
            done.append(ask.local(answer))
    if as_json:
        put_json(done)


@app.command("empty")
def empty(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A share, or a folder in one.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.", show_default=False)] = False,
    as_json: opt.Json = False,
) -> None:
    """Remove for good what was deleted at and below PATH. Asks first.

    What is not deleted is not touched, only what is in the recycle bin.

    Examples:
      synofs trash empty ~/nas/docs
      synofs trash empty --yes ~/nas/docs/2019
    """
    where = place(path)
    confirm(f"Remove for good all that was deleted below {path}?", yes=yes)
    with asking(where.mount, "trash") as ask:
        answer = ask("trash_empty", doing=f"emptying the recycle bin of {where.name or path}", path=where.inside)
    if as_json:
        put_json(answer)
    elif not answer["removed"]:
        say("there was nothing to remove")
