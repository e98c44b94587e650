from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synofs.fs.names import NAME_MAX_BYTES, kernel_name, printable, remote_name
from tests.trees import NOT_UTF8_NAMES, ODD_NAMES

# What Linux takes as a name in a folder: 1 to 255 bytes without a slash or a NUL, and not `.` or `..`.
linux_names = (
    st.binary(min_size=1, max_size=NAME_MAX_BYTES)
    .map(lambda raw: raw.replace(b"/", b"_").replace(b"\0", b"_"))
    .filter(lambda raw: raw not in (b".", b".."))
)


@given(linux_names)
def test_every_name_that_linux_takes_comes_back_byte_for_byte(name: bytes) -> None:
    assert kernel_name(remote_name(name)) == name


@pytest.mark.parametrize("name", ODD_NAMES + NOT_UTF8_NAMES)
def test_odd_names_come_back_byte_for_byte(name: bytes) -> None:
    assert kernel_name(remote_name(name)) == name


# Text from a broken or malicious server: any code points, surrogates of all kinds among them.
any_text = st.text(st.characters(codec=None), max_size=300) | st.text("./\0é\udc80\ud800a", max_size=4)


@given(any_text)
def test_whatever_the_nas_sends_the_kernel_gets_a_possible_name_or_none(text: str) -> None:
    name = kernel_name(text)
    if name is not None:
        assert 1 <= len(name) <= NAME_MAX_BYTES
        assert b"/" not in name
        assert b"\0" not in name
        assert name not in (b".", b"..")
        assert remote_name(name).encode("utf-8", "surrogateescape") == name


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "/", "a/b", "../../etc/passwd", "/etc", "nul\0l", "x" * 256, "ü" * 128, "\ud800", "a\udfff"],
)
def test_hostile_names_never_pass(text: str) -> None:
    assert kernel_name(text) is None


@pytest.mark.parametrize("text", ["x" * 255, "ü" * 127, "...", "..a", ". ", "\n", "\x7f", "-rf", "\udcff"])
def test_merely_odd_names_do_pass(text: str) -> None:
    assert kernel_name(text) == text.encode("utf-8", "surrogateescape")


def test_twins_in_two_unicode_forms_stay_two_names() -> None:
    assert kernel_name("\u00e9") != kernel_name("e\u0301")


@given(any_text)
def test_no_name_can_forge_a_log_line(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()  # no surrogates that a terminal or a log file could choke on


def test_a_printable_path_is_shown_as_it_is() -> None:
    assert printable("/Fotos/Ångström 日本.jpg") == "/Fotos/Ångström 日本.jpg"
