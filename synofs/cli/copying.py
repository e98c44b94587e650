"""`synofs cp` and `synofs mv`: the NAS does it, and no byte passes through this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from synofs.cli import options as opt
from synofs.cli.inside import asking, place, put_json, same_mount
from synofs.cli.terminal import say

Sources = Annotated[
    list[str],
    typer.Argument(metavar="SOURCE... TARGET", help="Files or folders, and at last where to.", show_default=False),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", "-f", help="Replace files that are there, and merge folders.", show_default=False)
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Name each one that is done.", show_default=False)]


def cp(paths: Sources, overwrite: Overwrite = False, verbose: Verbose = False, as_json: opt.Json = False) -> None:
    """Copy files and folders on the NAS; no byte goes through this machine.

    Folders are copied with all in them. If TARGET is a folder, the copies go
    into it. What is there already is not replaced without --overwrite. All
    paths have to be in one mount.

    Examples:
      synofs cp ~/nas/video/holiday.mp4 ~/nas/archive/
      synofs cp ~/nas/docs/plan.odt ~/nas/docs/plan-old.odt
      synofs cp -f ~/nas/photo/2023 ~/nas/photo/2024 ~/nas/backup
    """
    _transfer(paths, overwrite, verbose, as_json, move=False)


def mv(paths: Sources, overwrite: Overwrite = False, verbose: Verbose = False, as_json: opt.Json = False) -> None:
    """Move or rename files and folders on the NAS, also between shares.

    No byte goes through this machine. If TARGET is a folder, they go into it.
    What is there already is not replaced without --overwrite. A file that a
    program on this machine has open for writing is not moved.

    Examples:
      synofs mv ~/nas/inbox/scan.pdf ~/nas/docs/2024/
      synofs mv ~/nas/photo/IMG_1.jpg ~/nas/photo/cover.jpg
    """
    _transfer(paths, overwrite, verbose, as_json, move=True)


def _transfer(paths: list[str], overwrite: bool, verbose: bool, as_json: bool, *, move: bool) -> None:
    command = "mv" if move else "cp"
    if len(paths) < 2:
        raise typer.BadParameter("name what to copy, and where to" if not move else "name what to move, and where to")
    *sources, target = [place(path) for path in paths]
    for source in sources:
        same_mount(source, target)
    done = []
    with asking(target.mount, command) as ask:
        for source in sources:
            answer = ask(
                "copy",
                doing=f"{'moving' if move else 'copying'} {source.name}",
                source=source.inside,
                target=target.inside,
                into=len(sources) > 1 or paths[-1].endswith("/"),
                overwrite=overwrite,
                move=move,
            )
            done.append({"source": source.written, **ask.local(answer)})
            if verbose and not as_json:
                say(f"{source.written} -> {ask.shown(answer)}")
    if as_json:
        put_json(done)
