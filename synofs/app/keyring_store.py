"""The desktop's keyring (GNOME Keyring, KWallet, KeePassXC ... through the Secret Service), asked with patience limits.

A keyring that is locked asks its owner for a password, in a window, and the question blocks whoever wanted a secret.
Where nobody would see that window (at boot, over ssh) it is not opened: a locked keyring is then a failure at once.
A keyring that says nothing is one after `ANSWER_SECONDS`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

SERVICE = "synofs"
ANSWER_SECONDS = 10.0
PERSON_SECONDS = 120.0  # for somebody who has to look up the password of the keyring

T = TypeVar("T")
log = logging.getLogger(__name__)


class KeyringUnusable(Exception):
    """There is no keyring, or it stays closed. The text says why."""


class SecretKeeper(Protocol):
    """Texts by name, kept where others cannot read them. Every method raises `KeyringUnusable`."""

    def get(self, name: str) -> str | None: ...
    def set(self, name: str, text: str) -> None: ...
    def delete(self, name: str) -> None: ...


class SystemKeyring:
    """The keyring that the `keyring` library finds; its own configuration (keyringrc.cfg) is respected."""

    def __init__(self, answer_seconds: float = ANSWER_SECONDS, person_seconds: float = PERSON_SECONDS) -> None:
        self._answer_seconds = answer_seconds
        self._person_seconds = person_seconds

    def get(self, name: str) -> str | None:
        found: str | None = self._ask(lambda backend: backend.get_password(SERVICE, name))
        return found

    def set(self, name: str, text: str) -> None:
        self._ask(lambda backend: backend.set_password(SERVICE, name, text))
        if self.get(name) != text:
            raise KeyringUnusable("the keyring does not keep what it is given")

    def delete(self, name: str) -> None:
        from keyring.errors import PasswordDeleteError

        def delete(backend: Any) -> None:
            with contextlib.suppress(PasswordDeleteError):
                backend.delete_password(SERVICE, name)

        self._ask(delete)

    def _ask(self, work: Callable[[Any], T]) -> T:
        can_ask = can_ask_a_person()
        seconds = self._person_seconds if can_ask else self._answer_seconds

        def ask() -> T:
            from keyring.errors import KeyringError

            try:
                backend = _backend()
                if not can_ask:
                    _require_open(backend)
                return work(backend)
            except KeyringError as exc:
                raise KeyringUnusable(f"the keyring failed: {str(exc).rstrip('.') or type(exc).__name__}") from exc

        return within(seconds, ask)


def can_ask_a_person() -> bool:
    """Whether a window with a question would be seen: there is a display, and somebody sits at a terminal."""
    has_display = bool(os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY"))
    return has_display and sys.stdin is not None and sys.stdin.isatty()


def within(seconds: float, work: Callable[[], T]) -> T:
    """The outcome of `work`, unless it takes longer. Then its thread is left alone; it ends with this process."""
    outcome: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put((work(), None))
        except BaseException as exc:
            outcome.put((None, exc))

    threading.Thread(target=run, name="keyring", daemon=True).start()
    try:
        result, error = outcome.get(timeout=seconds)
    except queue.Empty:
        raise KeyringUnusable(f"the keyring did not answer within {seconds:g} s") from None
    if isinstance(error, KeyringUnusable):
        raise error
    if error is not None:  # a backend's own kind of failure: none of them may take a mount with it
        log.debug("the keyring failed", exc_info=error)
        raise KeyringUnusable(f"the keyring failed: {error}") from error
    return result  # type: ignore[return-value]


def _backend() -> Any:
    import keyring.core
    from keyring.backends import fail, null

    with _quiet_keyring():
        # "recommended" leaves out what writes into plain files: our own file is at least as good.
        keyring.core.init_backend(limit=keyring.core.recommended)
        backend = keyring.core.get_keyring()
    if isinstance(backend, fail.Keyring | null.Keyring):
        raise KeyringUnusable("there is no keyring here")
    return backend


@contextlib.contextmanager
def _quiet_keyring() -> Iterator[None]:
    """The library warns of each backend that it cannot load; most are for other systems."""
    logger = logging.getLogger("keyring")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _require_open(backend: Any) -> None:
    """Raise if the backend would ask somebody for a password. Of others than the Secret Service nobody can know."""
    from keyring.backends import SecretService
    from keyring.backends.chainer import ChainerBackend

    backends = backend.backends if isinstance(backend, ChainerBackend) else [backend]
    if not any(isinstance(one, SecretService.Keyring) for one in backends):
        return
    import secretstorage

    with contextlib.closing(secretstorage.dbus_init()) as bus:
        try:
            # Not get_default_collection: that makes one, and asks for its new password.
            collection = secretstorage.Collection(bus)
        except secretstorage.ItemNotFoundException:
            raise KeyringUnusable("the keyring has no collection yet") from None
        if collection.is_locked():
            raise KeyringUnusable("the keyring is locked, and there is nobody to ask here")
