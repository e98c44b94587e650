"""The NAS's numbers, per API, as `RemoteError`s. Pure.

Numbers mean different things in different APIs: 402 is "too busy" for files and "not allowed" for a sign-in. File
operations wrap the number that tells what happened: 1100 says "CreateFolder failed", and the list below it why.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from synofs.remote import (
    AccountDisabled,
    AddressBlocked,
    BadAnswer,
    Exists,
    FileTooBig,
    InputOutput,
    InvalidName,
    InvalidRequest,
    NameTooLong,
    NoSpace,
    NotANas,
    NotFound,
    OtpNeeded,
    OtpSetupNeeded,
    Overloaded,
    PasswordExpired,
    PermissionDenied,
    QuotaExceeded,
    ReadOnlyStore,
    RemoteError,
    SignInNotAllowed,
    TimedOut,
    Unavailable,
    Unsupported,
    WrongOtp,
    WrongPassword,
)

# A session that no longer is: timed out, ended by a second sign-in, unknown, used from another address (a laptop
# that moved). Signing in once more helps. 105 may mean the same after a restart, see auth.py.
STALE_SESSION = frozenset({106, 107, 119, 150})
UNKNOWN_SESSION = 119
NO_PERMISSION = 105
NO_SUCH_TASK = 599


_NUMERAL = re.compile(r"\s*-?[0-9]{1,9}\s*")


class Meaning(NamedTuple):
    kind: type[RemoteError]
    text: str


COMMON: Mapping[int, Meaning] = {
    100: Meaning(InputOutput, "the NAS does not say what went wrong"),
    101: Meaning(InvalidRequest, "the NAS misses a parameter"),
    102: Meaning(Unsupported, "the NAS does not have this function"),
    103: Meaning(Unsupported, "the NAS does not have this function"),
    104: Meaning(Unsupported, "the NAS does not have this function in a version that is known here"),
    105: Meaning(PermissionDenied, "this account may not do that"),
    106: Meaning(Unavailable, "the session has timed out"),
    107: Meaning(Unavailable, "the session was ended by another sign-in"),
    108: Meaning(Unavailable, "the upload failed"),
    109: Meaning(Overloaded, "the network is unstable or the NAS is busy"),
    110: Meaning(Overloaded, "the network is unstable or the NAS is busy"),
    111: Meaning(Overloaded, "the network is unstable or the NAS is busy"),
    112: Meaning(InvalidRequest, "the compound request was stopped"),
    113: Meaning(InvalidRequest, "the compound request is not valid"),
    114: Meaning(InvalidRequest, "the NAS misses a parameter"),
    115: Meaning(PermissionDenied, "this account may not upload"),
    116: Meaning(PermissionDenied, "this is a demonstration site"),
    117: Meaning(Overloaded, "the network is unstable or the NAS is busy"),
    118: Meaning(Overloaded, "the network is unstable or the NAS is busy"),
    119: Meaning(Unavailable, "the NAS does not know the session"),
    120: Meaning(InvalidRequest, "the NAS does not take a parameter"),
    122: Meaning(PermissionDenied, "this account may not do that"),
    123: Meaning(PermissionDenied, "this account may not do that"),
    124: Meaning(PermissionDenied, "this account may not do that"),
    125: Meaning(TimedOut, "the NAS took too long"),
    126: Meaning(PermissionDenied, "this account may not do that"),
    127: Meaning(PermissionDenied, "this account may not do that"),
    150: Meaning(Unavailable, "the session belongs to another address"),
    160: Meaning(PermissionDenied, "this account may not use File Station"),
}

FILE: Mapping[int, Meaning] = {
    400: Meaning(InvalidRequest, "the NAS does not take a parameter"),
    401: Meaning(InputOutput, "the NAS does not say what went wrong"),
    402: Meaning(Overloaded, "the NAS is too busy"),
    403: Meaning(PermissionDenied, "this account may not do that"),
    404: Meaning(PermissionDenied, "this account's group may not do that"),
    405: Meaning(PermissionDenied, "neither this account nor its group may do that"),
    406: Meaning(InputOutput, "the NAS gets no answer from its account server"),
    407: Meaning(PermissionDenied, "not permitted"),
    408: Meaning(NotFound, "nothing is there"),
    409: Meaning(Unsupported, "the file system there does not support that"),
    410: Meaning(InputOutput, "the NAS cannot reach the remote file system there"),
    411: Meaning(ReadOnlyStore, "the file system there is read-only"),
    412: Meaning(NameTooLong, "the name is too long"),
    413: Meaning(NameTooLong, "the name is too long for an encrypted share"),
    414: Meaning(Exists, "something is there already"),
    415: Meaning(QuotaExceeded, "the quota is used up"),
    416: Meaning(NoSpace, "the volume is full"),
    417: Meaning(InputOutput, "the NAS could not read or write its disks"),
    418: Meaning(InvalidName, "the NAS does not take this name"),
    419: Meaning(InvalidName, "the NAS does not take this name"),
    420: Meaning(InvalidName, "the FAT file system there does not take this name"),
    421: Meaning(Unavailable, "the file or device is busy"),
    599: Meaning(NotFound, "the NAS does not know this task"),
    600: Meaning(InputOutput, "the search failed"),
    800: Meaning(Exists, "this path is a favourite already"),
    801: Meaning(Exists, "a favourite of this name exists already"),
    802: Meaning(QuotaExceeded, "there are too many favourites"),
    900: Meaning(InputOutput, "the NAS could not delete it"),
    1000: Meaning(InputOutput, "the NAS could not copy it"),
    1001: Meaning(InputOutput, "the NAS could not move it"),
    1002: Meaning(InputOutput, "an error at the destination"),
    1003: Meaning(Exists, "something is there already"),
    1004: Meaning(Exists, "a file and a folder have the same name"),
    1006: Meaning(InvalidName, "the FAT file system there does not take this name"),
    1007: Meaning(FileTooBig, "the FAT file system there takes no file of 4 GiB or more"),
    1100: Meaning(InputOutput, "the NAS could not make the folder"),
    1101: Meaning(NoSpace, "there are too many folders in this folder"),
    1200: Meaning(InputOutput, "the NAS could not rename it"),
    1300: Meaning(InputOutput, "the NAS could not make the archive"),
    1301: Meaning(NameTooLong, "the archive's name is too long"),
    1400: Meaning(InputOutput, "the NAS could not unpack the archive"),
    1401: Meaning(InvalidRequest, "this is no archive"),
    1402: Meaning(InputOutput, "the archive could not be read"),
    1403: Meaning(PermissionDenied, "the archive's password is wrong"),
    1404: Meaning(InputOutput, "the archive could not be listed"),
    1405: Meaning(NotFound, "the archive has no such item"),
    1800: Meaning(Unavailable, "the upload did not have the announced length"),
    1801: Meaning(TimedOut, "the upload stood still for too long"),
    1802: Meaning(InvalidName, "the upload has no name"),
    1803: Meaning(Unavailable, "the upload was cancelled"),
    1804: Meaning(FileTooBig, "the FAT file system there takes no file of 4 GiB or more"),
    1805: Meaning(Exists, "something is there already"),
    2000: Meaning(NotFound, "there is no such sharing link"),
    2001: Meaning(QuotaExceeded, "there are too many sharing links"),
    2002: Meaning(PermissionDenied, "the sharing link cannot be used"),
}

AUTH: Mapping[int, Meaning] = {
    105: Meaning(SignInNotAllowed, "this account may not use File Station"),
    160: Meaning(SignInNotAllowed, "this account may not use File Station"),
    400: Meaning(WrongPassword, "there is no such account, or the password is wrong"),
    401: Meaning(AccountDisabled, "the account is disabled, or is the guest account"),
    402: Meaning(SignInNotAllowed, "this account may not use File Station, or not from here"),
    403: Meaning(OtpNeeded, "a one-time code is needed"),
    404: Meaning(WrongOtp, "the one-time code was not accepted"),
    405: Meaning(SignInNotAllowed, "this account may not sign in at this address"),
    406: Meaning(OtpSetupNeeded, "the NAS wants two-factor sign-in, and it is not set up for this account"),
    407: Meaning(AddressBlocked, "the NAS blocks this machine's address after too many failed sign-ins"),
    408: Meaning(PasswordExpired, "the password has expired, and only an administrator can change it"),
    409: Meaning(PasswordExpired, "the password has expired"),
    410: Meaning(PasswordExpired, "the password has to be changed first"),
    411: Meaning(AccountDisabled, "the account is locked"),
}


def error_for(api: str, error: Any, *, path: str | None = None) -> RemoteError:
    """The `RemoteError` for the `error` member of an answer, whatever shape it has."""
    code = _integer(_member(error, "code"))
    if code is None:
        return BadAnswer("the NAS refuses without a reason", path=path)
    if api != "SYNO.API.Auth":
        code = nested_code(error) or code
    return error_of_code(api, code, path=path)


def error_of_code(api: str, code: int, *, path: str | None = None) -> RemoteError:
    meaning = meaning_of(api, code)
    if meaning is None:
        return InputOutput(f"the NAS reports error {code}, which is not known here", path=path, code=code)
    return meaning.kind(meaning.text, path=path, code=code)


def meaning_of(api: str, code: int) -> Meaning | None:
    if api == "SYNO.API.Auth":
        return AUTH.get(code) or COMMON.get(code)
    meaning = FILE.get(code) or COMMON.get(code)
    if api == "SYNO.API.Info" and not (meaning and meaning.kind.temporary):
        return Meaning(NotANas, "the host answers, but it does not tell what it can do")
    return meaning


def nested_code(error: Any) -> int | None:
    """The first number below the error: `errors` is a list for files, and an object for sign-ins."""
    errors = _member(error, "errors")
    if isinstance(errors, Mapping):
        errors = [errors]
    if not isinstance(errors, list):
        return None
    codes = (_integer(_member(item, "code")) for item in errors)
    return next((code for code in codes if code is not None), None)


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


def _integer(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and _NUMERAL.fullmatch(value):
        return int(value)
    return None
