"""The log file is private, and no secret reaches it even if somebody logs one."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path

import pytest

from synofs.app import logs
from synofs.app.logs import (
    JournalFormatter,
    RedactingFormatter,
    keep_traceback,
    log_calls_to_file,
    log_path,
    log_to_file,
    redact,
)


@pytest.fixture
def restored_logging() -> Iterator[None]:
    root, own, calls = logging.getLogger(), logging.getLogger("synofs"), logging.getLogger("synofs.access")
    before = list(root.handlers), root.level, own.level
    calls_before = list(calls.handlers), calls.propagate, calls.level
    yield
    for handler in [h for h in calls.handlers if h not in calls_before[0]]:
        calls.removeHandler(handler)
        handler.close()
    calls.propagate = calls_before[1]  # pytest gives loggers that do not propagate handlers of its own
    calls.setLevel(calls_before[2])
    for handler in [h for h in root.handlers if h not in before[0]]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(before[1])
    own.setLevel(before[2])
    logging.captureWarnings(False)


@pytest.mark.parametrize(
    "text",
    [
        "GET /webapi/entry.cgi?api=SYNO.X&_sid=SECRET&SynoToken=SECRET HTTP/1.1",
        "body: account=anna&passwd=SECRET&otp_code=SECRET",
        '{"data": {"sid": "SECRET", "synotoken": "SECRET", "did":"SECRET", "device_id": "SECRET"}}',
        "{'passwd': 'SECRET', 'account': 'anna'}",
        "X-SYNO-TOKEN: SECRET",
        "Cookie: id=SECRET; did=SECRET",
        "Set-Cookie: id=SECRET;path=/;HttpOnly",
    ],
)
def test_whatever_looks_like_a_secret_is_blotted_out(text: str) -> None:
    assert "SECRET" not in redact(text)
    assert "***" in redact(text)


@pytest.mark.parametrize(
    "text", ["read /photos/a.jpg: timed out", "the password was refused", "uid 1000, did nothing, valid: yes"]
)
def test_ordinary_lines_stay_as_they_are(text: str) -> None:
    assert redact(text) == text


def test_tracebacks_are_redacted_too() -> None:
    try:
        raise ValueError("GET /x?_sid=SECRET failed")
    except ValueError as exc:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "oops", None, (type(exc), exc, exc.__traceback__))
    text = RedactingFormatter("%(message)s").format(record)
    assert "Traceback" in text
    assert "SECRET" not in text


@pytest.mark.usefixtures("restored_logging")
def test_the_log_file_is_private_and_holds_our_level_and_their_warnings(tmp_path: Path) -> None:
    path = tmp_path / "state" / "nas.log"
    log_to_file(path, "debug")
    logging.getLogger("synofs.fs").debug("ours")
    logging.getLogger("urllib3").debug("theirs")
    text = path.read_text()
    assert "ours" in text
    assert "theirs" not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_crash_is_written_down_privately_and_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = keep_traceback(ValueError("GET /x?_sid=SECRET"))
    assert keep_traceback(ValueError("second")) == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert "ValueError: GET /x?_sid=***" in text
    assert "second" in text


def test_each_mountpoint_has_a_log_of_its_own() -> None:
    assert log_path("/home/anna/nas") != log_path("/home/bert/nas")
    assert log_path("/home/anna/nas").name.startswith("nas-")
    assert log_path("/").name


def test_lines_for_the_journal_carry_their_priority() -> None:
    formatter = JournalFormatter("%(name)s: %(message)s")
    for level, priority in ((logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3)):
        record = logging.LogRecord("synofs.x", level, "x.py", 1, "two\nlines with passwd=secret", None, None)
        assert formatter.format(record) == f"<{priority}>synofs.x: two\n<{priority}>    lines with passwd=***"


def test_no_name_can_forge_a_line_or_steer_a_terminal() -> None:
    name = "a\n2026-11-24 WARNING synofs: forged\r\x1b[2J\x9b1m\u202e\u2028x"
    record = logging.LogRecord("synofs.x", logging.INFO, "f", 1, "read %s", (name,), None)
    lines = RedactingFormatter("%(levelname)s %(message)s").format(record).split("\n")
    assert lines == ["INFO read a", r"    2026-11-24 WARNING synofs: forged\r\x1b[2J\x9b1m\u202e\u2028x"]


def test_every_log_file_is_private_whatever_the_umask(tmp_path: Path, restored_logging: None) -> None:
    path = tmp_path / "deep" / "state" / "synofs" / "x.log"
    umask = os.umask(0)
    try:
        log_to_file(path, "info")
        handler = logging.getLogger().handlers[-1]
        assert isinstance(handler, RotatingFileHandler)
        handler.doRollover()
        logging.getLogger("synofs").info("in the second one")
    finally:
        os.umask(umask)
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["x.log", "x.log.1"]
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()} == {0o600}
    folders = [path.parent, path.parents[1], path.parents[2]]
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in folders] == [0o700] * 3


def test_neither_log_grows_without_end(tmp_path: Path, restored_logging: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES", 10_000)
    calls = logging.getLogger("synofs.access")
    log_to_file(tmp_path / "nas.log", "info")
    log_calls_to_file(tmp_path / "nas.access.log")
    for number in range(2000):
        logging.getLogger("synofs").info("line %d", number)
        calls.info("call %d", number)
    for name, files, last in (("nas.log", 4, "line 1999"), ("nas.access.log", 2, "call 1999")):
        assert last in (tmp_path / name).read_text()
        sizes = [path.stat().st_size for path in tmp_path.glob(f"{name}*")]
        assert len(sizes) == files
        assert sum(sizes) <= files * 10_000
