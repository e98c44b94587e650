"""`synofs discover`: which NAS boxes are there?"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from synofs.cli import options as opt
from synofs.cli.inside import put
from synofs.cli.mounting import read_seconds
from synofs.cli.progress import working
from synofs.cli.terminal import say


def discover_(
    timeout: Annotated[str, typer.Option(metavar="SECONDS", help="How long to listen.")] = "4",
    interface: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="Listen on the interface with this address; may be repeated (default: all).",
            show_default=False,
        ),
    ] = None,
    as_json: opt.Json = False,
) -> None:
    """Find Synology NAS boxes on the local network, by multicast DNS.

    Lists the address to sign in to, the NAS's name, its model and version. A
    NAS behind a router, or one whose announcements are turned off, is not
    found; it can be mounted all the same.

    Examples:
      synofs discover
      synofs discover --json --timeout 10
      synofs login "$(synofs discover --json | jq -r '.[0].url')"
    """
    from synofs.app.discovery import discover  # its library would slow down the start of every other command

    seconds = read_seconds("timeout", timeout, "discover")
    with working("listening"):
        found = discover(seconds, interfaces=interface or ())
    if as_json:
        put(json.dumps([nas.to_json() for nas in found], indent=2, sort_keys=True))
        return
    for nas in found:
        put("\t".join([nas.url, nas.name, nas.model or "-", f"DSM {nas.dsm}" if nas.dsm else "-"]))
    if not found:
        say("no Synology NAS has answered here; one that does not announce itself can be mounted by its address")
