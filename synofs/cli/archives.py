"""`synofs compress`, `synofs extract` and `synofs peek`: archives, made and unpacked on the NAS."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from synofs.app.config import wrong_option
from synofs.cli import options as opt
from synofs.cli.inside import asking, find_password, place, put, put_json, same_mount
from synofs.cli.terminal import format_bytes
from synofs.filestation.archives import FORMATS, LEVELS

Archive = Annotated[str, typer.Argument(metavar="ARCHIVE", help="A zip, 7z, tar, rar ...", show_default=False)]
Password = Annotated[bool, typer.Option("--password", help="Ask for the archive's password.", show_default=False)]
PasswordFile = Annotated[
    str | None,
    typer.Option("--password-file", metavar="FILE", help="Its first line is the password.", show_default=False),
]


def compress(
    archive: Annotated[str, typer.Argument(metavar="ARCHIVE", help="The new file: .zip or .7z.", show_default=False)],
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="What goes into it.", show_default=False)],
    level: Annotated[str, typer.Option(metavar="LEVEL", help=", ".join(LEVELS))] = "moderate",
    password: Password = False,
    password_file: PasswordFile = None,
    as_json: opt.Json = False,
) -> None:
    """Pack files and folders into a new archive, on the NAS.

    An archive that is there already is not touched.

    Examples:
      synofs compress ~/nas/docs/2024.zip ~/nas/docs/2024
      synofs compress --password ~/nas/secret.7z ~/nas/docs/contracts
    """
    kind = os.path.splitext(archive)[1].removeprefix(".").lower()
    if kind not in FORMATS:
        raise wrong_option(f"{archive}: an archive's name ends in .zip or .7z", "compress")
    if level not in LEVELS:
        raise wrong_option(f"--level: {', '.join(LEVELS)}", "compress")
    target = place(archive)
    sources = [place(path) for path in paths]
    for source in sources:
        same_mount(source, target)
    secret = find_password(password, password_file, target.name, "compress", twice=True)
    with asking(target.mount, "compress") as ask:
        answer = ask(
            "compress",
            doing=f"making {target.name}",
            archive=target.inside,
            sources=[source.inside for source in sources],
            format=kind,
            level=level,
            password=secret,
        )
        local = ask.local(answer)
    if as_json:
        put_json(local)


def extract(
    archive: Archive,
    folder: Annotated[
        str | None,
        typer.Argument(metavar="[FOLDER]", help="Where to (default: where the archive is).", show_default=False),
    ] = None,
    items: Annotated[
        list[str] | None,
        typer.Option(
            "--item", "-i", metavar="PATH", help="Only this path of the archive; may be repeated.", show_default=False
        ),
    ] = None,
    subfolder: Annotated[
        bool, typer.Option("--subfolder", "-s", help="Into a new folder of the archive's name.", show_default=False)
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-f", help="Replace files that are there.", show_default=False)
    ] = False,
    password: Password = False,
    password_file: PasswordFile = None,
    as_json: opt.Json = False,
) -> None:
    """Unpack an archive on the NAS, or some of it.

    What is there already is not replaced without --overwrite.

    Examples:
      synofs extract ~/nas/inbox/photos.zip ~/nas/photo --subfolder
      synofs extract ~/nas/backup.tar.gz ~/nas/restored -i etc/fstab -i etc/hosts
    """
    source = place(archive)
    target = place(folder if folder is not None else os.path.dirname(archive) or ".")
    same_mount(source, target)
    secret = find_password(password, password_file, source.name, "extract")
    with asking(source.mount, "extract") as ask:
        answer = ask(
            "extract",
            doing=f"unpacking {source.name}",
            archive=source.inside,
            folder=target.inside,
            items=[item.strip("/") for item in items or []],
            subfolder=subfolder,
            overwrite=overwrite,
            password=secret,
        )
        local = ask.local(answer)
    if as_json:
        put_json(local)


def peek(
    archive: Archive, password: Password = False, password_file: PasswordFile = None, as_json: opt.Json = False
) -> None:
    """List what is in an archive, without downloading it.

    Each line has the time, the size and the path of one entry.

    Examples:
      synofs peek ~/nas/inbox/photos.zip
    """
    where = place(archive)
    secret = find_password(password, password_file, where.name, "peek")
    found: list[dict[str, Any]] = []

    def show(news: dict[str, Any]) -> None:
        for item in news.get("items", ()):
            found.append(item)
            if not as_json:
                size = "" if item["is_dir"] else format_bytes(item["size"])
                put(f"{item['mtime'] or '-'}\t{size}\t{item['path']}{'/' if item['is_dir'] else ''}")

    with asking(where.mount, "peek") as ask:
        ask("peek", on_news=show, archive=where.inside, password=secret)
    if as_json:
        put_json(found)
