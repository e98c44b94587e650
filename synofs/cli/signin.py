"""`synofs login` and `synofs logout`."""

from __future__ import annotations

from synofs.app.config import parse_nas
from synofs.app.credentials import find_credentials, saved_sign_ins
from synofs.app.errors import Failure, Problem
from synofs.app.profiles import read_sign_in, resolve
from synofs.app.signin import sign_in_and_remember
from synofs.cli import options as opt
from synofs.cli.mounting import chosen
from synofs.cli.terminal import asker, say


def login(
    nas: opt.Nas,
    user: opt.User = None,
    password_file: opt.PasswordFile = None,
    otp: opt.Otp = None,
    ca_file: opt.CaFile = None,
    fingerprint: opt.Fingerprint = None,
    insecure_http: opt.InsecureHttp = False,
) -> None:
    """Sign in once and remember it, so that "synofs mount" need not ask.

    Asks for what is missing: user, password, one-time code, and whether to trust an unknown certificate.
    """
    given: dict[str, str | bool | None] = {
        "user": user,
        "password-file": password_file,
        "otp": otp,
        "ca-file": ca_file,
        "fingerprint": fingerprint,
        "insecure-http": insecure_http,
    }
    settings, words = read_sign_in(nas, chosen(given))
    somebody = asker()
    settings, credentials = find_credentials(settings, words, None, somebody)
    store = saved_sign_ins()
    sign_in_and_remember(settings, credentials, store, somebody)
    say(f"signed in to {settings.url} as {credentials.user}; saved in {store.place}")


def logout(nas: opt.Nas) -> None:
    """Forget what "synofs login" saved for a NAS. Mounts that are there go on."""
    address = parse_nas(resolve(nas, {}).nas)
    store = saved_sign_ins()
    if not store.forget(address.url):
        raise Failure(Problem.NO_SAVED_SIGN_IN, nas=address.url)
    say(f"forgot the sign-in for {address.url}, which was in {store.place}")
