"""`synofs doctor`: check what synofs takes for granted."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.text import Text

from synofs.app.credentials import find_credentials, saved_sign_ins
from synofs.app.doctor import Result, Verdict
from synofs.app.doctor_machine import examine_machine
from synofs.app.doctor_nas import examine_nas
from synofs.app.errors import Failure, Problem
from synofs.app.profiles import read_sign_in
from synofs.cli import options as opt
from synofs.cli.mounting import chosen
from synofs.cli.terminal import asker, console

_MARKS = {Verdict.PASS: ("pass", "green"), Verdict.FAIL: ("FAIL", "bold red"), Verdict.SKIP: ("skip", "yellow")}


def doctor(
    nas: Annotated[
        str | None,
        typer.Argument(metavar="[NAS]", help=f"Check this NAS, too: {opt.NAS_HELP}.", show_default=False),
    ] = None,
    user: opt.User = None,
    password_file: opt.PasswordFile = None,
    otp: opt.Otp = None,
    ca_file: opt.CaFile = None,
    fingerprint: opt.Fingerprint = None,
    insecure_http: opt.InsecureHttp = False,
    write: Annotated[
        str | None,
        typer.Option(
            "--write",
            metavar="FOLDER",
            help="Try writing, too, in a new folder inside this one of the NAS, which is removed again.",
            show_default=False,
        ),
    ] = None,
    as_json: opt.Json = False,
) -> None:
    """Check this machine, and a NAS if one is named. Changes nothing without --write; prints nothing secret.

    Exit code 0: nothing failed. On a NAS, the checks that need an account are skipped when there is none.

    Examples:
      synofs doctor
      synofs doctor https://nas:5001
      synofs doctor home --json
      synofs doctor home --write /home
    """
    results: list[Result] = []

    def on_result(result: Result) -> None:
        if not as_json:
            _print(result, is_first=not results or results[-1].group != result.group)
        results.append(result)

    for result in examine_machine():
        on_result(result)
    if nas is not None:
        given: dict[str, str | bool | None] = {
            "user": user,
            "password-file": password_file,
            "otp": otp,
            "ca-file": ca_file,
            "fingerprint": fingerprint,
            "insecure-http": insecure_http,
        }
        settings, words = read_sign_in(nas, chosen(given))
        credentials = None
        try:
            settings, credentials = find_credentials(settings, words, saved_sign_ins(), asker())
        except Failure as failure:
            if failure.problem not in (Problem.NO_USER, Problem.NO_PASSWORD):
                raise
        examine_nas(settings, credentials, on_result, write)
    if as_json:
        print(json.dumps([result.to_json() for result in results], indent=2))
    failed = sum(result.verdict is Verdict.FAIL for result in results)
    if failed:
        raise Failure(Problem.CHECKS_FAILED, failed=failed)


def _print(result: Result, *, is_first: bool) -> None:
    out = console()
    if is_first:
        out.print(Text(result.group[:1].upper() + result.group[1:], style="bold"))
    line = Text.assemble("  ", _MARKS[result.verdict], f"  {result.assumption}: ", (result.found, "dim"))
    out.print(line, soft_wrap=True)
    if result.fix:
        out.print(Text(f"        -> {result.fix}"), soft_wrap=True)
