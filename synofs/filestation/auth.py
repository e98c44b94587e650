"""Signing in and staying signed in.

One sign-in at a time, whoever asks, and its outcome is for all that wait: a hundred calls that meet one expired
session cause exactly one. It runs in a task of its own, so that a caller that gives up takes nobody's sign-in with
it (and leaves no session behind that nobody knows). What the NAS refuses is remembered: asking again the same way
would get this machine's address blocked, for every program on it.

    no session --sign in--> unproven --a call works--> proven --106/107/119/150--> renewed: SynoToken, or sign in
                               |
                               +--119--> the other placement --119--> signed in once more --119--> given up
"""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import msgspec
import trio

from synofs.filestation import calls
from synofs.filestation.api_errors import NO_PERMISSION, STALE_SESSION, UNKNOWN_SESSION
from synofs.filestation.calls import ApiCall
from synofs.filestation.discovery import APIS, INFO_PATHS, ApiInfo, Apis
from synofs.filestation.lanes import Lane
from synofs.filestation.parsing import Empty, Listing
from synofs.filestation.secret import Secret
from synofs.filestation.transport import Redirected
from synofs.filestation.wire import Placement, Session, Wire
from synofs.remote import (
    BadAnswer,
    NotANas,
    OtpNeeded,
    PermissionDenied,
    RemoteError,
    SignInNotAllowed,
    SignInRefused,
    TimedOut,
    Unavailable,
)

__all__ = ["AuthManager", "AuthOptions", "Credentials", "Secret"]

log = logging.getLogger(__name__)

# v7 sessions may do more than older ones; v6 is the one whose reply is sure to have the device's id.
NEWEST_VERSION = 7
DEVICE_VERSION = 6

_SID = re.compile(r"[\x21-\x7e]+")
_COOKIE_SAFE = re.compile(r"[^\s\";,\\]+")


@dataclass(frozen=True)
class Credentials:
    """Who signs in, and with what."""

    user: str
    password: Secret
    otp: Secret | None = None  # a one-time code: used for one sign-in, then forgotten
    device_id: Secret | None = None  # what an earlier sign-in with a code gave; spares the code
    device_name: str = "synofs"  # the name that the device_id was given for


@dataclass(frozen=True)
class AuthOptions:
    sign_in_seconds: float = 30.0  # for all of it
    unproven_seconds: float = 10.0  # after two new sessions that were refused at once: before the next sign-in
    genuine_refusal_seconds: float = 60.0  # a session that worked so lately is not what a 105 is about


class _SignedIn(msgspec.Struct, frozen=True):
    """Login's answer, of all versions."""

    sid: str
    synotoken: str | None = None
    did: str | None = None
    device_id: str | None = None


class _Token(msgspec.Struct, frozen=True):
    synotoken: str | None = None
    capitalised: str | None = msgspec.field(name="SynoToken", default=None)


@dataclass(eq=False)
class _Flight:
    """A sign-in under way, and its outcome."""

    done: trio.Event = field(default_factory=trio.Event)
    session: Session | None = None
    error: Exception | None = None


