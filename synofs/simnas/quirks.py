"""What differs between DSM builds, as named switches.

The evidence about DSM is uneven: builds answer the same call differently, and for some questions nobody has
published an answer. Each such point is one switch with its known variants. The first variant is the default, a
DSM 7.2 box as far as it is known. A client must work with every variant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace


def _quirk(*variants: str, about: str) -> str:
    return field(default=variants[0], metadata={"variants": variants, "about": about})


@dataclass(frozen=True)
class Quirks:
    """The chosen variant of every switch. On the command line `missing_download` is `missing-download`."""

    # parameters and replies
    raw_taskid: str = _quirk(
        "sometimes", "never", "always", about="an unquoted taskid is found (sometimes: 40 %% of the ids)"
    )
    raw_brackets: str = _quirk(
        "broken", "literal", about='an unquoted path that contains [ ] or ": code 400, or taken as it is'
    )
    raw_createfolder: str = _quirk(
        "accepted", "400", "ignored", about="unquoted strings in CreateFolder (7.3.2: error or silent no-op)"
    )
    plus_in_query: str = _quirk("literal", "space", about="a + in the query string")
    numbers: str = _quirk("number", "string", about="numbers in data, or the same as quoted strings")
    gzip: str = _quirk("on", "off", about="JSON is compressed when the client offers it")
    names_not_utf8: str = _quirk(
        "raw",
        "escape",
        "replace",
        "hide",
        about="names on disk that are not UTF-8: their bytes inside the JSON, \\udcXX escapes, "
        "U+FFFD, or not listed (no evidence for any)",
    )

    # sessions
    dead_sid: str = _quirk("119", "106", "107", "105", about="answer to a session that has ended")
    missing_token: str = _quirk(
        "119", "105", "103", about="SynoToken asked for at login, then missing (Download: always 119)"
    )
    token_method: str = _quirk("same", "rotate", about="Auth.token returns the old SynoToken, or a new one")
    session_name: str = _quirk(
        "strict", "lenient", about="accounts without admin rights need session=FileStation (else 119)"
    )
    duplicate_login: str = _quirk(
        "coexist", "107", about="a second login of the same account and session name ends the first"
    )
    device_id: str = _quirk("token", "empty", "absent", about="device_id in the reply to a v7 login")
    trust_device: str = _quirk(
        "works", "ignored", about="TrustDevice.delete: the token is worth nothing any more, or as before (undocumented)"
    )
    otp_reuse: str = _quirk("allowed", "refused", about="the same OTP code twice within its time step")
    source_ip: str = _quirk("150", "ignored", about="a call from another address than the login's")
    denied_application: str = _quirk(
        "login", "call", about="an account without File Station: 402 at login, or 105 at each call"
    )

    compound: str = _quirk(
        "works",
        "not-for-files",
        "absent",
        about="SYNO.Entry.Request takes File Station's methods (undocumented), or answers 103, or is not there",
    )

    # listing
    missing_getinfo: str = _quirk(
        "code", "stub", about="getinfo of a missing path: {code, path}, or a record without a name (7.3)"
    )
    recycle_access: str = _quirk("admins", "everyone", about="who may enter #recycle (others: 407)")

    # transfer
    range_requests: str = _quirk("honoured", "ignored", about="Range on a GET Download")
    missing_download: str = _quirk(
        "502", "404", "408", "407", about="Download of a missing path: HTTP status + HTML, or JSON code"
    )
    download_gzip: str = _quirk("off", "on", about="whole downloads are compressed when the client offers it")
    overwrite_absent: str = _quirk("414", "1805", about="Upload onto an existing file without `overwrite`")
    chunked_upload: str = _quirk("accepted", "1800", about="Upload without Content-Length (1800: DSM 5.2)")
    slices: str = _quirk(
        "appended",
        "one-size",
        "unknown",
        about="a file in slices: put together; refused if the announced size changes; each slice taken for a file",
    )
    upload_replaces: str = _quirk(
        "atomically",
        "in-place",
        about="an overwriting Upload replaces the file at its end, or truncates it at once and grows it",
    )
    aborted_upload: str = _quirk(
        "nothing", "short-file", about="what an Upload leaves whose connection broke: nothing, or a short file"
    )

    # changes and tasks
    existing_folder: str = _quirk("414", "success", about="CreateFolder on an existing folder")
    forbidden_characters: str = _quirk(
        "not-uploaded",
        "refused",
        "allowed",
        about='new names with \\ : * ? " < > | are refused but in Upload, always, or never (a slash: always)',
    )
    illegal_name: str = _quirk("418", "408", about="nested code for a name with forbidden characters")
    not_empty: str = _quirk(
        "401", "414", "421", about="nested code of Delete with recursive=false on a folder with entries"
    )
    copymove_failure: str = _quirk(
        "status",
        "error",
        "599",
        about='a failed CopyMove: status:"FAIL" + errors, an error object in data, or 599 after 2 s',
    )
    tiny_tasks: str = _quirk(
        "sometimes", "never", "always", about="a task that ends at once is gone before its first status"
    )
    late_tasks: str = _quirk("no", "yes", about="the first status of a task comes before it is registered: 599")
    search_pattern: str = _quirk("space", "comma", about="what separates the patterns of a Search")
    search_limit_0: str = _quirk("nothing", "all", about="Search.list with limit=0")
    lazy_thumbs: str = _quirk("yes", "no", about="the first Thumb.get of a file answers 404")

    def with_settings(self, settings: Iterable[str]) -> Quirks:
        """A copy with `name=variant` settings applied; ValueError says what is wrong with one."""
        chosen: dict[str, str] = {}
        for setting in settings:
            name, _, variant = setting.partition("=")
            known = _SWITCHES.get(name.replace("-", "_"))
            if known is None:
                raise ValueError(f"no quirk is called {name!r}; --help lists them")
            if variant not in known:
                raise ValueError(f"quirk {name} is one of {', '.join(known)}, not {variant!r}")
            chosen[name.replace("-", "_")] = variant
        return replace(self, **chosen)


_SWITCHES: dict[str, tuple[str, ...]] = {f.name: f.metadata["variants"] for f in fields(Quirks)}


def describe() -> Iterator[str]:
    """One line per switch, for --help."""
    for f in fields(Quirks):
        yield f"{f.name.replace('_', '-')}={'|'.join(f.metadata['variants'])}"
        yield f"    {f.metadata['about'].replace('%%', '%')}"
