"""Accounts, login sessions, remembered devices and auto block: who may call, and until when."""

from __future__ import annotations

import secrets
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field

from . import totp
from .options import AccountOptions, Options
from .wire import ApiError


@dataclass
class Session:
    """One signed-in session (a sid)."""

    sid: str
    account: AccountOptions
    name: str
    auth_version: int
    address: str
    syno_token: str | None = None
    last_used: float = field(default_factory=time.monotonic)


class Sessions:
    """All sessions of the NAS. Used from the event loop only."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._quirks = options.quirks
        self._accounts = {account.name: account for account in options.accounts}
        self._live: dict[str, Session] = {}
        self._ended: dict[str, int] = {}
        self._devices: dict[str, tuple[str, str]] = {}
        self._failures: defaultdict[str, deque[float]] = defaultdict(deque)
        self._blocked: set[str] = set()
        self._used_otp: set[tuple[str, int]] = set()

    # -- signing in --

    def authenticate(
        self, name: str, password: str, otp_code: str, device: tuple[str, str], address: str
    ) -> AccountOptions:
        """The account behind credentials, or the Auth code that refuses them.

        `device` is (device_id, device_name); a remembered device does not need a one-time password.
        """
        if address in self._blocked:
            raise ApiError(407)
        account = self._accounts.get(name)
        if account is None or not secrets.compare_digest(
            account.password.encode("utf-8", "surrogateescape"), password.encode("utf-8", "surrogateescape")
        ):
            raise self._failed(address, 400)
        if account.refuse_code is not None:
            raise ApiError(account.refuse_code)
        if not account.has_file_station and self._quirks.denied_application == "login":
            raise ApiError(402)
        if account.otp_secret is not None and not self._knows_device(account, device):
            if not otp_code:
                raise ApiError(403, {"token": secrets.token_urlsafe(16), "types": [{"type": "otp"}]})
            step = totp.matching_step(account.otp_secret, otp_code)
            reused = (name, step or 0) in self._used_otp and self._quirks.otp_reuse == "refused"
            if step is None or reused:
                raise self._failed(address, 404)
            self._used_otp.add((name, step))
        return account

    def _failed(self, address: str, code: int) -> ApiError:
        """Counts a wrong password or OTP; enough of them block the address until `unblock`."""
        now = time.monotonic()
        failures = self._failures[address]
        failures.append(now)
        while failures and failures[0] < now - self._options.auto_block_seconds:
            failures.popleft()
        if self._options.auto_block and len(failures) >= self._options.auto_block:
            self._blocked.add(address)
        return ApiError(code)

    def _knows_device(self, account: AccountOptions, device: tuple[str, str]) -> bool:
        device_id, device_name = device
        return bool(device_id) and self._devices.get(device_id) == (account.name, device_name)

    def device_id_for(self, account: AccountOptions, device: tuple[str, str], remember: bool) -> str:
        """The id of a device: the one it came with, or a new one of 86 characters, remembered on request."""
        if self._knows_device(account, device):
            return device[0]
        device_id = secrets.token_urlsafe(64)
        if remember and device[1]:
            self._devices[device_id] = (account.name, device[1])
        return device_id

    def distrust(self, account: AccountOptions, device_id: str) -> None:
        """Forgets a device; a token of somebody else's, or of none, changes nothing."""
        if self._devices.get(device_id, ("", ""))[0] == account.name:
            del self._devices[device_id]

    def open(self, account: AccountOptions, name: str, auth_version: int, address: str, token: bool) -> Session:
        """Starts a session."""
        if self._quirks.duplicate_login == "107":
            for other in list(self._live.values()):
                if other.account is account and other.name == name:
                    self._end(other, 107)
        session = Session(secrets.token_urlsafe(40), account, name, auth_version, address)
        if token:
            session.syno_token = _new_token()
        self._live[session.sid] = session
        return session

    def renew_token(self, session: Session) -> str:
        """The SynoToken of a session; made (and from then on asked for) if it has none."""
        if session.syno_token is None or self._quirks.token_method == "rotate":
            session.syno_token = _new_token()
        return session.syno_token

    # -- using a session --

    def find(self, sid: str | None) -> Session:
        """The session of a sid, or the code that DSM gives for none. Being found keeps it alive."""
        session = self._live.get(sid or "")
        if session is None:
            raise ApiError(self._ended.get(sid or "", 119))
        now = time.monotonic()
        if now - session.last_used > self._options.session_seconds:
            self._end(session, int(self._quirks.dead_sid))
            raise ApiError(int(self._quirks.dead_sid))
        session.last_used = now
        return session

    def check(self, api: str, session: Session, token: str | None, address: str) -> None:
        """Refuses a call that the session may not make: token, address, session name, privilege."""
        is_download = api == "SYNO.FileStation.Download"
        if session.syno_token is not None and token != session.syno_token:
            raise ApiError(119 if is_download else int(self._quirks.missing_token))
        # DSM's own method table marks Download with skipCheckIP.
        if session.address != address and self._quirks.source_ip == "150" and not is_download:
            raise ApiError(150)
        if not api.startswith("SYNO.FileStation.") or session.account.admin:
            return
        if session.name != "FileStation" and self._quirks.session_name == "strict":
            raise ApiError(119)
        if not session.account.has_file_station:
            raise ApiError(105)

    # -- ending sessions --

    def close(self, sid: str | None) -> None:
        """Logout. An unknown sid ends nothing, and that is no error."""
        session = self._live.get(sid or "")
        if session is not None:
            self._end(session, 119)

    def expire_all(self, code: int | None = None) -> int:
        """Ends every session, as a restart does; their sids then get `code`. Returns how many there were."""
        sessions = list(self._live.values())
        for session in sessions:
            self._end(session, int(self._quirks.dead_sid) if code is None else code)
        return len(sessions)

    def rotate_tokens(self) -> int:
        """Gives every session with a SynoToken a new one, so that the old one is refused."""
        sessions = [session for session in self._live.values() if session.syno_token is not None]
        for session in sessions:
            session.syno_token = _new_token()
        return len(sessions)

    def unblock(self) -> None:
        """Lifts every auto block."""
        self._blocked.clear()
        self._failures.clear()

    def _end(self, session: Session, code: int) -> None:
        self._live.pop(session.sid, None)
        self._ended[session.sid] = code

    def __len__(self) -> int:
        """How many sessions are alive right now."""
        oldest = time.monotonic() - self._options.session_seconds
        return sum(session.last_used >= oldest for session in self._live.values())


def _new_token() -> str:
    return secrets.token_urlsafe(10)
