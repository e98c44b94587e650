"""The NAS's answers as values: lenient where builds differ, and never a crash."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synofs.filestation.parsing import (
    Listing,
    Record,
    data_of,
    decode,
    entry_of,
    is_missing,
    matched,
    rights_of,
    space_of,
)
from synofs.remote import BadAnswer, NotFound, RemoteEntry, RemoteError, Rights, Space

LIST = "SYNO.FileStation.List"

FILE = {
    "isdir": False,
    "name": "x.tar",
    "path": "/media/x.tar",
    "additional": {
        "size": 1000000,
        "time": {"atime": 1700000003, "crtime": 1700000000, "ctime": 1700000002, "mtime": 1700000001},
        "perm": {
            "acl": {"append": True, "del": False, "exec": False, "read": True, "write": True},
            "is_acl_mode": True,
            "posix": 711,
        },
        "type": "TAR",
    },
}


def listing(*records: Any, **more: Any) -> bytes:
    return json.dumps({"success": True, "data": {"files": records, "total": len(records), **more}}).encode()


def only(body: bytes) -> RemoteEntry:
    return entry_of(data_of(LIST, body, Listing).records[0])


def test_a_record_as_dsm_7_sends_it() -> None:
    assert only(listing(FILE)) == RemoteEntry(
        name="x.tar",
        is_dir=False,
        size=1000000,
        mtime_ns=1700000001 * 10**9,
        atime_ns=1700000003 * 10**9,
        ctime_ns=1700000002 * 10**9,
        rights=Rights.READ | Rights.WRITE | Rights.APPEND,
    )


def test_numbers_and_booleans_may_be_strings() -> None:
    odd = {
        "isdir": "false",
        "name": "x",
        "additional": {"size": "12", "time": {"mtime": "7"}, "perm": {"acl": {"write": "false"}}},
    }
    entry = only(listing(odd, total="1"))
    assert (entry.is_dir, entry.size, entry.mtime_ns) == (False, 12, 7 * 10**9)
    assert Rights.WRITE not in entry.rights


@pytest.mark.parametrize("additional", [None, {}, {"perm": None, "time": None, "size": None}, {"new": [1]}])
def test_what_is_missing_is_assumed_harmless(additional: Any) -> None:
    entry = only(listing({"isdir": True, "name": "x", "additional": additional}))
    assert entry == RemoteEntry("x", True, 0, 0, 0, 0, Rights.ALL)


@pytest.mark.parametrize(
    ("size", "seconds", "expected_size", "expected_ns"),
    [
        (-1, -1, 0, -(10**9)),  # a second before 1970
        (-(2**70), -(2**70), 0, -9223372036 * 10**9),
        (2**70, 2**70, 2**63 - 1, 9223372036 * 10**9),
        (1.0, 1.9, 1, 10**9),
        ("nan", "nan", 0, 0),
        (1e300, 1e300, 2**63 - 1, 9223372036 * 10**9),
    ],
)
def test_absurd_numbers_are_clamped(size: Any, seconds: Any, expected_size: int, expected_ns: int) -> None:
    entry = only(listing({"isdir": False, "name": "x", "additional": {"size": size, "time": {"mtime": seconds}}}))
    assert (entry.size, entry.mtime_ns) == (expected_size, expected_ns)
    assert entry.mtime_ns < 2**63


@pytest.mark.parametrize(
    "record",
    [
        {"isdir": False},
        {"isdir": False, "name": ""},
        {"name": "x"},
        {"isdir": [], "name": "x"},
        {"isdir": False, "name": 5},
        {"isdir": False, "name": "x", "additional": []},
        {"isdir": False, "name": "x", "additional": {"size": {}}},
        "x",
    ],
)
def test_a_record_that_makes_no_sense_is_a_bad_answer_and_not_left_out(record: Any) -> None:
    with pytest.raises(BadAnswer):
        only(listing(record))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "nothing"),
        (b"<html><body>Sign in</body></html>", "a web page"),
        (b'{"success": tru', "broken JSON"),
        (b"sorry", "no JSON"),
        (b"[]", "another shape"),
        (b'{"foo": 1}', "another shape"),
        (b"[" * 100_000, "."),
        (b'{"success": true, "data": {"files": [{"isdir": false, "name": "x", "size": NaN}]}}', "."),
        (b'{"success": true, "data": {"total": ' + b"9" * 10_000 + b"}}", "."),
    ],
)
def test_what_is_no_answer_of_a_nas_is_a_bad_answer(body: bytes, said: str) -> None:
    with pytest.raises(BadAnswer, match=said):
        data_of(LIST, body, Listing)


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_decoder(body: bytes) -> None:
    with contextlib.suppress(RemoteError):
        data_of(LIST, body, Listing)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["success", "data", "error", "files", "total", "name", "isdir", "additional", "perm"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(json_values)
def test_no_json_crashes_the_decoder(value: Any) -> None:
    try:
        for record in data_of(LIST, json.dumps(value).encode(), Listing).records:
            entry_of(record)
    except RemoteError:
        pass


def test_names_that_are_not_utf8_survive_raw() -> None:
    body = b'{"success":true,"data":{"files":[{"isdir":false,"name":"caf\xe9"}],"total":1}}'
    assert os.fsencode(only(body).name) == b"caf\xe9"


def test_names_that_are_not_utf8_survive_as_lone_surrogates() -> None:
    body = rb'{"success":true,"data":{"files":[{"isdir":false,"name":"caf\udce9"}],"total":1}}'
    assert os.fsencode(only(body).name) == b"caf\xe9"


def test_one_odd_name_does_not_cost_its_neighbours() -> None:
    body = b'{"success":true,"data":{"files":[{"isdir":false,"name":"\xff"},{"isdir":true,"name":"b"}],"total":2}}'
    assert [entry_of(r).name for r in data_of(LIST, body, Listing).records] == ["\udcff", "b"]


def test_success_alone_is_an_answer() -> None:
    assert data_of(LIST, b'{"success":true}', Listing).records == ()


def test_an_error_is_raised_with_its_path() -> None:
    with pytest.raises(NotFound) as caught:
        data_of(LIST, b'{"success":false,"error":{"code":408}}', Listing, path="/a")
    assert caught.value.path == "/a"


# ----- rights -----------------------------------------------------------------------------------------------------


def rights(**perm: Any) -> Rights:
    body = listing({"isdir": True, "name": "x", "additional": {"perm": perm}})
    return only(body).rights


ALLOWED = {"append": True, "del": True, "exec": True, "read": True, "write": True}


def test_no_perm_means_that_the_nas_decides() -> None:
    assert rights_of(None) is Rights.ALL
    assert rights() is Rights.ALL


def test_each_member_of_the_acl_is_one_right() -> None:
    for member, right in {
        "read": Rights.READ, "write": Rights.WRITE, "exec": Rights.EXECUTE, "append": Rights.APPEND,
        "del": Rights.DELETE,
    }.items():  # fmt: skip
        assert rights(acl=ALLOWED | {member: False}) == Rights.ALL & ~right


def test_a_read_only_share_restricts_the_acl() -> None:
    expected = Rights.READ | Rights.EXECUTE
    assert rights(acl=ALLOWED, share_right="RO") == expected
    assert rights(acl=ALLOWED, share_right="RW", is_share_readonly=True) == expected
    assert rights(acl=ALLOWED, share_right="RW", is_share_readonly=False) == Rights.ALL


def test_the_acl_restricts_a_writable_share() -> None:
    assert Rights.WRITE not in rights(acl=ALLOWED | {"write": False}, share_right="RW")


def test_advanced_rights_restrict_too() -> None:
    assert Rights.READ not in rights(acl=ALLOWED, adv_right={"disable_list": True})
    assert Rights.WRITE not in rights(acl=ALLOWED, adv_right={"disable_modify": True})
    assert rights(acl=ALLOWED, adv_right={"disable_download": True}) == Rights.ALL


def test_no_access_is_no_access() -> None:
    assert rights(acl=ALLOWED, share_right="NA") == Rights.NONE


# ----- getinfo and space ------------------------------------------------------------------------------------------


def test_both_ways_to_say_that_nothing_is_there() -> None:
    assert is_missing(decode(b'{"code":408,"path":"/a"}', Record))
    assert is_missing(decode(b'{"isdir":false,"name":"","path":"/a"}', Record))
    assert is_missing(decode(b'{"path":"/a"}', Record))
    assert not is_missing(decode(b'{"isdir":false,"name":"a","path":"/a","code":0}', Record))


def test_getinfo_is_matched_by_place_and_by_path() -> None:
    a, b = Record(name="a", path="/a"), Record(name="b", path="/b")
    assert matched(["/a", "/b"], [a, b]) == [a, b]
    assert matched(["/a", "/b"], [b, a]) == [a, b]
    nameless = Record()
    assert matched(["/a", "/b"], [nameless, b]) == [nameless, b]


def test_getinfo_that_leaves_a_path_out_is_a_bad_answer() -> None:
    with pytest.raises(BadAnswer) as caught:
        matched(["/a", "/b"], [Record(name="a", path="/a")])
    assert caught.value.path == "/b"


def space(**status: Any) -> Space | None:
    record = {"isdir": True, "name": "x", "additional": {"volume_status": status}}
    return space_of(data_of(LIST, listing(record), Listing).records[0])


def test_space_is_what_the_volume_says_within_reason() -> None:
    assert space(freespace=5, totalspace="10") == Space(10, 5)
    assert space(freespace=50, totalspace=10) == Space(10, 10)
    assert space(freespace=-5, totalspace=10) == Space(10, 0)
    assert space(totalspace=10) is None
