"""Every way a command can fail: one table of exit code, what is wrong, and what to do about it.

A failure is shown as one line on stderr, `synofs: WHAT IS WRONG: WHAT TO DO`. The codes are part of the interface
(docs/TROUBLESHOOTING.md lists them); a code, once given, keeps its meaning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum

from synofs import remote
from synofs.fs.names import printable


class Problem(Enum):
    """Exit code, what is wrong, what to do. The names in braces are the facts of a `Failure`."""

    INTERNAL = 1, "something nobody foresaw went wrong ({detail})", "please report it, with the log: {log}"
    WRONG_OPTION = 2, "{detail}", "see: synofs {command} --help"

    BAD_PROFILE = 3, "{file}: {detail}", "correct the file; docs/MOUNTING.md lists the keys"
    NO_PROFILE = (
        4,
        "there is no profile {name}",
        "add [profiles.{name}] to {file}, or name a NAS and a folder",
    )
    NO_MOUNTPOINT = (
        5,
        "neither the command nor the profile {name} names a folder to mount on",
        'add mountpoint = "/a/folder" to [profiles.{name}], or name a folder after {name}',
    )

    # This machine
    FUSE_FORBIDDEN = 9, "you may not open /dev/fuse, so you cannot mount", "have root run: chmod 666 /dev/fuse"
    MOUNTPOINT_MISSING = 10, "there is no folder {mountpoint}", "make it with: mkdir -p {mountpoint}"
    MOUNTPOINT_NO_FOLDER = 11, "{mountpoint} is not a folder", "name an empty folder to mount on"
    MOUNTPOINT_NOT_EMPTY = 12, "{mountpoint} is not empty", "name an empty folder, so that the mount hides nothing"
    ALREADY_MOUNTED = 13, "{mountpoint} is mounted already", "unmount it first with: synofs umount {mountpoint}"
    NO_FUSE = (
        14,
        "/dev/fuse is missing, so nothing can be mounted",
        "try 'modprobe fuse' as root; start a container with --device /dev/fuse --cap-add SYS_ADMIN",
    )
    NO_FUSERMOUNT = 15, "the program fusermount3 is missing", "install it with: sudo apt install fuse3"
    ALLOW_OTHER_FORBIDDEN = (
        16,
        "--allow-other is not permitted to ordinary users on this machine",
        "have root add the line user_allow_other to /etc/fuse.conf",
    )
    MOUNTPOINT_FORBIDDEN = 17, "you may not mount on {mountpoint} ({detail})", "name an empty folder of your own"
    MOUNT_REFUSED = 18, "the kernel did not take the mount ({detail})", "the reason is in its log: {log}"

    CACHE_IN_USE = (
        19,
        "another mount of {nas} holds the folder for unsent files",
        "unmount that one first (after --force it takes some seconds to end), or give this one its own --cache-dir",
    )
    CACHE_REFUSED = 28, "the folder for unsent files cannot be used ({detail})", "name another one with --cache-dir"

    # The way to the NAS
    UNREACHABLE = 20, "cannot reach {nas} ({detail})", "check that it is on, its address, and the port (DSM: 5001)"
    TIMED_OUT = 21, "{nas} did not answer in time", "check its address and the network; is it still starting?"
    NOT_A_NAS = (
        22,
        "{nas} does not answer like a Synology NAS ({detail})",
        "check address and port (DSM: https on 5001), and that File Station is installed",
    )
    CERTIFICATE_REFUSED = (
        23,
        "the certificate of {nas} is not trusted ({detail})",
        "compare it with the one in DSM (Control Panel > Security > Certificate), then add --fingerprint {fingerprint}",
    )
    INSECURE_HTTP = (
        24,
        "over http the password and all files would travel unencrypted",
        "use https://{host}:5001, or add --insecure-http if you must",
    )
    OVERLOADED = 25, "{nas} is too busy to answer", "try again in a minute"
    REFUSED_BY_NAS = 26, "{nas} refused: {detail}", "look at the messages of DSM's Log Center"
    NO_SHARE = 27, "{user} sees no share {share} on {nas}", "check its name, and the account's rights in DSM"

    NO_MULTICAST = 29, "cannot listen on the local network ({detail})", "check that this machine is connected to one"

    # Signing in
    WRONG_PASSWORD = 30, "{nas} knows no {user} with this password", "check both; too many tries get you blocked"
    OTP_NEEDED = 31, "{user} has two-factor sign-in", "run: synofs login {nas} (once), or add --otp CODE"
    WRONG_OTP = 32, "the one-time code was not accepted", "try the next code; is this machine's clock right?"
    OTP_SETUP_NEEDED = 33, "{nas} demands two-factor sign-in of {user}", "set it up in DSM's web desktop first"
    ACCOUNT_DISABLED = 34, "the account {user} is disabled or locked", "ask who looks after {nas}"
    SIGN_IN_NOT_ALLOWED = (
        35,
        "{user} may not use File Station on {nas}",
        "allow it in DSM (Control Panel > User & Group > Applications)",
    )
    ADDRESS_BLOCKED = (
        36,
        "{nas} has blocked this machine's address after too many failed sign-ins",
        "remove it from the block list in DSM (Control Panel > Security > Protection), or wait",
    )
    PASSWORD_EXPIRED = 37, "the password of {user} has expired", "change it in DSM's web desktop first"
    NO_PASSWORD = (
        38,
        "there is no password for {user} on {nas}",
        "run: synofs login {nas} (once), or add --password-file FILE",
    )
    SIGN_IN_REFUSED = 39, "{nas} refused to sign {user} in ({detail})", "look at DSM's Log Center"
    NO_USER = 40, "no account is named", "add --user NAME, or run: synofs login {nas} (once)"
    NO_SAVED_SIGN_IN = 41, "nothing is saved for {nas}", "write it as at login; root has sign-ins of its own"

    KEYRING_CLOSED = (
        42,
        "the sign-in for {nas} is in the keyring, and cannot be had from there ({detail})",
        "unlock the keyring (signing in to the desktop does), or run: synofs login {nas} --keep-in file",
    )
    STILL_TRUSTED = (
        44,
        "the sign-in is forgotten here, but {nas} may still trust this device ({detail})",
        "remove it in DSM's web desktop (Personal > Security > 2-factor authentication > Trusted devices)",
    )
    NO_KEYRING = 43, "cannot save it in the keyring ({detail})", "leave out --keep-in, or say --keep-in file"

    # A mount that is there, or should be
    NOT_MOUNTED = 50, "{mountpoint} is not a synofs mount", "synofs status lists those that are"
    DAEMON_GONE = 51, "the process behind {mountpoint} is gone", "clear it with: synofs umount {mountpoint}"
    UPLOADS_PENDING = (
        52,
        "not everything is on the NAS yet ({pending} to go)",
        "wait longer with --timeout; watch them with: synofs status --watch",
    )
    UPLOADS_FAILED = 53, "{failed} uploads failed", "synofs status says which and why"
    MOUNT_BUSY = 54, "{mountpoint} is in use", "close what uses it (fuser -vm {mountpoint}), or add --force"
    UNMOUNT_REFUSED = 55, "{mountpoint} could not be unmounted ({detail})", "try again with --force"
    NOT_YOURS = 56, "the mount {mountpoint} belongs to another user", "run this as that user, or as root"
    NO_ANSWER = 57, "the process behind {mountpoint} does not answer", "unmount it with: synofs umount --force"
    NOT_UNDERSTOOD = (
        58,
        "the process behind {mountpoint} does not understand this command ({detail})",
        "if synofs was updated since it was mounted, unmount and mount it again",
    )

    CHECKS_FAILED = 60, "failed checks: {failed}", "the fixes stand beside them"
    DEMO_FAILED = 61, "the demo failed: {detail}", "run it again; please report it if that does not help"
    UNITS_REFUSED = 62, "systemd refuses: {detail}", "systemctl status and journalctl -xe may tell more"
    UNITS_NOT_WRITTEN = 63, "{folder} cannot be written to ({detail})", "run it as its owner, or print with --print"
    NO_SYSTEMD = 64, "the program {program} is missing", "this needs systemd; without it, use /etc/fstab"
    NO_PROGRAM = 65, "the program {name} is missing", "install synofs again"
    NEEDS_ROOT = 66, "this is for root", "run it with sudo; to see what it would do: synofs {command} --print"
    NO_EXTRA = 67, "this needs more than was installed", "install it as synofs[{extra}], with pipx or pip"

    # What the NAS was asked to do with files
    NOT_INSIDE = 70, "{path} is not inside a synofs mount", "synofs status lists what is mounted"
    MISSING = 71, "{path}: {detail}", "check the name; synofs refresh shows what is new on the NAS"
    EXISTS = 72, "{path}: something is there already", "choose another name, or see --help for how to replace it"
    FORBIDDEN = (
        73,
        "{path}: {user} may not do that ({detail})",
        "have its rights extended in DSM",
    )
    NO_ROOM = 74, "{path}: there is no room on the NAS ({detail})", "free some space, or have the quota raised in DSM"
    ARCHIVE_PASSWORD = (
        75,
        "{path}: the password of the archive is missing or wrong",
        "add --password to be asked for it, or --password-file FILE",
    )
    OTHER_MOUNT = 76, "{path} and {other} are in different mounts", "use plain cp or mv between mounts"
    NOT_SENT = 77, "{path}: what was written here is not on the NAS yet ({detail})", "synofs status tells why"
    OPEN_FOR_WRITING = 78, "{path} is open for writing here", "close it first"
    READ_ONLY_MOUNT = 79, "{mountpoint} is mounted read-only", "mount it without --read-only"
    NO_RECYCLE_BIN = 80, "{path}: the share has no recycle bin", "turn it on in DSM (Control Panel > Shared Folder)"
    CHECKSUMS_DIFFER = 81, "files that are not as they should be: {failed} of {checked}", "they are named above"
    NO_THUMBNAIL = 82, "{path}: the NAS has no thumbnail of it", "it makes them of images and videos, after a while"
    NO_LINK = 83, "there is no sharing link {link}", "synofs share list shows them"
    NOT_POSSIBLE = 84, "{path}: {detail}", "see: synofs {command} --help"
    NOT_CONFIRMED = 85, "this would remove files for good", "add --yes"

    FAVOURITE_THERE = (
        86,
        "{path}, or its name, is among the favourites already",
        "synofs fav list shows them; --name gives it another name",
    )
    NOT_LISTED = 87, "{path}: {detail}", "those that are there: synofs {command} list"

    INTERRUPTED = 130, "interrupted", "this command has stopped what it was doing; uploads go on"

    @property
    def exit_code(self) -> int:
        return self.value[0]

    @property
    def says(self) -> str:
        return self.value[1]

    @property
    def remedy(self) -> str:
        return self.value[2]


class _Facts(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "?"  # a message with a hole is better than a second failure


class Failure(Exception):
    """A command failed in a way that the table knows. `facts` fill its texts; they never hold a secret. One of the
    name `instead` takes the remedy's place, where the table's would lead back to where the caller is."""

    def __init__(self, problem: Problem, **facts: object) -> None:
        self.problem = problem
        self.facts = {name: str(value) for name, value in facts.items()}
        super().__init__(self.line)

    @property
    def exit_code(self) -> int:
        return self.problem.exit_code

    @property
    def line(self) -> str:
        """One line, whatever the facts contain."""
        text = f"{self.problem.says}: {self.facts.get('instead') or self.problem.remedy}".format_map(_Facts(self.facts))
        return printable(" ".join(text.split()))

    def with_facts(self, **facts: object) -> Failure:
        """The same failure, completed by whoever knows more; what it already knew stays."""
        return Failure(self.problem, **{**facts, **self.facts})

    def to_json(self) -> dict[str, object]:
        return {"problem": self.problem.name, "facts": self.facts}

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Failure:
        facts = data.get("facts")
        name = str(data.get("problem"))
        problem = Problem.__members__.get(name, Problem.INTERNAL)
        return cls(problem, **(facts if isinstance(facts, dict) else {"detail": name}))


# The most specific class wins; a test walks all RemoteErrors.
OF_REMOTE_ERROR: dict[type[remote.RemoteError], Problem] = {
    remote.RemoteError: Problem.REFUSED_BY_NAS,
    remote.Unreachable: Problem.UNREACHABLE,
    remote.Away: Problem.UNREACHABLE,
    remote.Unavailable: Problem.UNREACHABLE,
    remote.TimedOut: Problem.TIMED_OUT,
    remote.Overloaded: Problem.OVERLOADED,
    remote.BadAnswer: Problem.NOT_A_NAS,
    remote.NotANas: Problem.NOT_A_NAS,
    remote.CertificateRefused: Problem.CERTIFICATE_REFUSED,
    remote.SignInRefused: Problem.SIGN_IN_REFUSED,
    remote.WrongPassword: Problem.WRONG_PASSWORD,
    remote.OtpNeeded: Problem.OTP_NEEDED,
    remote.WrongOtp: Problem.WRONG_OTP,
    remote.OtpSetupNeeded: Problem.OTP_SETUP_NEEDED,
    remote.AccountDisabled: Problem.ACCOUNT_DISABLED,
    remote.SignInNotAllowed: Problem.SIGN_IN_NOT_ALLOWED,
    remote.AddressBlocked: Problem.ADDRESS_BLOCKED,
    remote.PasswordExpired: Problem.PASSWORD_EXPIRED,
}


def problem_of(error: remote.RemoteError) -> Problem:
    for kind in type(error).__mro__:
        if kind in OF_REMOTE_ERROR:
            return OF_REMOTE_ERROR[kind]
    return Problem.REFUSED_BY_NAS


def failure_of(error: BaseException, **facts: object) -> Failure:
    """What a person is told about `error`; of a group, the first part that means something to them."""
    parts = list(_leaves(error))
    for part in parts:
        if isinstance(part, Failure):
            return part.with_facts(**facts)
    for part in parts:
        if isinstance(part, remote.RemoteError):
            if isinstance(part, remote.CertificateRefused) and part.fingerprint:
                facts["fingerprint"] = part.fingerprint
            # The texts of the table say already whose it is.
            detail = str(part).removeprefix("the NAS: ").removeprefix("the NAS's certificate: ")
            return Failure(problem_of(part), **{**facts, "detail": detail})
    for part in parts:
        if isinstance(part, KeyboardInterrupt):
            return Failure(Problem.INTERRUPTED)
    first = parts[0]
    return Failure(Problem.INTERNAL, **{**facts, "detail": f"{type(first).__name__}: {first}"})


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error
