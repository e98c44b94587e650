"""The test-suite's own rules (tests/conftest.py), tried on small suites that break them."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    pytester.makeconftest((Path(__file__).parents[1] / "conftest.py").read_text())
    pytester.makeini("[pytest]\nmarkers = mount: mounts")
    monkeypatch.delenv("CI", raising=False)
    return pytester


def run(suite: pytest.Pytester) -> pytest.RunResult:
    return suite.runpytest_subprocess("-p", "no:cacheprovider")


def test_an_unexpected_warning_in_the_log_fails_a_test(suite: pytest.Pytester) -> None:
    suite.makepyfile("import logging\ndef test_it(): logging.getLogger('x').warning('the NAS is odd')")
    result = run(suite)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*WARNING x: the NAS is odd*"])


def test_an_announced_warning_is_fine_and_a_missing_one_is_not(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        "import logging\n"
        "def test_said(expect_logs):\n"
        "    expect_logs('is odd')\n"
        "    logging.getLogger('x').error('the NAS is odd')\n"
        "def test_silent(expect_logs):\n"
        "    expect_logs('never logged')\n"
    )
    result = run(suite)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*never logged*"])


SKIPPING = "import pytest\ndef test_it(): pytest.skip('no time')\n"


def test_a_skip_fails_on_ci_only(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    suite.makepyfile(SKIPPING)
    run(suite).assert_outcomes(skipped=1)
    monkeypatch.setenv("CI", "true")
    result = run(suite)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*nothing may be skipped here*no time*"])


def test_a_skipped_module_fails_on_ci(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    suite.makepyfile("import pytest\npytest.skip('not today', allow_module_level=True)\n")
    monkeypatch.setenv("CI", "true")
    result = run(suite)
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*nothing may be skipped here*not today*"])


def test_an_allowed_skip_stays_a_skip_on_ci(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    suite.makepyfile("import pytest\ndef test_it(): pytest.skip('needs a real NAS (SYNOFS_TEST_NAS)')\n")
    monkeypatch.setenv("CI", "true")
    run(suite).assert_outcomes(skipped=1)


def test_tests_never_see_the_developers_home(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNOFS_PASSWORD_FILE", "/nonexistent/secret")
    home = Path.home()
    suite.makepyfile(
        "import os, tempfile, platformdirs\n"
        "def test_it():\n"
        "    assert 'SYNOFS_PASSWORD_FILE' not in os.environ\n"
        "    places = platformdirs.user_config_dir(), platformdirs.user_state_dir(), os.environ['HOME']\n"
        "    for place in places:\n"
        f"        assert not place.startswith({str(home) + '/.config'!r})\n"
        f"        assert place != {str(home)!r}\n"
        "    assert tempfile.gettempdir() == os.environ['TMPDIR']\n"
    )
    run(suite).assert_outcomes(passed=1)
