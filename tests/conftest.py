"""What holds for every test: silence, no silent skips, nothing left behind, and a home of its own.

*Silence*: a log record of WARNING or worse that a test did not announce with `expect_logs` fails the test.
*Skips*: with `CI=true` a skipped test is a failed one, unless its reason is in `SKIPS_ALLOWED_ON_CI`.
*Leftovers*: a mount that is left below the session's temporary directory at its end fails the session.
*Home*: configuration, state and sockets of the programs under test live in temporary directories, never in
the developer's own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

SKIPS_ALLOWED_ON_CI = (
    r"needs a real NAS \(SYNOFS_TEST_NAS\)",  # nobody's CI has one
    r"needs a Python that a Debian release has",  # tests/systemd, on 3.12 and 3.14
)

# Who starts the tests in the background of a script has them ignore it, and so would every program under test.
signal.signal(signal.SIGINT, signal.default_int_handler)

ON_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")
CAN_MOUNT = os.access("/dev/fuse", os.R_OK | os.W_OK) and shutil.which("fusermount3") is not None


# ----- silence ----------------------------------------------------------------------------------------------


class _WarningCollector(logging.Handler):
    """Keeps what is logged at WARNING or above, whichever thread logs it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []
        self.expected: list[re.Pattern[str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def unexpected(self) -> list[str]:
        return [
            f"{record.levelname} {record.name}: {record.getMessage()}"
            for record in self.records
            if not any(pattern.search(record.getMessage()) for pattern in self.expected)
        ]

    def unmet(self) -> list[str]:
        messages = [record.getMessage() for record in self.records]
        return [p.pattern for p in self.expected if not any(p.search(message) for message in messages)]


@pytest.fixture(autouse=True)
def _silence() -> Iterator[_WarningCollector]:
    collector = _WarningCollector()
    root = logging.getLogger()
    root.addHandler(collector)
    try:
        yield collector
    finally:
        root.removeHandler(collector)
    loud = collector.unexpected()
    assert not loud, "logged, and not announced with expect_logs:\n" + "\n".join(loud)
    unmet = collector.unmet()
    assert not unmet, f"announced with expect_logs, and not logged: {unmet}"


@pytest.fixture
def expect_logs(_silence: _WarningCollector) -> Callable[..., None]:
    """`expect_logs(r"regular expression", ...)`: the program will log that, at WARNING or worse."""

    def expect(*patterns: str) -> None:
        _silence.expected.extend(re.compile(pattern) for pattern in patterns)

    return expect


# ----- skips ------------------------------------------------------------------------------------------------


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not CAN_MOUNT:
        needs_fuse = pytest.mark.skip(reason="needs /dev/fuse and fusermount3")
        for item in items:
            if item.get_closest_marker("mount"):
                item.add_marker(needs_fuse)


def _refuse_silent_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not (ON_CI and report.skipped) or hasattr(report, "wasxfail"):
        return
    reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    if not any(re.search(allowed, reason) for allowed in SKIPS_ALLOWED_ON_CI):
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: nothing may be skipped here ({reason})"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_silent_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_silent_skip(report)
    return report


# ----- a home of its own ------------------------------------------------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    home = tmp_path_factory.mktemp("home")
    # A unix socket's path has at most 107 bytes: the runtime directory cannot lie deep down with the rest.
    runtime = tempfile.mkdtemp(prefix="synofs-test-")
    own = {
        "HOME": str(home),
        "TMPDIR": str(tmp_path_factory.mktemp("tmp")),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_STATE_HOME": str(home / ".state"),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_DATA_HOME": str(home / ".data"),
        "XDG_RUNTIME_DIR": runtime,
    }
    foreign = [name for name in os.environ if name.startswith("SYNOFS_") and name != "SYNOFS_TEST_NAS"]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own.items():
            patch.setenv(name, value)
        for name in (*foreign, "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET"):
            patch.delenv(name, raising=False)
        tempfile.tempdir = None  # look at TMPDIR again
        yield
    tempfile.tempdir = None
    shutil.rmtree(runtime, ignore_errors=True)


# ----- leftovers --------------------------------------------------------------------------------------------


def _synofs_mounts_below(directory: Path) -> list[str]:
    mounts = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        mountpoint = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), left.split(" ")[4])
        if right.startswith("fuse") and Path(mountpoint).is_relative_to(directory):
            mounts.append(mountpoint)
    return mounts


@pytest.hookimpl(tryfirst=True)  # before anybody clears temporary directories, through the mount onto the NAS
def pytest_sessionfinish(session: pytest.Session) -> None:
    factory: pytest.TempPathFactory = session.config._tmp_path_factory  # type: ignore[attr-defined]
    left = _synofs_mounts_below(factory.getbasetemp())
    for mountpoint in left:
        with contextlib.suppress(OSError):
            subprocess.run(["fusermount3", "-u", "-z", "--", mountpoint], check=False)
    if left:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line("")
            reporter.write_line(f"left mounted by a test: {', '.join(left)}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
