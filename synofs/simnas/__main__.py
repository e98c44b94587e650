"""The command line of the simulated NAS: `python -m synofs.simnas --help`."""

from __future__ import annotations

import argparse
import ipaddress
import sys
from collections.abc import Sequence
from pathlib import Path

from . import faults, quirks, seed
from .options import ACCOUNT_FLAGS, SHARE_FLAGS, AccountOptions, Options, parse_account, parse_share
from .quirks import Quirks
from .server import Server


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        options = _options(given)
    except ValueError as error:
        parser.error(str(error))
    try:
        if given.seed:
            for share in options.shares:
                if seed.is_empty(share.directory):
                    seed.fill(Path(share.directory))
        Server(options).run()
    except OSError as error:
        print(f"simnas: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m synofs.simnas",
        description="A simulated Synology NAS that serves real directories over the File Station web API.",
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="HOST:PORT", help="port 0: any free one")
    parser.add_argument(
        "--listen-anywhere", action="store_true", help="allow --listen on more than the loopback interface"
    )
    parser.add_argument("--share", action="append", required=True, metavar="NAME=DIR[:flag...]")
    parser.add_argument("--account", action="append", required=True, metavar="USER:PASSWORD[:flag...]")
    parser.add_argument("--seed", action="store_true", help="fill shares whose directory is empty with demo content")
    parser.add_argument("--dsm", type=int, choices=(6, 7), default=7, help="major DSM version")
    parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"), help="serve https")
    parser.add_argument("--latency-ms", type=float, default=0, metavar="N", help="added to every API call")
    parser.add_argument(
        "--bandwidth-mbit", type=float, default=0, metavar="N", help="for all bodies together, each direction"
    )
    parser.add_argument("--page-cap", type=int, default=0, metavar="N", help="largest page of a listing")
    parser.add_argument(
        "--session-seconds",
        type=float,
        default=7 * 86400,
        metavar="N",
        help="a session ends N s after its last use",
    )
    parser.add_argument(
        "--auto-block",
        type=int,
        default=10,
        metavar="N",
        help="failed logins within 5 min that block an address; 0: never",
    )
    parser.add_argument(
        "--idle-seconds", type=float, default=7, metavar="N", help="idle connections are closed after N s"
    )
    parser.add_argument("--recycle-bin", action="store_true", help="deleted entries move to #recycle")
    parser.add_argument("--quota-bytes", type=int, metavar="N", help="all shares hold N bytes at most (415)")
    parser.add_argument("--volume-bytes", type=int, metavar="N", help="size of the volume (full: 416)")
    parser.add_argument(
        "--max-body-bytes", type=int, metavar="N", help="larger uploads get HTTP 413, as from a proxy in front"
    )
    parser.add_argument(
        "--announce", metavar="NAME", help="announce the NAS by multicast DNS under this name, as real ones do"
    )
    parser.add_argument(
        "--quirk", action="append", default=[], metavar="NAME=VARIANT", help="see below; may be repeated"
    )
    return parser


def _options(given: argparse.Namespace) -> Options:
    host, colon, port = given.listen.rpartition(":")
    host = host.strip("[]")
    if not colon or not port.isdigit():
        raise ValueError(f"--listen is HOST:PORT, not {given.listen!r}")
    if not given.listen_anywhere and not _is_loopback(host):
        raise ValueError(f"{host} is not a loopback address; --listen-anywhere allows it")
    accounts: list[AccountOptions] = []
    for number, text in enumerate(given.account):
        accounts.append(parse_account(text, uid=1026 + number))
    return Options(
        shares=tuple(parse_share(text) for text in given.share),
        accounts=tuple(accounts),
        host=host,
        port=int(port),
        dsm=given.dsm,
        tls=(given.tls[0], given.tls[1]) if given.tls else None,
        latency_seconds=given.latency_ms / 1000,
        bandwidth_mbit=given.bandwidth_mbit,
        page_cap=given.page_cap,
        session_seconds=given.session_seconds,
        auto_block=given.auto_block,
        idle_seconds=given.idle_seconds,
        recycle_bin=given.recycle_bin,
        quota_bytes=given.quota_bytes,
        volume_bytes=given.volume_bytes,
        max_body_bytes=given.max_body_bytes,
        announce=given.announce,
        quirks=Quirks().with_settings(given.quirk),
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _epilog() -> str:
    lines = ["flags of a share:"]
    lines += [f"  :{name:<10} {about}" for name, about in SHARE_FLAGS.items()]
    lines += ["", "flags of an account:"]
    lines += [f"  :{name:<12} {about}" for name, about in ACCOUNT_FLAGS.items()]
    lines += ["", "quirks (the first variant is the default):"]
    lines += [f"  {line}" for line in quirks.describe()]
    lines += [
        "",
        "counters: GET /_simnas/stats, POST /_simnas/stats/reset; the last calls: GET /_simnas/calls?about=TEXT.",
        "",
        "faults:",
        faults.DESCRIPTION,
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
