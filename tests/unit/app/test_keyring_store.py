"""The keyring is asked with a limit, for what was put there, and its failures are the keyring's alone."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

from synofs.app import keyring_store
from synofs.app.credentials import FileStore, Keep, SavedSignIn
from synofs.app.errors import Failure, Problem
from synofs.app.keyring_store import KeyringUnusable, SystemKeyring, within
from synofs.app.profiles import Profile
from synofs.app.units import Scope
from synofs.cli import units
from synofs.filestation.auth import Credentials, Secret

URL = "https://nas:5001"
SIGN_IN = SavedSignIn(Credentials("anna", Secret("hunter2"), device_id=Secret("device")), "ab" * 32)


class InMemory(KeyringBackend):
    """The smallest backend that the keyring library takes."""

    priority = 1

    def __init__(self) -> None:
        self.texts: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.texts.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.texts[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.texts[service, username]


class Silent(InMemory):
    """As one that waits for its owner to unlock it."""

    def get_password(self, service: str, username: str) -> str | None:
        threading.Event().wait()
        raise AssertionError("unreachable")


class Broken(InMemory):
    def get_password(self, service: str, username: str) -> str | None:
        raise OSError("the bus is gone")


class Closed(InMemory):
    """As one whose owner does not unlock it."""

    def set_password(self, service: str, username: str, password: str) -> None:
        raise KeyringLocked("Failed to unlock the collection!")

    def delete_password(self, service: str, username: str) -> None:
        raise KeyringLocked("Failed to unlock the collection!")


def use(backend: KeyringBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if its name stood in keyringrc.cfg."""
    monkeypatch.setattr(keyring.core, "init_backend", lambda limit: keyring.set_keyring(backend))


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "sign-ins.json", SystemKeyring())


def test_secrets_go_to_the_keyring_and_nothing_else_does(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = InMemory()
    use(backend, monkeypatch)
    assert store.save(URL, SIGN_IN) == "the keyring"
    text = (tmp_path / "sign-ins.json").read_text()
    assert "hunter2" not in text
    assert '"device"' not in text
    assert json.loads(backend.texts["synofs", URL]) == {"password": "hunter2", "device_id": "device"}
    again = store.load(URL)
    assert again == SIGN_IN
    assert store.kept_in(URL) is Keep.KEYRING
    assert store.forget(URL) == "the keyring"
    assert backend.texts == {}


def test_a_keyring_is_not_asked_for_what_was_never_put_there(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring.core, "init_backend", lambda limit: pytest.fail("asked"))
    store.save(URL, SIGN_IN, Keep.FILE)
    assert store.load(URL) == SIGN_IN
    assert store.load("https://other:5001") is None
    assert store.kept_in(URL) is Keep.FILE


def test_a_silent_keyring_holds_nobody_up(store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(InMemory(), monkeypatch)
    store.save(URL, SIGN_IN)
    use(Silent(), monkeypatch)
    impatient = FileStore(tmp_path / "sign-ins.json", SystemKeyring(answer_seconds=0.2, person_seconds=0.2))
    with pytest.raises(Failure, match="did not answer within") as caught:
        impatient.load(URL)
    assert caught.value.problem is Problem.KEYRING_CLOSED


def test_a_keyring_that_forgets_is_no_place_to_save(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(Broken(), monkeypatch)
    assert "the bus is gone" in store.save(URL, SIGN_IN)
    assert json.loads((tmp_path / "sign-ins.json").read_text())[URL]["credentials"]["password"] == "hunter2"


@pytest.mark.parametrize("keep", [Keep.FILE, Keep.BEST])
def test_a_keyring_that_is_closed_now_does_not_keep_a_new_sign_in_from_the_file(
    keep: Keep, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is what the message about a closed keyring tells to do."""
    use(InMemory(), monkeypatch)
    store.save(URL, SIGN_IN)
    use(Closed(), monkeypatch)
    assert store.save(URL, SIGN_IN, keep).endswith("; an older one is still in the keyring")
    assert store.load(URL) == SIGN_IN
    assert store.kept_in(URL) is Keep.FILE


def test_what_a_keyring_lost_is_told(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    use(InMemory(), monkeypatch)
    store.save(URL, SIGN_IN)
    use(InMemory(), monkeypatch)
    with pytest.raises(Failure, match="the keyring knows nothing of it any more"):
        store.load(URL)


def test_every_failure_of_a_backend_is_one_of_the_keyring() -> None:
    def fail() -> None:
        raise RuntimeError("no bus")

    with pytest.raises(KeyringUnusable, match="no bus"):
        within(5, fail)


def test_nobody_is_asked_without_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not keyring_store.can_ask_a_person()


@pytest.mark.parametrize(
    ("scope", "automount", "is_told"), [("system", True, True), ("system", False, True), ("user", False, False)]
)
def test_a_mount_at_boot_is_not_left_with_a_password_in_a_keyring(
    scope: str,
    automount: bool,
    is_told: bool,
    store: FileStore,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    use(InMemory(), monkeypatch)
    store.save(URL, SIGN_IN)
    monkeypatch.setattr(units, "saved_sign_ins", lambda: store)
    profile = Profile("home", Path("config.toml"), URL, "/mnt/nas", {})
    units._look_for_password(profile, Scope(scope), automount=automount)
    assert ("--keep-in file" in capsys.readouterr().err) is is_told
