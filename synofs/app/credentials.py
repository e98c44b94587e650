"""Where the secrets of a sign-in come from, and where those that are to be remembered are kept.

A password is taken from the first of: `--password-file`, the file named by `$SYNOFS_PASSWORD_FILE`, the systemd
credential `synofs-password`, the saved sign-in, a question at the terminal. Never from an argument or from the
value of an environment variable, which other users can see.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import socket
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

import msgspec
import platformdirs

from synofs.app.config import NasAddress, Settings, SignInWords, wrong_option
from synofs.app.errors import Failure, Problem
from synofs.app.keyring_store import KeyringUnusable, SecretKeeper, SystemKeyring
from synofs.content.private import make_dirs
from synofs.filestation.auth import Credentials, Secret

__all__ = [  # with the two types that everything about a sign-in is made of
    "Asker",
    "Credentials",
    "FileStore",
    "Keep",
    "SavedSignIn",
    "Secret",
    "SignInStore",
    "find_credentials",
    "saved_sign_ins",
]

LEFTOVER_SECONDS = 60.0  # nobody writes for so long
SYSTEMD_CREDENTIAL = "synofs-password"
_SECRETS = ("password", "device_id")  # of a sign-in, as `to_json` names them; one-time codes are never kept


def to_json(credentials: Credentials) -> dict[str, str | None]:
    """With the secrets in clear: for a pipe to a process of ours, or a file that is private."""
    return {
        "user": credentials.user,
        "password": credentials.password.reveal(),
        "otp": credentials.otp.reveal() if credentials.otp else None,
        "device_id": credentials.device_id.reveal() if credentials.device_id else None,
        "device_name": credentials.device_name,
    }


def from_json(data: Mapping[str, Any]) -> Credentials:
    return Credentials(
        user=data["user"],
        password=Secret(data["password"]),
        otp=Secret(data["otp"]) if data["otp"] else None,
        device_id=Secret(data["device_id"]) if data["device_id"] else None,
        device_name=data["device_name"],
    )


@dataclass(frozen=True, slots=True)
class SavedSignIn:
    """What `synofs login` remembers of one NAS."""

    credentials: Credentials
    fingerprint: str | None = None
    ca_file: str | None = None


class _KeptCredentials(msgspec.Struct):
    user: str
    password: str | None
    otp: str | None
    device_id: str | None
    device_name: str | None


class _KeptSecrets(msgspec.Struct):
    password: str
    device_id: str | None


class _Kept(msgspec.Struct):
    """A sign-in in the file."""

    credentials: _KeptCredentials
    fingerprint: str | None
    ca_file: str | None
    in_keyring: bool = False

    def __post_init__(self) -> None:
        if self.credentials.password is None and not self.in_keyring:
            raise ValueError("no password")


class Keep(Enum):
    """Where secrets are to be kept."""

    BEST = "best"  # in the keyring if there is one that is open, else in the file
    KEYRING = "keyring"
    FILE = "file"


class SignInStore(Protocol):
    """A place for sign-ins: a file of the user's, with its secrets in it or in the desktop's keyring."""

    def load(self, url: str) -> SavedSignIn | None:
        """Raises `KEYRING_CLOSED` when the secrets are in a keyring that does not give them."""

    def save(self, url: str, saved: SavedSignIn, keep: Keep = Keep.BEST) -> str:
        """Returns what to tell the user about where it is. Raises `NO_KEYRING`."""

    def forget(self, url: str) -> str | None:
        """Returns where it was."""

    def kept_in(self, url: str) -> Keep | None:
        """Where the secrets are, without asking a keyring."""


class Asker(Protocol):
    """Somebody who can be asked."""

    def user(self, address: NasAddress) -> str: ...
    def password(self, address: NasAddress, user: str) -> str: ...
    def otp(self, address: NasAddress, user: str) -> str: ...
    def trust(self, address: NasAddress, fingerprint: str) -> bool: ...
    def note(self, text: str) -> None: ...


def device_name() -> str:
    """How this machine is listed among the account's trusted devices in DSM."""
    return f"synofs on {socket.gethostname()}"


