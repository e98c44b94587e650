"""The table of failures is complete, and each failure is one line."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from synofs import remote
from synofs.app.errors import OF_REMOTE_ERROR, Failure, Problem, failure_of, problem_of
from synofs.filestation import wire
from synofs.filestation.transport import CertificateUntrusted, ConnectError, TransportError

ROOT = Path(__file__).parents[3]


def remote_errors(kind: type[remote.RemoteError] = remote.RemoteError) -> Iterator[type[remote.RemoteError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from remote_errors(below)


def test_exit_codes_are_unique_and_none_is_success() -> None:
    codes = [problem.exit_code for problem in Problem]
    assert len(set(codes)) == len(codes)
    assert all(0 < code < 126 or code == 130 for code in codes)  # a shell uses 126 to 128 itself


def test_every_refused_sign_in_and_every_way_not_to_be_heard_has_a_row_of_its_own() -> None:
    own = {remote.SignInRefused, remote.CertificateRefused, remote.NotANas}
    shared = (remote.ShortBody, remote.BeginningLost, remote.Away)  # cannot happen before there is a mount
    for kind in remote_errors():
        if issubclass(kind, (*own, remote.Unavailable)) and kind not in shared:
            assert kind in OF_REMOTE_ERROR, kind


@pytest.mark.parametrize("kind", list(remote_errors()))
def test_every_remote_error_has_a_message(kind: type[remote.RemoteError]) -> None:
    failure = failure_of(kind("because"), nas="https://nas:5001", user="anna", host="nas", mountpoint="/mnt")
    assert failure.problem is problem_of(kind("because")) is not Problem.INTERNAL
    assert "\n" not in failure.line


def facts_of(problem: Problem) -> set[str]:
    text = problem.says + problem.remedy
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("problem", Problem)
def test_each_message_says_what_is_wrong_and_what_to_do(problem: Problem) -> None:
    facts = {name: f"<{name}>" for name in facts_of(problem)}
    line = Failure(problem, **facts).line
    wrong, _, remedy = line.partition(": ")
    assert wrong
    assert remedy
    assert "?" not in line.replace("right?", "").replace("starting?", "")


def test_a_line_stays_one_line_whatever_the_facts_hold() -> None:
    assert "\n" not in Failure(Problem.UNREACHABLE, nas="a\nb", detail="c\r\n\td").line


def test_failures_travel_as_json_unchanged() -> None:
    failure = Failure(Problem.NOT_A_NAS, nas="https://nas:5001", detail="HTML {curly}")
    again = Failure.from_json(failure.to_json())
    assert (again.problem, again.line) == (failure.problem, failure.line)


def test_an_unknown_problem_from_another_version_is_still_a_failure() -> None:
    assert Failure.from_json({"problem": "FROM_THE_FUTURE"}).problem is Problem.INTERNAL


def test_the_meaningful_part_of_a_group_is_told() -> None:
    group = ExceptionGroup("x", [ValueError("noise"), ExceptionGroup("y", [remote.WrongPassword("no")])])
    assert failure_of(group).problem is Problem.WRONG_PASSWORD
    assert failure_of(ExceptionGroup("x", [OSError("noise"), Failure(Problem.NO_FUSE)])).problem is Problem.NO_FUSE
    assert failure_of(BaseExceptionGroup("x", [KeyboardInterrupt()])).problem is Problem.INTERRUPTED
    assert failure_of(ZeroDivisionError("oops")).problem is Problem.INTERNAL


def test_an_untrusted_certificate_is_told_with_its_fingerprint_and_the_option() -> None:
    line = failure_of(remote.CertificateRefused("self-signed", fingerprint="ab" * 32), nas="https://nas").line
    assert f"--fingerprint {'ab' * 32}" in line


def test_the_exit_codes_in_the_documentation_are_these() -> None:
    text = (ROOT / "docs" / "TROUBLESHOOTING.md").read_text()
    documented = {int(code): name for code, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.MULTILINE)}
    assert documented == {problem.exit_code: problem.name for problem in Problem}


@pytest.mark.parametrize(
    ("error", "begins"),
    [
        (ConnectError("Connection refused"), "cannot reach https://nas (Connection refused): "),
        (CertificateUntrusted("self-signed"), "the certificate of https://nas is not trusted (self-signed): "),
    ],
)
def test_a_line_says_once_whose_fault_it_is(error: TransportError, begins: str) -> None:
    assert failure_of(wire.translated(error), nas="https://nas").line.startswith(begins)
