"""Signing in once to see that it works, asking for what turns out to be missing."""

from __future__ import annotations

from dataclasses import replace

import trio

from synofs.app.assembly import client_options, sign_in
from synofs.app.config import Settings, parse_otp, wrong_option
from synofs.app.credentials import Asker, Credentials, SavedSignIn, Secret, SignInStore
from synofs.app.errors import Failure, Problem, failure_of
from synofs.filestation.client import FileStationClient


def sign_in_and_remember(settings: Settings, credentials: Credentials, store: SignInStore, asker: Asker | None) -> None:
    """Sign in and out, asking at most once for each thing that the NAS may want; then save what worked."""
    asked: set[Problem] = set()
    while True:
        try:
            credentials = _try(settings, credentials)
            break
        except Failure as failure:
            if asker is None or failure.problem in asked:
                raise
            asked.add(failure.problem)
            settings, credentials = _complete(settings, credentials, failure, asker)
    store.save(settings.url, SavedSignIn(credentials, settings.fingerprint, settings.ca_file))


def _complete(
    settings: Settings, credentials: Credentials, failure: Failure, asker: Asker
) -> tuple[Settings, Credentials]:
    """Ask for what the failure says is missing; raise it if no answer could help."""
    address = settings.address
    if failure.problem in (Problem.OTP_NEEDED, Problem.WRONG_OTP):
        if failure.problem is Problem.WRONG_OTP:
            asker.note(failure.line)
        try:
            code = parse_otp(asker.otp(address, credentials.user))
        except ValueError as exc:
            raise wrong_option(f"this {exc}", "login") from exc
        return settings, replace(credentials, otp=Secret(code))
    if failure.problem is Problem.CERTIFICATE_REFUSED:
        fingerprint = failure.facts.get("fingerprint", "")
        if fingerprint and asker.trust(address, fingerprint):
            return replace(settings, fingerprint=fingerprint, ca_file=None), credentials
    raise failure


def _try(settings: Settings, credentials: Credentials) -> Credentials:
    """Returns the credentials with what the NAS gave to spare the next one-time code."""
    try:
        return trio.run(_sign_in_and_out, settings, credentials)
    except Exception as exc:
        raise failure_of(
            exc, nas=settings.url, host=settings.address.host, user=credentials.user, command="login"
        ) from exc


async def _sign_in_and_out(settings: Settings, credentials: Credentials) -> Credentials:
    client = FileStationClient(client_options(settings), credentials)
    try:
        await sign_in(client, settings)
        return replace(credentials, otp=None, device_id=client.device_id or credentials.device_id)
    finally:
        with trio.CancelScope(shield=True):
            await client.aclose()
