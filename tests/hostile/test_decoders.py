"""Whatever bytes come as an answer, decoding ends in a value that holds what it promises or in a `RemoteError`."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile import answers
from tests.hostile.decoders import ASKED, KINDS, decode, decode_made_answer, read_head

MADE = 40_000
EXAMPLES = 40  # of each decoder, by Hypothesis

_text = st.text(st.characters(codec=None), max_size=20) | st.sampled_from(answers.NAMES + answers.NUMERALS)
_scalar = st.none() | st.booleans() | st.integers() | st.floats() | _text | st.sampled_from(answers.NUMBERS)
_value = st.recursive(
    _scalar, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4), max_leaves=12
)


def _member_names() -> list[str]:
    """The names that the decoders look for, so that values of any type get under them."""
    found = {"success", "data", "error", "code", "errors", "SYNO.API.Auth", "SYNO.FileStation.List"}
    waiting: list[Any] = [kind for _, kind in KINDS if isinstance(kind, type)]
    while waiting:
        info = msgspec.json.schema(waiting.pop())
        for definition in info.get("$defs", {}).values():
            found.update(definition.get("properties", {}))
    return sorted(found)


_member = st.deferred(lambda: st.dictionaries(st.sampled_from(_member_names()), _value | _member, max_size=6))
_envelope = st.fixed_dictionaries(
    {"success": st.booleans() | _scalar}, optional={"data": _member | _value, "error": _member | _value}
)


@pytest.mark.parametrize(("name", "kind"), KINDS, ids=[name for name, _ in KINDS])
def test_values_of_any_type_in_any_place(name: str, kind: Any, inputs: Counter[str]) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(_envelope, st.randoms(use_true_random=False))
    def tried(value: Any, rng: Any) -> None:
        inputs["by Hypothesis"] += 1
        decode(name, kind, answers.encoded(rng, value))

    tried()


@pytest.mark.parametrize(("name", "kind"), KINDS, ids=[name for name, _ in KINDS])
def test_bombs_and_other_things_that_are_no_answer(name: str, kind: Any, inputs: Counter[str]) -> None:
    for bomb in answers.BOMBS:
        inputs["decoders"] += 1
        decode(name, kind, bomb)


@settings(max_examples=1500, deadline=None, database=None)
@given(st.binary(max_size=200))
def test_bytes(body: bytes) -> None:
    for name, kind in KINDS[:3]:
        decode(name, kind, body)


def test_answers_as_they_should_be_but_for_something(inputs: Counter[str]) -> None:
    for seed in range(MADE):
        decode_made_answer(seed)
    inputs["decoders"] += MADE


def test_the_generators_good_answers_are_good() -> None:
    """Or the others would be refused for another reason than the one they were made for."""
    import random

    from synofs.filestation.parsing import data_of

    for name, kind in KINDS:
        for seed in range(20):
            body = answers.envelope(random.Random(seed), name, ASKED, 0)
            assert data_of("SYNO.FileStation.X", body, kind) is not None


@settings(max_examples=1500, deadline=None, database=None)
@given(
    st.integers(-(10**6), 10**6) | st.sampled_from(answers.STATUSES),
    st.dictionaries(
        st.sampled_from(["content-length", "content-type", "date", "content-range", "location"]),
        _text | st.integers().map(str) | st.datetimes().map(str),
    ),
)
def test_heads(status: int, headers: dict[str, str]) -> None:
    read_head(status, headers)


@pytest.mark.parametrize("digits", [19, 20, 4300, 4301, 60_000])
def test_numbers_of_any_length(digits: int) -> None:
    read_head(200, {"content-length": "9" * digits})
    for name, kind in KINDS:
        decode(name, kind, b'{"success":false,"error":{"code":"' + b"9" * digits + b'"}}')
        decode(name, kind, b'{"success":true,"data":{"total":"' + b"9" * digits + b'"}}')
