"""Secrets come from where they were said to come from, and show nowhere."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from synofs.app import credentials as secrets
from synofs.app.config import NasAddress, Settings, SignInWords
from synofs.app.credentials import FileStore, Keep, SavedSignIn, find_credentials, saved_sign_ins
from synofs.app.errors import Failure, Problem
from synofs.app.order import Order
from synofs.filestation.auth import Credentials, Secret

URL = "https://nas:5001"
SETTINGS = Settings(URL, "/mnt", user="anna")
NO_WORDS = SignInWords()


class Person:
    """Answers questions, and counts them."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def user(self, address: NasAddress) -> str:
        self.asked.append("user")
        return "anna"

    def password(self, address: NasAddress, user: str) -> str:
        self.asked.append("password")
        return "from the keyboard"

    def otp(self, address: NasAddress, user: str) -> str:
        raise AssertionError("not asked for here")

    def trust(self, address: NasAddress, fingerprint: str) -> bool:
        raise AssertionError("not asked for here")

    def note(self, text: str) -> None:
        raise AssertionError("not told here")


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "config" / "sign-ins.json")


@pytest.fixture
def password_in(tmp_path: Path) -> Callable[[str, str], str]:
    def write(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def saved(password: str = "saved", user: str = "anna") -> SavedSignIn:
    return SavedSignIn(
        Credentials(user, Secret(password), device_id=Secret("device"), device_name="synofs on desk"), "ab" * 32
    )


def test_the_sources_of_a_password_in_their_order(
    store: FileStore,
    password_in: Callable[[str, str], str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    person = Person()

    def found(words: SignInWords = NO_WORDS) -> str:
        return find_credentials(SETTINGS, words, store, person)[1].password.reveal()

    assert found() == "from the keyboard"
    assert person.asked == ["password"]
    store.save(URL, saved())
    assert found() == "saved"
    password_in(secrets.SYSTEMD_CREDENTIAL, "from systemd\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert found() == "from systemd"
    monkeypatch.setenv("SYNOFS_PASSWORD_FILE", password_in("b", "from the environment's file"))
    assert found() == "from the environment's file"
    assert found(SignInWords(password_file=password_in("a", " spaces count \r\nnot this"))) == " spaces count "
    assert person.asked == ["password"]


def test_nobody_to_ask_is_a_failure_that_says_what_to_do(store: FileStore) -> None:
    with pytest.raises(Failure) as caught:
        find_credentials(SETTINGS, NO_WORDS, store, None)
    assert caught.value.problem is Problem.NO_PASSWORD
    assert "synofs login https://nas:5001" in caught.value.line
    with pytest.raises(Failure) as caught:
        find_credentials(Settings(URL), NO_WORDS, store, None)
    assert caught.value.problem is Problem.NO_USER


def test_what_was_saved_completes_the_settings(store: FileStore) -> None:
    store.save(URL, saved())
    settings, credentials = find_credentials(Settings(URL, "/mnt"), NO_WORDS, store, None)
    assert (settings.user, settings.fingerprint) == ("anna", "ab" * 32)
    assert credentials.device_id == "device"
    assert credentials.device_name == "synofs on desk"
    explicit, _ = find_credentials(Settings(URL, "/mnt", fingerprint="cd" * 32), NO_WORDS, store, None)
    assert explicit.fingerprint == "cd" * 32


def test_what_was_saved_for_one_user_is_not_used_for_another(store: FileStore) -> None:
    store.save(URL, saved())
    with pytest.raises(Failure) as caught:
        find_credentials(Settings(URL, user="bert"), NO_WORDS, store, None)
    assert caught.value.problem is Problem.NO_PASSWORD


@pytest.mark.parametrize("content", ["", "\nsecond line"])
def test_an_empty_password_file_is_refused(content: str, password_in: Callable[[str, str], str]) -> None:
    with pytest.raises(Failure) as caught:
        secrets.find_password(SignInWords(password_file=password_in("empty", content)))
    assert caught.value.problem is Problem.WRONG_OPTION


def test_a_password_file_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNOFS_PASSWORD_FILE", "/nonexistent/password")
    with pytest.raises(Failure) as caught:
        secrets.find_password(NO_WORDS)
    assert "SYNOFS_PASSWORD_FILE" in caught.value.line


def test_the_file_is_readable_by_its_owner_alone(store: FileStore, tmp_path: Path) -> None:
    store.save(URL, saved())
    path = tmp_path / "config" / "sign-ins.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_one_time_codes_are_never_saved(store: FileStore, tmp_path: Path) -> None:
    store.save(URL, SavedSignIn(Credentials("anna", Secret("p"), otp=Secret("654321"))))
    assert "654321" not in (tmp_path / "config" / "sign-ins.json").read_text()


def test_sign_ins_are_kept_apart_and_forgotten_one_by_one(store: FileStore) -> None:
    store.save(URL, saved("one"))
    store.save("https://other:5001", saved("two"))
    assert store.forget(URL)
    assert not store.forget(URL)
    assert store.load(URL) is None
    left = store.load("https://other:5001")
    assert left is not None
    assert left.credentials.password.reveal() == "two"


def test_a_broken_file_is_told_and_not_overwritten(store: FileStore, tmp_path: Path) -> None:
    store.save(URL, saved())
    path = tmp_path / "config" / "sign-ins.json"
    path.write_text("{broken")
    with pytest.raises(Failure):
        store.save(URL, saved())
    assert path.read_text() == "{broken"


def test_what_a_killed_process_left_half_written_is_removed_with_the_next_change(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "config"

    def killed(old: str, new: str) -> None:
        shutil.copy(old, old[:-8] + "leftover")
        rename(old, new)

    rename = os.replace
    monkeypatch.setattr("os.replace", killed)
    store.save(URL, saved(), Keep.FILE)
    monkeypatch.undo()
    half = folder / "sign-ins.json.leftover"
    assert "password" in half.read_text()
    store.save(URL, saved(), Keep.FILE)
    assert half.exists(), "somebody may be writing it"
    os.utime(half, (1, 1))
    assert store.forget(URL)
    assert [path.name for path in folder.iterdir()] == ["sign-ins.json"]


WHOLE = {"user": "anna", "password": "hunter2", "otp": None, "device_id": None, "device_name": "here"}


@pytest.mark.parametrize(
    "content",
    [
        [1],
        5,
        {URL: 5},
        {URL: {}},
        {URL: {"credentials": 5, "fingerprint": None, "ca_file": None}},
        {URL: {"credentials": {}, "fingerprint": None, "ca_file": None}},
        {URL: {"credentials": WHOLE | {"user": 7}, "fingerprint": None, "ca_file": None}},
        {URL: {"credentials": WHOLE | {"password": None}, "fingerprint": None, "ca_file": None}},
        {URL: {"credentials": WHOLE | {"device_id": ["hunter2"]}, "fingerprint": None, "ca_file": None}},
        {URL: {"credentials": WHOLE, "fingerprint": 6, "ca_file": None}},
        {URL: {"credentials": WHOLE, "fingerprint": None, "ca_file": ["hunter2"]}},
        "[" * 100_000,
        '{"a":' * 50_000,
        "\udcff",
    ],
    ids=lambda content: str(content)[:60].encode("ascii", "replace").decode(),
)
def test_a_file_that_is_not_of_ours_is_told_and_not_overwritten(
    content: object, store: FileStore, tmp_path: Path
) -> None:
    store.save(URL, saved(), Keep.FILE)
    path = tmp_path / "config" / "sign-ins.json"
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    for attempt in (lambda: store.load(URL), lambda: store.save(URL, saved()), lambda: store.forget(URL)):
        with pytest.raises(Failure) as caught:
            attempt()
        assert caught.value.problem is Problem.WRONG_OPTION
        assert str(path) in caught.value.line
        assert "sign in again" in caught.value.line
        assert "hunter2" not in caught.value.line
    assert path.read_bytes() == text.encode("utf-8", "surrogateescape")


def test_the_users_store_is_in_the_users_configuration() -> None:
    assert "synofs/sign-ins.json" in saved_sign_ins().save(URL, saved(), Keep.FILE)
    assert saved_sign_ins().forget(URL)


def test_an_order_travels_unchanged_and_hides_its_secrets() -> None:
    credentials = Credentials("anna", Secret("hunter2"), Secret("123456"), Secret("dev"), "synofs on desk")
    order = Order(SETTINGS, credentials)
    again = Order.from_json(json.loads(json.dumps(order.to_json())))
    assert again == order
    assert again.credentials.password.reveal() == "hunter2"
    for text in (repr(order), str(order), f"{credentials}"):
        assert "hunter2" not in text
        assert "123456" not in text
