"""`synofs share`: public links to files and folders of the NAS."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from datetime import date, timedelta
from typing import Annotated, Any

import segno
import typer

from synofs.app.config import wrong_option
from synofs.app.mounts import find_mount_above
from synofs.cli import options as opt
from synofs.cli.inside import asking, find_password, place, put, put_json, somewhere
from synofs.cli.terminal import say
from synofs.filestation.sharing import MAX_PASSWORD_LENGTH


class _PathOrCommand(typer.core.TyperGroup):
    """`synofs share PATH` is `synofs share create PATH`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help", "-h"):
            args = ["create", *args]
        return list(super().parse_args(ctx, args))


app = typer.Typer(
    cls=_PathOrCommand,
    help="Make, list and remove sharing links: synofs share PATH.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("create")
def create(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file or folder in a mount.", show_default=False)],
    password: Annotated[
        bool, typer.Option("--password", help="Protect it with a password, which is asked for.")
    ] = False,
    password_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Its first line is the password for the link.", show_default=False),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(metavar="DATE|DAYS", help="The last day: 2030-12-31, or 7d for a week.", show_default=False),
    ] = None,
    no_qr: Annotated[bool, typer.Option("--no-qr", help="No QR code on the terminal.")] = False,
    as_json: opt.Json = False,
) -> None:
    """Make a link to a file or folder; "synofs share PATH" does the same.

    Whoever has the link can download it, until it expires or is removed. On a
    terminal it is shown with a QR code to point a phone at.

    Examples:
      synofs share ~/nas/photo/holiday
      synofs share ~/nas/docs/offer.pdf --password --expires 7d
    """
    day = _last_day(expires) if expires is not None else None
    where = place(path)
    secret = find_password(password, password_file, f"the link to {where.name}", "share", twice=True)
    if secret is not None and len(secret) > MAX_PASSWORD_LENGTH:
        raise wrong_option(f"a link's password has {MAX_PASSWORD_LENGTH} characters at most", "share")
    with asking(where.mount, "share") as ask:
        answer = ask(
            "share_create", path=where.inside, password=secret, expires=day.isoformat() if day is not None else None
        )
        link = ask.local(answer)
    if as_json:
        put_json(link)
        return
    put(link["url"])
    if sys.stdout.isatty() and not no_qr:
        with contextlib.suppress(segno.encoder.DataOverflowError):  # an address that no code can hold
            segno.make(link["url"], micro=False).terminal(compact=True)
    if link["date_expired"]:
        say(f"the link works until {link['date_expired']}")


def _last_day(text: str) -> date:
    try:
        if found := re.fullmatch(r"(\d{1,4})d", text):
            day = date.today() + timedelta(days=int(found[1]))
        else:
            day = date.fromisoformat(text)
    except ValueError as exc:
        raise wrong_option("--expires: a day such as 2030-12-31, or a number of days such as 7d", "share") from exc
    if day < date.today():
        raise wrong_option(f"--expires: {day} is over", "share")
    return day


@app.command("list")
def list_(path: opt.SomePath = None, as_json: opt.Json = False) -> None:
    """List this account's sharing links to PATH and what is below it.

    In a pipe, each line has id, state, last day, address and path.

    Examples:
      synofs share list
      synofs share list ~/nas/photo --json
    """
    where = somewhere(path)
    with asking(where.mount, "share") as ask:
        links = [
            ask.local(link)
            for link in ask("share_list")["links"]
            # Links to what the mount does not show are listed with the mount as a whole.
            if where.inside == "/" or f"{link['path']}/".startswith(f"{where.inside}/")
        ]
    if as_json:
        put_json(links)
        return
    for link in links:
        if sys.stdout.isatty():
            until = f", until {link['date_expired'][:10]}" if link["date_expired"] else ""
            protected = ", with a password" if link["has_password"] else ""
            put(_shown(link))
            put(f"    {link['url']}  ({link['status']}{until}{protected})")
        else:
            put(f"{link['id']}\t{link['status']}\t{link['date_expired'] or '-'}\t{link['url']}\t{_shown(link)}")


@app.command("rm")
def rm(
    links: Annotated[
        list[str],
        typer.Argument(metavar="LINK|PATH...", help="An id, an address, or a path in a mount.", show_default=False),
    ],
    mount: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="The mount, for ids and addresses (default: here, or your only one)."),
    ] = None,
    as_json: opt.Json = False,
) -> None:
    """Remove sharing links by id or address, or all to a path. Files stay.

    Whoever has such a link gets nothing any more.

    Examples:
      synofs share rm ~/nas/photo/holiday
      synofs share rm Xy12AbCd
    """
    removed = []
    for link in links:
        is_path = "://" not in link and (os.sep in link or _is_in_a_mount(link))
        where = place(link) if is_path else somewhere(mount)
        which = ("path", where.inside) if is_path else ("link", link)
        with asking(where.mount, "share") as ask:
            answer = ask("share_remove", by=which[0], value=which[1], shown=f"to {link}" if is_path else link)
            removed += [ask.local(one) for one in answer["links"]]
    if as_json:
        put_json(removed)


def _is_in_a_mount(name: str) -> bool:
    return os.path.lexists(name) and find_mount_above(name) is not None


def _shown(link: dict[str, Any]) -> str:
    return str(link["path"] or link["nas_path"])