class AuthManager:
    """Keeps one session with the NAS."""

    def __init__(self, wire: Wire, credentials: Credentials, options: AuthOptions | None = None) -> None:
        self._wire = wire
        self._options = options or AuthOptions()
        self._credentials = credentials
        self._otp = credentials.otp
        self._device_id = None if credentials.otp else credentials.device_id
        self._placement = Placement.COOKIE  # of the last session that worked
        self._session: Session | None = None
        self._worked_at: float | None = None  # when the present session last served a call
        self._fruitless_sign_ins = 0  # in a row: no call worked after them
        self._refusal: SignInRefused | None = None
        self._flight: _Flight | None = None
        self.sign_ins = 0

    @property
    def device_id(self) -> Secret | None:
        return self._device_id

    def set_credentials(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._otp = credentials.otp
        self._device_id = None if credentials.otp else credentials.device_id
        self._refusal = None

    # ----- for calls --------------------------------------------------------------------------------------------

    async def session(self) -> Session:
        """The present session; the first caller signs in."""
        if self._session is not None:
            return self._session
        return await self._join(self._sign_in)

    def worked(self, session: Session) -> None:
        """The NAS served a call in this session."""
        if session is self._session:
            self._worked_at = trio.current_time()
            self._placement = session.placement
            self._fruitless_sign_ins = 0
            self._wire.trouble = False

    async def renewed(self, session: Session, error: RemoteError) -> bool:
        """Was `error` the session's fault, and is there a better one now? Then the call is worth a replay.

        Raises what signing in raises.
        """
        code = error.code
        if code == NO_PERMISSION and isinstance(error, PermissionDenied):
            if not await self._is_stale_despite_105(session):
                return False
        elif code not in STALE_SESSION or not isinstance(error, Unavailable):
            return False
        if self._session is session:
            await self._join(lambda: self._renew(session, code))
        return True

    async def sign_out(self) -> None:
        """End the session on the NAS; failures do not matter any more."""
        session, self._session = self._session, None
        if session is not None:
            await self._log_out(session)

    # ----- one at a time ----------------------------------------------------------------------------------------

    async def _join(self, work: Callable[[], Awaitable[Session]]) -> Session:
        if self._refusal is not None:
            raise copy.copy(self._refusal)
        if self._flight is None:
            self._flight = _Flight()
            trio.lowlevel.spawn_system_task(self._fly, self._flight, work)
        flight = self._flight
        await flight.done.wait()
        if flight.error is not None:
            # One exception object must not be raised by many tasks: each would add to its traceback.
            raise copy.copy(flight.error) from flight.error.__cause__
        assert flight.session is not None
        return flight.session

    async def _fly(self, flight: _Flight, work: Callable[[], Awaitable[Session]]) -> None:
        try:
            with trio.fail_after(self._options.sign_in_seconds):
                flight.session = await work()
        except trio.TooSlowError:
            flight.error = TimedOut("the NAS: signing in took too long")
        except SignInRefused as exc:
            flight.error = exc
            # A session that is refused is not a sign-in that is refused, and may heal by itself.
            if exc.code is not None:
                self._refusal = exc
        except Exception as exc:
            flight.error = exc
        finally:
            if flight.session is None and flight.error is None:  # cancelled: the program ends
                flight.error = Unavailable("the NAS: signing in was broken off")
            self._flight = None
            flight.done.set()

    # ----- renewing ---------------------------------------------------------------------------------------------

    async def _is_stale_despite_105(self, session: Session) -> bool:
        """105 says "no permission", and after a restart of the NAS it may mean "no session".

        A session that worked a moment ago, with no trouble since, settles it; otherwise a call that everybody
        may make does.
        """
        if session is not self._session:
            return True
        now = trio.current_time()
        lately = self._worked_at is not None and now - self._worked_at < self._options.genuine_refusal_seconds
        if lately and not self._wire.trouble:
            return False
        try:
            await self._wire.ask(calls.list_shares(0, 1, details=()), Listing, session)
        except RemoteError as exc:
            if exc.code in STALE_SESSION | {NO_PERMISSION}:
                return True
            raise
        self.worked(session)
        return False

    async def _renew(self, session: Session, code: int | None) -> Session:
        if self._worked_at is None and code == UNKNOWN_SESSION:
            return await self._replace_unproven(session)
        if code == UNKNOWN_SESSION and session.syno_token is not None and not session.token_renewed:
            # Either the sid is unknown or only the token is wrong, and a new token costs no password.
            try:
                token = await self._new_token(session)
            except RemoteError as exc:
                if exc.temporary and exc.code is None:
                    raise
            else:
                self._session = replace(session, syno_token=token, token_renewed=True)
                return self._session
        return await self._sign_in()

    async def _replace_unproven(self, session: Session) -> Session:
        """A session that never worked is unknown to the NAS: it may look for it elsewhere, or have lost it already.

        If it does not take the next one either, signing in is not what helps.
        """
        if session.placement is Placement.COOKIE:
            self._session = replace(session, placement=Placement.PARAMETERS)
            return self._session
        age_seconds = trio.current_time() - session.since
        if self._fruitless_sign_ins and age_seconds < self._options.unproven_seconds:
            raise SignInNotAllowed("the NAS signs this account in, and then does not take its session")
        self._fruitless_sign_ins += 1
        return await self._sign_in()

    async def _new_token(self, session: Session) -> Secret:
        call = ApiCall("SYNO.API.Auth", NEWEST_VERSION, "token")
        reply = await self._wire.ask(call, _Token, session, lane=Lane.SIGN_IN, always_parameters=True)
        token = reply.synotoken or reply.capitalised
        if not token or not _SID.fullmatch(token):
            raise BadAnswer("the NAS gives no new SynoToken")
        return Secret(token)

    # ----- signing in -------------------------------------------------------------------------------------------

    async def _sign_in(self) -> Session:
        if self._wire.apis is None or self._wire.trouble:  # it may have come back with another DSM
            self._wire.apis = await self._discover()
        version = self._wire.apis.version("SYNO.API.Auth", NEWEST_VERSION)
        reply = await self._log_in(version)
        session = self._session_of(reply)
        self._keep_device(reply)
        if self._otp is not None and self._device_id is None and version > DEVICE_VERSION:
            await self._ask_older_version_for_device()
        self._otp = None  # it serves once
        self._session = session
        self._worked_at = None
        log.info("signed in as %s", self._credentials.user)
        return session

    async def discover(self) -> None:
        """Reach the NAS and check its certificate; nothing of the account is sent."""
        self._wire.apis = await self._discover()

    async def _discover(self) -> Apis:
        problem: RemoteError | None = None
        for path in INFO_PATHS:
            try:
                known = await self._wire.ask(calls.info(APIS), dict[str, ApiInfo], lane=Lane.SIGN_IN, info_path=path)
                return Apis(known)
            except (BadAnswer, NotANas) as exc:
                if isinstance(exc.__cause__, Redirected):
                    raise
                problem = problem or exc
        raise NotANas(f"the host answers, but it is no Synology NAS ({problem})") from problem

    async def _log_in(self, version: int) -> _SignedIn:
        credentials = self._credentials
        parameters = {
            "account": credentials.user,
            "passwd": credentials.password.reveal(),
            "session": "FileStation",  # without it, accounts that are no administrators get 119 on every call
            "format": "sid",
        }
        if self._otp is not None:
            parameters["otp_code"] = self._otp.reveal()
        if version >= 6:
            parameters["enable_syno_token"] = "yes"
            if self._otp is not None:
                parameters |= {"enable_device_token": "yes", "device_name": credentials.device_name}
            elif self._device_id is not None:
                parameters |= {
                    "device_id": self._device_id.reveal(),
                    "device_name": credentials.device_name,
                }
        call = ApiCall("SYNO.API.Auth", version, "login", parameters, idempotent=False)
        try:
            reply = await self._wire.ask(call, _SignedIn, lane=Lane.SIGN_IN)
        except OtpNeeded as exc:
            if self._device_id is None:
                raise
            raise OtpNeeded("a one-time code is needed: this device is not remembered", code=exc.code) from exc
        self.sign_ins += 1
        return reply

    def _session_of(self, reply: _SignedIn) -> Session:
        token = reply.synotoken or None
        if not _SID.fullmatch(reply.sid) or (token is not None and not _SID.fullmatch(token)):
            raise BadAnswer("the NAS gives a session that cannot be used")
        if not _COOKIE_SAFE.fullmatch(reply.sid):
            self._placement = Placement.PARAMETERS
        return Session(
            sid=Secret(reply.sid),
            syno_token=Secret(token) if token is not None else None,
            placement=self._placement,
            since=trio.current_time(),
        )

    def _keep_device(self, reply: _SignedIn) -> None:
        device_id = reply.did or reply.device_id
        if device_id and (self._otp is not None or self._device_id is not None):
            self._device_id = Secret(device_id)

    async def _ask_older_version_for_device(self) -> None:
        """Some builds of DSM 7 give no device id to v7 sign-ins, only to v6 ones."""
        try:
            reply = await self._log_in(DEVICE_VERSION)
        except RemoteError as exc:  # a code that serves only once
            log.info("the NAS does not remember this device (%s)", exc)
            return
        self._keep_device(reply)
        await self._log_out(self._session_of(reply))

    async def _log_out(self, session: Session) -> None:
        call = ApiCall("SYNO.API.Auth", NEWEST_VERSION, "logout", {"session": "FileStation"})
        try:
            # Without the sid, DSM reports success and ends nothing; so it goes wherever it may be looked for.
            await self._wire.ask(call, Empty, session, lane=Lane.SIGN_IN, always_parameters=True)
        except RemoteError as exc:
            log.debug("signing out failed: %s", exc)
