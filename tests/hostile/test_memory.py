"""No answer takes more memory than docs/SEMANTICS.md states, whatever is in it."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest

from synofs.filestation import calls
from synofs.filestation.parsing import Compound, Listing, data_of
from synofs.filestation.transport import MAX_ANSWER_BYTES
from synofs.remote import RemoteError

MIB = 1024 * 1024


def test_every_call_states_how_much_it_takes_and_only_a_whole_folder_may_be_larger() -> None:
    assert MAX_ANSWER_BYTES == 32 * MIB
    assert calls.list_folder("/x", 0, 5000).max_answer_bytes == MAX_ANSWER_BYTES
    assert calls.list_folder("/x", 0, 0).max_answer_bytes == 64 * MIB


FILLINGS = {
    "empty records": b'{"success":true,"data":{"files":[' + b"{}," * (MAX_ANSWER_BYTES // 3) + b"{}]}}",
    "tiny records": b'{"success":true,"data":{"files":['
    + b'{"name":"ab","isdir":true},' * (MAX_ANSWER_BYTES // 27)
    + b"{}]}}",
    "numbers where nobody looks": b'{"success":true,"x":[' + b"123," * (MAX_ANSWER_BYTES // 4) + b"1]}",
    "an error of numbers": b'{"success":false,"error":[' + b"123," * (MAX_ANSWER_BYTES // 4) + b"1]}",
    "an error of objects": b'{"success":false,"error":[' + b'{"a":1},' * (MAX_ANSWER_BYTES // 8) + b"1]}",
    "one name": b'{"success":true,"data":{"files":[{"name":"' + b"x" * MAX_ANSWER_BYTES + b'","isdir":true}]}}',
    "no JSON": b"\xff" * MAX_ANSWER_BYTES,
    "odd JSON of texts": b'\xef\xbb\xbf{"success":true,"x":[' + b'"ab",' * (16 * MIB // 5 - 20) + b"1]}",
    "odd JSON of objects": b'\xef\xbb\xbf{"success":true,"x":[' + b'{"a":1},' * (16 * MIB // 8 - 20) + b"1]}",
    "errors of texts": b'{"success":true,"data":{"result":[{"success":false,"error":['
    + b'"ab",' * (MAX_ANSWER_BYTES // 5 - 20)
    + b"1]}]}}",
    "an error of a text": b'{"success":true,"data":{"result":[{"error":{"code":"' + b"1" * MAX_ANSWER_BYTES + b'"}}]}}',
    "tiny parts": b'{"success":true,"data":{"result":['
    + b'{"success":  true      },' * (MAX_ANSWER_BYTES // 25)
    + b"{}]}}",
    "brackets": b"[" * MAX_ANSWER_BYTES,
}


@pytest.mark.parametrize("kind", [Listing, Compound])
@pytest.mark.parametrize("body", FILLINGS.values(), ids=FILLINGS.keys())
def test_no_answer_unfolds_to_more_than_eight_times_the_most_that_it_may_have(
    body: bytes, kind: type[Listing | Compound]
) -> None:
    tracemalloc.start()
    try:
        with contextlib.suppress(RemoteError):
            data_of("SYNO.FileStation.List", body, kind)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * MAX_ANSWER_BYTES
