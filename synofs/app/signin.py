"""Signing in once to see that it works, asking for what turns out to be missing."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import trio

from synofs.app.assembly import SIGN_IN_SECONDS, client_options, sign_in
from synofs.app.config import NasAddress, Settings, parse_otp, wrong_option
from synofs.app.credentials import Asker, Credentials, Keep, SavedSignIn, Secret, SignInStore
from synofs.app.errors import Failure, Problem, failure_of
from synofs.filestation.client import FileStationClient
from synofs.remote import OtpNeeded, RemoteError

log = logging.getLogger(__name__)


def sign_in_and_remember(
    settings: Settings,
    credentials: Credentials,
    store: SignInStore,
    asker: Asker | None,
    keep: Keep = Keep.BEST,
    meanwhile: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
) -> str:
    """Sign in and out, asking at most once for each thing that the NAS may want; then save what worked.

    `meanwhile` is entered while the NAS is waited for. Returns where it was saved, for people."""
    asked: set[Problem] = set()
    while True:
        try:
            with meanwhile():
                credentials = _try(settings, credentials)
            break
        except Failure as failure:
            if asker is None or failure.problem in asked:
                raise
            asked.add(failure.problem)
            credentials = _complete(settings.address, credentials, failure, asker)
    return store.save(settings.url, SavedSignIn(credentials, settings.fingerprint, settings.ca_file), keep)


def agree_on_certificate(
    settings: Settings,
    asker: Asker,
    meanwhile: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
) -> Settings:
    """See who is there before anybody types a password. Returns the settings with what was agreed on; raises why the
    NAS cannot be reached, or that nobody trusts it."""
    try:
        with meanwhile():
            trio.run(_greet, settings)
    except Exception as exc:
        facts = {"nas": settings.url, "host": settings.address.host, "command": "login"}
        failure = failure_of(exc, **facts)
        fingerprint = failure.facts.get("fingerprint", "")
        asked_for = settings.fingerprint or settings.ca_file
        if failure.problem is not Problem.CERTIFICATE_REFUSED or asked_for or not fingerprint:
            raise failure from exc
        if not asker.trust(settings.address, fingerprint):
            raise failure from exc
        return replace(settings, fingerprint=fingerprint)
    return settings


async def _greet(settings: Settings) -> None:
    async with _client(settings, Credentials(user="", password=Secret(""))) as client:
        with trio.move_on_after(SIGN_IN_SECONDS) as limit:
            await client.greet()
    if limit.cancelled_caught:
        raise Failure(Problem.TIMED_OUT)


def revoke(settings: Settings, credentials: Credentials) -> None:
    """Have the NAS trust this device no more; returns when its token has been seen to be worth nothing.

    Raises `STILL_TRUSTED` when the token still spares the code, or when the NAS cannot be asked.
    """
    if credentials.device_id is None:
        return
    try:
        refused = trio.run(_revoke, settings, credentials, credentials.device_id)
    except Exception as exc:
        reason = failure_of(exc, nas=settings.url, host=settings.address.host, user=credentials.user, command="logout")
        raise Failure(Problem.STILL_TRUSTED, nas=settings.url, detail=reason.line) from exc
    if not refused:
        raise Failure(Problem.STILL_TRUSTED, nas=settings.url, detail="it does not take its trust back")


async def _revoke(settings: Settings, credentials: Credentials, device_id: Secret) -> bool:
    """Whether the NAS wants a one-time code afterwards."""
    async with _client(settings, credentials) as client:
        await sign_in(client, settings)
        try:
            await client.services.devices.distrust(device_id)
        except RemoteError as exc:
            log.info("the NAS does not revoke trust in a device (%s)", exc)
    async with _client(settings, credentials) as client:
        try:
            await sign_in(client, settings)
        except OtpNeeded:
            return True
    return False


def _complete(address: NasAddress, credentials: Credentials, failure: Failure, asker: Asker) -> Credentials:
    """Ask for what the failure says is missing; raise it if no answer could help."""
    if failure.problem in (Problem.OTP_NEEDED, Problem.WRONG_OTP):
        if failure.problem is Problem.WRONG_OTP:
            asker.note(failure.line)
        try:
            code = parse_otp(asker.otp(address, credentials.user))
        except ValueError as exc:
            raise wrong_option(f"this {exc}", "login") from exc
        return replace(credentials, otp=Secret(code))
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
    async with _client(settings, credentials) as client:
        await sign_in(client, settings)
        return replace(credentials, otp=None, device_id=client.device_id or credentials.device_id)


@contextlib.asynccontextmanager
async def _client(settings: Settings, credentials: Credentials) -> AsyncIterator[FileStationClient]:
    """Signed in by whoever uses it; signed out at the end."""
    client = FileStationClient(client_options(settings), credentials)
    try:
        yield client
    finally:
        with trio.CancelScope(shield=True):
            await client.aclose()
