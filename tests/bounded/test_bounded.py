"""No call takes longer than docs/SEMANTICS.md promises, whatever happens to the NAS; afterwards everything works again.

The short form, with short deadlines. The long one, with the real ones and with peers: `scripts/bench --long bounded`.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from synofs.fuse.operations import Operations
from tests.bounded import caller
from tests.bounded.measure import Measured, measured
from tests.bounded.promises import AWAY, FILES, LOOKS, TRIED, broken
from tests.bounded.scenarios import SCENARIOS, Findings

pytestmark = [pytest.mark.mount, pytest.mark.timeout(240)]

DEADLINE = 4.0
LONG_DEADLINE = 20.0  # where the NAS is away, so that nobody is let go by that
AWAY_SECONDS, TROUBLE_SECONDS = 11.0, 6.0
BACK_SECONDS = 3.0
SLACK_SECONDS = 4.0  # for a busy machine


def deadline_of(scenario: str) -> float:
    return LONG_DEADLINE if scenario in AWAY else DEADLINE


MODES = {"durable": "synofs", "writeback": "synofs-wb"}
PLAYED = [(scenario, "durable") for scenario in SCENARIOS] + [("black-holed", "writeback")]
Found = Callable[..., Findings]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    """What was found in a scenario, which is played once."""
    with contextlib.ExitStack() as stack:

        @cache
        def bench(deadline: float, mode: str) -> Measured:
            work = tmp_path_factory.mktemp("bounded")
            return stack.enter_context(measured(MODES[mode], work, "--deadline", str(deadline)))

        @cache
        def run(scenario: str, mode: str = "durable") -> Findings:
            seconds = AWAY_SECONDS if scenario in AWAY else TROUBLE_SECONDS
            return bench(deadline_of(scenario), mode).run(scenario, seconds, patience_seconds=12 * DEADLINE)

        yield run


@pytest.mark.parametrize(("scenario", "mode"), PLAYED)
def test_no_call_takes_longer_than_promised_and_all_works_again_afterwards(
    found: Found, scenario: str, mode: str
) -> None:
    findings = found(scenario, mode)
    assert broken(findings, scenario, deadline_of(scenario), mode, SLACK_SECONDS) == [], findings
    tried = set().union(*TRIED.values())
    assert len(tried & set(findings.counts)) >= len(tried) - 1, "every call was tried"
    assert scenario not in AWAY or len(findings.late) >= len(tried) - 3, "and again when the NAS was known to be away"
    assert findings.recovered_after is not None
    assert findings.recovered_after <= BACK_SECONDS + SLACK_SECONDS


def test_every_call_of_the_kernel_is_tried_or_waited_for_by_nobody() -> None:
    handlers = {name for name, member in vars(Operations).items() if callable(member) and not name.startswith("_")}
    assert handlers == set(TRIED)
    source = Path(caller.__file__).read_text()
    named = {name.replace(" ", "_") for name in re.findall(r'call\("([^"]+)"', source)}
    assert named >= set().union(*TRIED.values())


@pytest.mark.parametrize("scenario", ["black-holed", "stopped", "slow"])
def test_what_was_seen_before_is_shown_however_long_the_nas_is_silent(found: Found, scenario: str) -> None:
    for call in ("stat_known", "access_known", "readdir_known", "read_known", "statfs"):
        assert found(scenario).ends[call] == {0}, call


@pytest.mark.parametrize("scenario", sorted(AWAY))
def test_without_the_nas_nothing_succeeds_that_needs_it(found: Found, scenario: str) -> None:
    """Else it was not asked, and what was measured says nothing of how long it is waited for."""
    ends = found(scenario).ends
    needing = LOOKS - {"read_known", "creat"} | FILES - {"utimens"} | {"mkdir", "rmdir", "rename", "unlink"}
    assert {call for call in needing if ends[call] & {0, errno.ENOENT}} == set(), ends


def test_a_call_that_is_too_long_or_never_ends_is_noticed() -> None:
    begun_and_ended = "B stat_new 0.0\nE stat_new 30.0 110\nB stat_known 30.0\nE stat_known 0.0 0\nB statfs 30.0\n"
    findings = Findings(longest_d_state=200)
    findings.take(begun_and_ended, now=90.0)
    complaints = broken(findings, "black-holed", deadline=20, mode="durable", slack_seconds=2)
    assert [complaint.split()[1] for complaint in complaints] == ["stat_new", "statfs", "a"]
    assert findings.hung == {"statfs"}
