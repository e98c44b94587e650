"""`synofs login` and `synofs logout`."""

from __future__ import annotations

from typing import Annotated

import typer

from synofs.app.config import parse_nas, read_settings, wrong_option
from synofs.app.credentials import Keep, find_credentials, saved_sign_ins
from synofs.app.errors import Failure, Problem
from synofs.app.profiles import read_sign_in, resolve
from synofs.app.signin import agree_on_certificate, revoke, sign_in_and_remember
from synofs.cli import options as opt
from synofs.cli.mounting import chosen
from synofs.cli.progress import working
from synofs.cli.terminal import asker, say

# What the table advises is to run "synofs login", where somebody can be asked.
MISSING = {
    Problem.NO_USER: "--user NAME",
    Problem.NO_PASSWORD: "--password-file FILE",
    Problem.OTP_NEEDED: "--otp CODE",
}


def login(
    nas: opt.Nas,
    user: opt.User = None,
    password_file: opt.PasswordFile = None,
    otp: opt.Otp = None,
    ca_file: opt.CaFile = None,
    fingerprint: opt.Fingerprint = None,
    insecure_http: opt.InsecureHttp = False,
    keep_in: Annotated[
        str | None,
        typer.Option(
            "--keep-in",
            metavar="keyring|file",
            help="Where password and device token go (default: the keyring, if there is one that is open).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Sign in once and remember it, so that "synofs mount" need not ask.

    Asks for what is missing: whether to trust an unknown certificate, then
    user, password and one-time code. Password and device token go into the
    system's keyring, or where there is none into a file that you alone can
    read; it says which. For mounts at boot, when no keyring is open yet, say
    --keep-in file.

    Examples:
      synofs login https://nas:5001
      synofs login anna@nas
      synofs login home          (a profile in ~/.config/synofs/config.toml)
      sudo synofs login nas      (for mounts at boot, which root makes)
    """
    try:
        keep = Keep(keep_in) if keep_in is not None else Keep.BEST
    except ValueError as exc:
        raise wrong_option("--keep-in: keyring or file", "login") from exc
    given: dict[str, str | bool | None] = {
        "user": user,
        "password-file": password_file,
        "otp": otp,
        "ca-file": ca_file,
        "fingerprint": fingerprint,
        "insecure-http": insecure_http,
    }
    settings, words = read_sign_in(nas, chosen(given))
    host = settings.address.host
    somebody = asker()
    if somebody is not None:
        settings = agree_on_certificate(settings, somebody, lambda: working(f"looking at {host}"))
    try:
        settings, credentials = find_credentials(settings, words, None, somebody)
        place = sign_in_and_remember(
            settings, credentials, saved_sign_ins(), somebody, keep, lambda: working(f"signing in to {host}")
        )
    except Failure as failure:
        if somebody is None and failure.problem in MISSING:
            raise failure.with_facts(instead=f"add {MISSING[failure.problem]}, or run this on a terminal") from failure
        raise
    say(f"signed in to {settings.url} as {credentials.user}; saved in {place}")


def logout(nas: opt.Nas) -> None:
    """Forget what "synofs login" saved for a NAS. Mounts that are there go on.

    If a one-time code was given at login, the NAS trusts this device since
    then. It is asked to stop that, and whether it did is tried.

    Examples:
      synofs logout https://nas:5001
      synofs logout home         (a profile)
    """
    address = parse_nas(resolve(nas, {}).nas)
    store = saved_sign_ins()
    saved = store.load(address.url)
    place = store.forget(address.url)
    if saved is None or place is None:
        raise Failure(Problem.NO_SAVED_SIGN_IN, nas=address.url)
    say(f"forgot the sign-in for {address.url}, which was in {place}")
    known: dict[str, str | bool | None] = {"ca-file": saved.ca_file, "fingerprint": saved.fingerprint}
    words = chosen({**known, "insecure-http": not address.is_encrypted})
    with working(f"asking {address.host} to trust this device no more"):
        revoke(read_settings(address.url, words)[0], saved.credentials)
    if saved.credentials.device_id is not None:
        say(f"{address.url} trusts this device no more")