# ----- finding --------------------------------------------------------------------------------------------------


def find_credentials(
    settings: Settings, words: SignInWords, store: SignInStore | None, asker: Asker | None
) -> tuple[Settings, Credentials]:
    """The credentials for these settings, and the settings completed by what was saved with them."""
    password = find_password(words)
    saved = _load(settings.url, store, has_password=password is not None)
    user = settings.user or (saved.credentials.user if saved else None)
    if not user and asker is not None:
        user = asker.user(settings.address)
    if not user:
        raise Failure(Problem.NO_USER, nas=settings.url)
    if saved is not None and saved.credentials.user != user:
        saved = None
    if password is None and saved is not None:
        password = saved.credentials.password
    if password is None and asker is not None:
        password = Secret(asker.password(settings.address, user))
    if password is None:
        raise Failure(Problem.NO_PASSWORD, nas=settings.url, user=user)
    if saved is not None and settings.fingerprint is None and settings.ca_file is None:
        settings = replace(settings, fingerprint=saved.fingerprint, ca_file=saved.ca_file)
    credentials = Credentials(
        user=user,
        password=password,
        otp=Secret(words.otp) if words.otp else None,
        device_id=saved.credentials.device_id if saved else None,
        device_name=saved.credentials.device_name if saved else device_name(),
    )
    return replace(settings, user=user), credentials


def _load(url: str, store: SignInStore | None, *, has_password: bool) -> SavedSignIn | None:
    """Whoever brings a password needs no keyring, though the token that spares a one-time code stays in there then."""
    try:
        return store.load(url) if store is not None else None
    except Failure as failure:
        if not (has_password and failure.problem is Problem.KEYRING_CLOSED):
            raise
        return None


def find_password(words: SignInWords) -> Secret | None:
    """The password that a file holds, of those that were named."""
    if words.password_file:
        return _read_password(words.password_file, "--password-file")
    if named := os.environ.get("SYNOFS_PASSWORD_FILE"):
        return _read_password(named, "SYNOFS_PASSWORD_FILE")
    if directory := os.environ.get("CREDENTIALS_DIRECTORY"):
        path = os.path.join(directory, SYSTEMD_CREDENTIAL)
        if os.path.exists(path):
            return _read_password(path, "the systemd credential")
    return None


def _read_password(path: str, source: str) -> Secret:
    try:
        with open(path, encoding="utf-8") as file:
            password = file.readline().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        detail = exc.strerror if isinstance(exc, OSError) else "it is not text"
        raise wrong_option(f"{source}: cannot read {path} ({detail})") from exc
    if not password:
        raise wrong_option(f"{source}: the first line of {path} is empty")
    return Secret(password)


# ----- keeping --------------------------------------------------------------------------------------------------


