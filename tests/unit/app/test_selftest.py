"""A mount that does not answer its own question is not reported alive."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from synofs.app import selftest
from synofs.app.sdnotify import Notifier
from synofs.app.selftest import SelfTest, feed_watchdog

HANGS = "import time; time.sleep(3600)"


def probe(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(selftest, "PROBE", program)


@pytest.mark.trio
async def test_a_folder_that_answers_passes(tmp_path: Path) -> None:
    assert await SelfTest(str(tmp_path), within_seconds=20).passes()


@pytest.mark.parametrize(("errno", "alive"), [(107, False), (103, False), (110, True), (5, True)])
@pytest.mark.trio
async def test_an_error_is_an_answer_unless_nobody_serves(
    errno: int, alive: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe(monkeypatch, f"import sys; sys.exit({errno})")
    assert await SelfTest(str(tmp_path), within_seconds=20).passes() is alive


@pytest.mark.trio
async def test_a_look_that_hangs_fails_and_is_not_followed_by_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = tmp_path / "started"
    probe(monkeypatch, f"open({str(started)!r}, 'a').write('x'); {HANGS}")
    test = SelfTest(str(tmp_path), within_seconds=0.5)
    try:
        assert not await test.passes()
        with trio.fail_after(20):
            while not started.exists():
                assert not await test.passes()
        assert not await test.passes()
        assert started.read_text() == "x", "hanging processes pile up"
    finally:
        assert test._process is not None
        test._process.kill()
        await test._process.wait()


@pytest.mark.trio
async def test_a_look_that_comes_back_late_makes_the_mount_alive_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"
    probe(monkeypatch, f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.05)")
    test = SelfTest(str(tmp_path), within_seconds=0.3)
    assert not await test.passes()
    go.touch()
    with trio.fail_after(20):
        while not await test.passes():
            pass


class Heard(Notifier):
    def __init__(self) -> None:
        super().__init__(None)
        self.count = 0

    def alive(self) -> None:
        self.count += 1


class Answers(SelfTest):
    def __init__(self, answers: list[bool]) -> None:
        super().__init__("/", 1)
        self.answers = answers

    async def passes(self) -> bool:
        return self.answers.pop(0)


@pytest.mark.trio
async def test_systemd_hears_of_passed_tests_only(
    expect_logs: Callable[..., None], autojump_clock: trio.testing.MockClock
) -> None:
    expect_logs("did not answer its own question")
    heard, answers = Heard(), [True, False, False, True]
    with trio.move_on_after(3.5):
        await feed_watchdog(heard, Answers(answers), every_seconds=1)
    assert (heard.count, answers) == (2, [])
