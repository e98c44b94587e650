"""The programs `mount.synofs` and `umount.synofs`, which mount(8) and umount(8) call."""

from __future__ import annotations

import sys
from collections.abc import Callable

from synofs.app import mount_helper
from synofs.app.errors import Failure, Problem

USAGE = """\
{0} is called by {1}(8). By hand: {2}
mount(8) looks for it in /sbin; to put it there: sudo ln -s "$(command -v {0})" /sbin/"""


def mount_main() -> None:
    _usage("mount.synofs", "mount", "synofs mount NAS FOLDER")
    sys.exit(_run("mount.synofs", lambda: mount_helper.mount(mount_helper.read_mount_call(sys.argv[1:]))))


def umount_main() -> None:
    _usage("umount.synofs", "umount", "synofs umount FOLDER")
    sys.exit(_run("umount.synofs", lambda: mount_helper.unmount_call(sys.argv[1:])))


def _usage(name: str, caller: str, instead: str) -> None:
    if len(sys.argv) == 1 or sys.argv[1] in ("-h", "--help"):
        print(USAGE.format(name, caller, instead))
        sys.exit(mount_helper.DONE if len(sys.argv) > 1 else mount_helper.WRONG_CALL)


def _run(name: str, work: Callable[[], str | None]) -> int:
    try:
        remark = work()
    except Failure as failure:
        print(f"{name}: {failure.line}", file=sys.stderr)
        return mount_helper.exit_code(failure)
    except KeyboardInterrupt:
        return mount_helper.exit_code(Failure(Problem.INTERRUPTED))
    for line in (remark or "").splitlines():
        print(f"{name}: {line}", file=sys.stderr)
    return mount_helper.DONE