class FileStore:
    """Sign-ins in a file that its owner alone can read; what is secret in them may be in a keyring instead.

    The file says so of each sign-in, so a keyring is asked for those only that were put there, and no mount at boot
    waits for one in vain.
    """

    def __init__(self, path: Path, keyring: SecretKeeper | None = None) -> None:
        self._path = path
        self._keyring = keyring

    def load(self, url: str) -> SavedSignIn | None:
        entry = self._read().get(url)
        if entry is None:
            return None
        credentials = dict(entry["credentials"])
        if entry.get("in_keyring"):
            credentials |= self._from_keyring(url)
        return SavedSignIn(from_json(credentials), entry["fingerprint"], entry["ca_file"])

    def save(self, url: str, saved: SavedSignIn, keep: Keep = Keep.BEST) -> str:
        entries = self._read()
        credentials: dict[str, Any] = to_json(replace(saved.credentials, otp=None))
        place = f"{self._path} (readable by you alone)"
        trouble = None if keep is Keep.FILE else self._to_keyring(url, credentials)
        in_keyring = keep is not Keep.FILE and trouble is None
        if in_keyring:
            credentials = {name: None if name in _SECRETS else value for name, value in credentials.items()}
            place = "the keyring"
        elif keep is Keep.KEYRING:
            raise Failure(Problem.NO_KEYRING, detail=trouble)
        elif trouble is not None:
            place += f", because {trouble}"
        entry = {"credentials": credentials, "fingerprint": saved.fingerprint, "ca_file": saved.ca_file}
        self._write({**entries, url: {**entry, "in_keyring": in_keyring}})
        if not in_keyring and entries.get(url, {}).get("in_keyring"):
            try:
                self._delete_from_keyring(url)
            except Failure:  # it is locked, which may be why the file was asked for
                place += "; an older one is still in the keyring"
        return place

    def forget(self, url: str) -> str | None:
        entries = self._read()
        entry = entries.pop(url, None)
        if entry is None:
            return None
        if entry.get("in_keyring"):
            self._delete_from_keyring(url)
        self._write(entries)
        return "the keyring" if entry.get("in_keyring") else str(self._path)

    def kept_in(self, url: str) -> Keep | None:
        entry = self._read().get(url)
        if entry is None:
            return None
        return Keep.KEYRING if entry.get("in_keyring") else Keep.FILE

    def _to_keyring(self, url: str, credentials: Mapping[str, Any]) -> str | None:
        """Returns why it could not be kept there."""
        if self._keyring is None:
            return "there is no keyring here"
        try:
            self._keyring.set(url, json.dumps({name: credentials[name] for name in _SECRETS}))
        except KeyringUnusable as exc:
            return str(exc)
        return None

    def _from_keyring(self, url: str) -> dict[str, Any]:
        try:
            text = self._keyring.get(url) if self._keyring is not None else None
        except KeyringUnusable as exc:
            raise Failure(Problem.KEYRING_CLOSED, nas=url, detail=exc) from exc
        if text is None:
            raise Failure(Problem.KEYRING_CLOSED, nas=url, detail="the keyring knows nothing of it any more")
        try:
            kept = json.loads(text)
            secrets = {name: kept[name] for name in _SECRETS}
            msgspec.convert(secrets, _KeptSecrets)
        except (ValueError, KeyError, TypeError, RecursionError):  # whose text may show what it holds
            raise Failure(Problem.KEYRING_CLOSED, nas=url, detail="what it holds is not ours") from None
        return secrets

    def _delete_from_keyring(self, url: str) -> None:
        try:
            if self._keyring is not None:
                self._keyring.delete(url)
        except KeyringUnusable as exc:
            raise Failure(Problem.KEYRING_CLOSED, nas=url, detail=exc) from exc

    def _read(self) -> dict[str, Any]:
        try:
            entries: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
            msgspec.convert(entries, dict[str, _Kept])
        except FileNotFoundError:
            return {}
        except msgspec.ValidationError as exc:  # which is a ValueError; it names types and places, and no content
            raise self._not_ours(f"it is not as synofs writes it: {exc}") from None
        except (OSError, ValueError, RecursionError) as exc:
            raise self._not_ours(exc) from exc
        return entries

    def _not_ours(self, why: object) -> Failure:
        return wrong_option(f"cannot read {self._path} ({why}); remove it, and sign in again", "login")

    def _write(self, entries: Mapping[str, Any]) -> None:
        """All or nothing, and never readable by others, not even for a moment."""
        make_dirs(self._path.parent)
        self._remove_leftovers()
        descriptor, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=f"{self._path.name}.")
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(entries, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise

    def _remove_leftovers(self) -> None:
        """Of a process that was killed while it wrote: secrets are in it, which may have been forgotten since."""
        for left in self._path.parent.glob(f"{glob.escape(self._path.name)}.????????"):
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > LEFTOVER_SECONDS:
                    left.unlink()


def saved_sign_ins() -> SignInStore:
    """The store of this user."""
    return FileStore(platformdirs.user_config_path("synofs") / "sign-ins.json", SystemKeyring())
