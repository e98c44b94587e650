"""Every claim in docs/SEMANTICS.md has a test, and every test that it names is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
DOCUMENT = (TESTS.parent / "docs" / "SEMANTICS.md").read_text()
CLAIM = re.compile(r"^([A-Z])(\d+)\. ", re.MULTILINE)
REFERENCE = re.compile(r"`([\w/]+\.py)::(\w+)`")


def claims() -> dict[str, str]:
    """The text of each claim, up to the next one or the next heading."""
    found = {}
    starts = [*CLAIM.finditer(DOCUMENT)]
    for number, match in enumerate(starts):
        end = starts[number + 1].start() if number + 1 < len(starts) else len(DOCUMENT)
        found[match[1] + match[2]] = re.split(r"^#", DOCUMENT[match.start() : end], maxsplit=1, flags=re.MULTILINE)[0]
    return found


@cache
def defined_in(path: str) -> set[str]:
    tree = ast.parse((TESTS / path).read_text())
    return {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }


def test_there_are_claims_and_their_numbers_count_up_without_gaps() -> None:
    numbers: dict[str, list[int]] = {}
    for match in CLAIM.finditer(DOCUMENT):
        numbers.setdefault(match[1], []).append(int(match[2]))
    assert "R" in numbers
    for letter, found in numbers.items():
        assert found == list(range(1, len(found) + 1)), letter


@pytest.mark.parametrize("claim", claims())
def test_each_claim_is_held_up_by_tests_that_exist(claim: str) -> None:
    references = REFERENCE.findall(claims()[claim])
    assert references, f"{claim} names no test"
    for path, name in references:
        assert name in defined_in(path), f"{claim} names {path}::{name}, which is not there"


def test_no_test_is_named_in_a_form_that_goes_unchecked() -> None:
    assert len(REFERENCE.findall(DOCUMENT)) == DOCUMENT.count("::")
