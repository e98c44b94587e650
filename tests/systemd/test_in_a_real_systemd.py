"""What systemd makes of our units, seen from inside a machine that it runs."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator

import pytest

from tests.systemd.conftest import PASSWORD, Nas
from tests.systemd.container import Container, until

pytestmark = [pytest.mark.mount, pytest.mark.timeout(900)]

SERVICE = "synofs@nas.service"
MOUNT = r"mnt-on\x20demand.mount"
AUTOMOUNT = r"mnt-on\x20demand.automount"
FOLDER = "/mnt/on demand"
RESTART_SECONDS = 25.0  # RestartSec=10, and the start of Python
SHORT_SECONDS = {"WatchdogSec": 2, "TimeoutAbortSec": 1, "RestartSec": 1}  # test_units.py has what the units say
WAITER = "waiter.service"
# The command, but it tells the kernel of names even while their folder is locked, and so may get stuck in there.
CARELESS = """
from synofs.cli.main import main
from synofs.fuse.invalidation import KernelNotifier

KernelNotifier.mind = lambda notifier, calls: None
main()
"""


def shown(machine: Container, unit: str, name: str) -> str:
    return machine.run("systemctl", "show", "--value", "-p", name, unit).strip()


def is_active(machine: Container, unit: str) -> bool:
    return machine.run("systemctl", "is-active", unit, check=False).strip() == "active"


def letter(machine: Container, folder: str = "/mnt/nas/docs", **more: str) -> str:
    return machine.run("cat", f"{folder}/letter.txt", check=False, **more)


def daemons(machine: Container) -> str:
    """The processes behind mounts that mount(8) has made."""
    processes = machine.run("ps", "axww", "-o", "args").splitlines()
    return "\n".join(line for line in processes if "synofs.app.daemon" in line or "mount_guard" in line)


def fstypes(machine: Container, folder: str) -> list[str]:
    """What is mounted there, the topmost last. The folder is not touched: that would keep it from going idle."""
    lines = [line.split(" - ") for line in machine.run("cat", "/proc/1/mountinfo").splitlines()]
    escaped = folder.replace(" ", r"\040")
    return [right.split(" ")[0] for left, right in lines if left.split(" ")[4] == escaped]


@pytest.fixture
def service(machine: Container) -> str:
    """synofs@nas.service, running."""
    machine.run("synofs", "units", "nas", "--enable")
    machine.run("systemctl", "reset-failed", SERVICE, check=False)
    machine.run("systemctl", "start", SERVICE)
    return SERVICE


@pytest.fixture
def automount(machine: Container) -> str:
    """An automount with an idle time-out of 2 s, waiting."""
    machine.run("synofs", "units", "demand", "--automount", "--idle-timeout", "2", "--enable")
    assert shown(machine, AUTOMOUNT, "SubState") in ("waiting", "running")
    return AUTOMOUNT


# ----- the service ----------------------------------------------------------------------------------------------


def test_the_service_mounts_for_everybody_and_says_how_it_is(machine: Container, service: str) -> None:
    assert letter(machine) == letter(machine, user="anna") == "Dear NAS,\n"
    assert shown(machine, service, "StatusText") == "online, 0 uploads pending"
    processes = machine.run("ps", "axwwe", "-o", "args")
    assert "synofs mount nas" in processes
    assert PASSWORD not in processes


def test_mount_findmnt_df_and_systemd_see_a_network_filesystem(machine: Container, nas: Nas, service: str) -> None:
    assert machine.run("findmnt", "-n", "-o", "FSTYPE,SOURCE", "/mnt/nas").split() == ["fuse.synofs", nas.url]
    assert machine.run("mount", "-t", "fuse.synofs").startswith(f"{nas.url} on /mnt/nas type fuse.synofs (rw,nosuid,")
    assert "_netdev" in machine.run("mount", "-t", "fuse.synofs", "-O", "_netdev")
    assert machine.run("df", "--output=source,fstype,target", "/mnt/nas").split()[-3:] == [
        nas.url,
        "fuse.synofs",
        "/mnt/nas",
    ]
    assert nas.url not in machine.run("df", "-l", check=False)
    until("systemd has read it", lambda: "_netdev" in shown(machine, "mnt-nas.mount", "Options"))
    assert "remote-fs-pre.target" in shown(machine, "mnt-nas.mount", "After")


def test_a_killed_daemon_comes_back(machine: Container, service: str) -> None:
    before = shown(machine, service, "MainPID")
    machine.run("kill", "-KILL", before)
    assert re.search("not connected|connection abort", letter(machine)), (
        "an empty folder would look as if all files had been deleted"
    )
    until("another daemon", lambda: shown(machine, service, "MainPID") not in (before, "0"), RESTART_SECONDS)
    until("it serves", lambda: is_active(machine, service))
    assert letter(machine) == "Dear NAS,\n"
    assert fstypes(machine, "/mnt/nas") == ["fuse.synofs"], "the dead mount is still below"


def test_clearing_never_takes_away_a_living_mount(machine: Container, service: str) -> None:
    machine.run("synofs", "umount", "nas", "--dead")
    assert letter(machine) == "Dear NAS,\n"
    assert is_active(machine, service)


def test_a_daemon_that_hangs_is_replaced(machine: Container, service: str) -> None:
    """With shorter times than the unit has; SIGSTOP is the purest of hangs."""
    with set_otherwise(machine, service, **SHORT_SECONDS):
        before = shown(machine, service, "MainPID")
        machine.run("kill", "-STOP", before)
        until("another daemon", lambda: shown(machine, service, "MainPID") not in (before, "0"), RESTART_SECONDS)
        until("it serves", lambda: is_active(machine, service), RESTART_SECONDS)
        assert letter(machine) == "Dear NAS,\n"
        assert "Watchdog timeout" in machine.run("journalctl", "-u", service, "--no-pager")
        again = shown(machine, service, "MainPID")
        # Longer than WatchdogSec: it answers, so it is left alone.
        until("time enough has passed", lambda: float(age(machine, again)) > 5)
        assert shown(machine, service, "MainPID") == again


@contextlib.contextmanager
def set_otherwise(machine: Container, service: str, **settings: object) -> Iterator[None]:
    """Run a service with other settings than its unit has."""
    lines = "\n".join(f"{name}={value}" for name, value in settings.items())
    machine.write(f"/etc/systemd/system/{service}.d/otherwise.conf", f"[Service]\n{lines}\n")
    try:
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "restart", service)
        yield
    finally:
        machine.run("rm", "-r", f"/etc/systemd/system/{service}.d")
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "restart", service)


def age(machine: Container, pid: str) -> str:
    return machine.run("ps", "-o", "etimes=", "-p", pid).strip()


def test_when_all_of_a_unit_is_killed_while_a_thread_is_stuck_in_the_kernel_waits_end_and_the_mount_comes_back(
    machine: Container, nas: Nas, service: str
) -> None:
    """Nobody is left who could tell the kernel, and systemd hears of no end: only its watchdog finds out."""
    (nas.folder / "held").mkdir()
    machine.write("/opt/careless.py", CARELESS)
    careless = "\nExecStart=/opt/synofs/bin/python /opt/careless.py mount nas --foreground -o _netdev --dir-ttl 1"
    with set_otherwise(machine, service, **SHORT_SECONDS, TimeoutStopSec=5, ExecStart=careless):
        before = shown(machine, service, "MainPID")
        for _ in range(2):  # who comes back to a folder has it polled
            machine.run("ls", "/mnt/nas/docs/held")
        nas.ask("faults", {"kind": "hang", "method": "create"})
        machine.run("systemd-run", f"--unit={WAITER}", "--property=Type=exec", "mkdir", "/mnt/nas/docs/held/ours")
        try:
            (nas.folder / "held" / "theirs").touch()
            stacks = ("sh", "-c", f"cat /proc/{before}/task/*/stack")
            until("a thread waits for the folder", lambda: "fuse_reverse_inval_entry" in machine.run(*stacks))
            # Signals come one after the other: it might be quicker than its own.
            machine.run("kill", "-STOP", machine.run("pgrep", "-P", before, "-x", "synofs-guard").strip())
            # systemd may say EIO when it comes to the others: the main process is half gone by then.
            machine.run("systemctl", "kill", "-s", "KILL", service, check=False)
            killed_at = time.time()
            assert shown(machine, WAITER, "SubState") == "running", "it has not hung"
            until("the program gets an error", lambda: shown(machine, WAITER, "SubState") == "failed", RESTART_SECONDS)
            assert time.time() - killed_at < 2 + 1 + 5 + 10, "those of the unit, and the clearing"
            assert re.search("not connected|connection abort", machine.run("journalctl", "-u", WAITER, "--no-pager"))
            since = f"--since=@{int(killed_at)}"
            assert "Watchdog timeout" in machine.run("journalctl", "-u", service, since, "--no-pager")
            nas.ask("faults", method="DELETE")
            until("another daemon", lambda: shown(machine, service, "MainPID") not in (before, "0"), RESTART_SECONDS)
            until("it serves", lambda: is_active(machine, service), RESTART_SECONDS)
            assert letter(machine) == "Dear NAS,\n"
        finally:
            machine.run("synofs", "umount", "nas", "--dead")
            machine.run("systemctl", "reset-failed", WAITER, check=False)


def test_what_could_not_be_sent_before_the_stop_is_sent_after_the_next_start(
    machine: Container, nas: Nas, service: str
) -> None:
    nas.ask("faults", {"kind": "status", "status": 503, "api": "SYNO.FileStation.Upload"})
    machine.run("sh", "-c", "echo unsent > /mnt/nas/docs/unsent.txt")
    machine.run("systemctl", "stop", service, timeout=60)
    assert shown(machine, service, "ExecMainStatus") == "52", "the code for uploads that are not done"
    assert not (nas.folder / "unsent.txt").exists()
    assert fstypes(machine, "/mnt/nas") == []

    nas.ask("faults", method="DELETE")
    machine.run("systemctl", "reset-failed", service)
    machine.run("systemctl", "start", service)
    assert machine.run("cat", "/mnt/nas/docs/unsent.txt") == "unsent\n"
    until("it is on the NAS", (nas.folder / "unsent.txt").exists)
    until("all is sent", lambda: shown(machine, service, "StatusText") == "online, 0 uploads pending")
    assert (nas.folder / "unsent.txt").read_text() == "unsent\n"


def test_a_stop_waits_for_uploads(machine: Container, nas: Nas, service: str) -> None:
    nas.ask("faults", {"kind": "delay", "seconds": 1, "api": "SYNO.FileStation.Upload"})
    machine.run("sh", "-c", "echo late > /mnt/nas/docs/late.txt")
    machine.run("systemctl", "stop", service, timeout=60)
    assert shown(machine, service, "Result") == "success"
    assert (nas.folder / "late.txt").read_text() == "late\n"


def test_a_stop_may_take_as_long_as_the_mount_says(machine: Container, nas: Nas, service: str) -> None:
    """Not only as long as everything that does not answer is given."""
    with set_otherwise(machine, service, TimeoutStopSec=1):
        nas.ask("faults", {"kind": "delay", "seconds": 2.5, "api": "SYNO.FileStation.Upload"})
        machine.run("sh", "-c", "echo late > /mnt/nas/docs/later.txt")
        machine.run("systemctl", "stop", service, timeout=60)
        assert shown(machine, service, "Result") == "success"
        assert (nas.folder / "later.txt").read_text() == "late\n"
        nas.ask("faults", method="DELETE")


def test_a_refused_sign_in_is_not_tried_again(machine: Container, nas: Nas, service: str) -> None:
    """DSM would block the address of whoever keeps trying."""
    machine.run("systemctl", "stop", service)
    machine.write("/etc/credstore/synofs-nas", "wrong\n", mode=0o600)
    try:
        machine.run("systemctl", "start", service, check=False)
        assert (shown(machine, service, "ExecMainStatus"), shown(machine, service, "SubState")) == ("30", "failed")
    finally:
        machine.write("/etc/credstore/synofs-nas", PASSWORD + "\n", mode=0o600)
        machine.run("systemctl", "reset-failed", service)


# ----- the automount --------------------------------------------------------------------------------------------


def test_a_touch_mounts_and_idleness_unmounts(machine: Container, automount: str) -> None:
    until("it is unmounted", lambda: not is_active(machine, MOUNT))
    assert fstypes(machine, FOLDER) == ["autofs"]
    assert letter(machine, FOLDER) == "Dear NAS,\n"
    assert fstypes(machine, FOLDER) == ["autofs", "fuse.synofs"]
    until("idleness unmounts it", lambda: fstypes(machine, FOLDER) == ["autofs"])
    until("its processes have ended", lambda: "synofs" not in daemons(machine))
    assert fstypes(machine, FOLDER) == ["autofs"], "and have not mounted it again by looking"
    assert is_active(machine, automount)
    assert letter(machine, FOLDER) == "Dear NAS,\n", "it mounts again"


def test_an_automounted_daemon_that_was_killed_comes_back_at_the_next_touch(machine: Container, automount: str) -> None:
    assert letter(machine, FOLDER) == "Dear NAS,\n"
    status = machine.run("synofs", "status", FOLDER, "--json")
    found = re.search(r'"pid": (\d+)', status)
    assert found is not None
    machine.run("kill", "-KILL", found[1])
    until("the dead mount is cleared", lambda: "fuse.synofs" not in fstypes(machine, FOLDER))
    assert letter(machine, FOLDER) == "Dear NAS,\n"


@pytest.fixture
def helpers(machine: Container) -> None:
    """What README.md tells to do once for fstab."""
    machine.run("sh", "-c", "for name in mount umount; do ln -sf /usr/local/bin/$name.synofs /sbin/; done")


# ----- fstab ----------------------------------------------------------------------------------------------------


def test_an_fstab_line_mounts_and_a_second_mount_all_is_no_failure(machine: Container, nas: Nas, helpers: None) -> None:
    line = f"{nas.url} /mnt/fstab synofs ro,noexec,_netdev,nofail,noauto,x-gvfs-hide,insecure-http,username=anna"
    machine.write("/etc/fstab", f"{line},password-file=/etc/synofs/demand.password,share=docs 0 0\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("mount", "/mnt/fstab")
    try:
        assert letter(machine, "/mnt/fstab") == "Dear NAS,\n"
        options = machine.run("findmnt", "-n", "-o", "OPTIONS", "/mnt/fstab").strip().split(",")
        assert {"ro", "noexec", "nosuid", "nodev"} <= set(options)
        assert "is mounted on /mnt/fstab already" in machine.run("mount", "-t", "synofs", *same(nas))
    finally:
        machine.run("umount", "/mnt/fstab")
    assert fstypes(machine, "/mnt/fstab") == []
    until("its daemon has ended", lambda: "synofs" not in daemons(machine))


def test_the_line_that_the_manual_recommends_is_an_automount(machine: Container, nas: Nas, helpers: None) -> None:
    options = "noauto,nofail,_netdev,x-systemd.automount,x-systemd.idle-timeout=2"
    machine.write("/etc/fstab", f"demand /mnt/fstab synofs {options} 0 0\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "mnt-fstab.automount")
    try:
        assert fstypes(machine, "/mnt/fstab") == ["autofs"]
        assert letter(machine, "/mnt/fstab") == "Dear NAS,\n"
        assert fstypes(machine, "/mnt/fstab") == ["autofs", "fuse.synofs"]
        assert "remote-fs-pre.target" in shown(machine, "mnt-fstab.mount", "After"), "it is taken for local"
        until("idleness unmounts it", lambda: fstypes(machine, "/mnt/fstab") == ["autofs"])
    finally:
        machine.run("systemctl", "stop", "mnt-fstab.automount")
        machine.write("/etc/fstab", "")
        machine.run("systemctl", "daemon-reload")


def same(nas: Nas) -> list[str]:
    options = "insecure-http,username=anna,password-file=/etc/synofs/demand.password,share=docs"
    return [nas.url, "/mnt/fstab", "-o", options]


def test_an_ordinary_user_mounts_and_unmounts_what_fstab_leaves_to_users(
    machine: Container, nas: Nas, helpers: None
) -> None:
    machine.run("mkdir", "-p", "/home/anna/nas", user="anna")
    machine.run("sh", "-c", f"echo '{PASSWORD}' > /home/anna/password", user="anna")
    options = "user,noauto,_netdev,insecure-http,username=anna,password-file=/home/anna/password"
    machine.write("/etc/fstab", f"{nas.url} /home/anna/nas synofs {options} 0 0\n")
    machine.run("mount", "/home/anna/nas", user="anna")
    assert letter(machine, "/home/anna/nas/docs", user="anna") == "Dear NAS,\n"
    machine.run("umount", "/home/anna/nas", user="anna")
    assert fstypes(machine, "/home/anna/nas") == []


# ----- a user's own systemd -------------------------------------------------------------------------------------


def test_a_user_has_a_mount_of_their_own_without_root(machine: Container, nas: Nas) -> None:
    profile = f'[profiles.own]\nnas = "{nas.url}"\nuser = "anna"\ninsecure-http = true\nmountpoint = "~/own"\n'
    profile += 'password-file = "~/password"\n'
    script = f"""
        mkdir -p ~/own ~/.config/synofs && echo '{PASSWORD}' > ~/password && chmod 600 ~/password
        printf '%s' '{profile}' > ~/.config/synofs/config.toml
        export XDG_RUNTIME_DIR=/run/user/$(id -u)
        synofs units own --enable
        synofs status ~/own --json"""
    machine.run("loginctl", "enable-linger", "anna")
    manager = f"user@{machine.run('id', '-u', 'anna').strip()}.service"
    until("anna's systemd is there", lambda: is_active(machine, manager))
    assert "enabled and started synofs@own.service" in machine.run("sh", "-ec", script, user="anna")
    assert letter(machine, "/home/anna/own/docs", user="anna") == "Dear NAS,\n"
    machine.run("loginctl", "disable-linger", "anna")
    until("it ends with the user's systemd", lambda: fstypes(machine, "/home/anna/own") == [])
    until("and in order", lambda: not is_active(machine, manager))
    assert "Failed with result" not in machine.run("journalctl", "--no-pager", f"_SYSTEMD_UNIT={manager}")


# ----- checks ---------------------------------------------------------------------------------------------------


def test_systemd_has_nothing_to_say_against_the_units(machine: Container, service: str, automount: str) -> None:
    assert machine.run("systemd-analyze", "verify", service, automount, MOUNT) == ""
    found = re.search(r"exposure level for .*: ([0-9.]+)", machine.run("systemd-analyze", "security", service))
    assert found is not None
    assert float(found[1]) <= 4.0


# ----- the whole machine ----------------------------------------------------------------------------------------


def test_after_a_reboot_everything_is_back(machine: Container, service: str, automount: str) -> None:
    machine.reboot()
    assert letter(machine) == "Dear NAS,\n"
    assert is_active(machine, service)
    assert fstypes(machine, FOLDER) == ["autofs"], "nobody has looked yet"
    assert letter(machine, FOLDER) == "Dear NAS,\n"


def boot_seconds(machine: Container) -> float:
    names = ("UserspaceTimestampMonotonic", "FinishTimestampMonotonic")
    started, finished = (int(machine.run("systemctl", "show", "--value", "-p", name)) for name in names)
    assert finished, "the boot has not come to an end"
    return (finished - started) / 1e6


def test_a_nas_that_is_off_holds_up_no_boot_and_is_mounted_when_it_comes(
    machine: Container, nas: Nas, service: str, automount: str
) -> None:
    machine.run("systemctl", "stop", service)
    machine.run("rm", "-r", "/var/cache/synofs")  # a NAS that was never seen before
    nas.switch_off()
    machine.reboot()
    assert is_active(machine, "multi-user.target")
    assert "No jobs" in machine.run("systemctl", "list-jobs")
    assert boot_seconds(machine) < 10
    assert shown(machine, service, "ActiveState") == "activating", "it is tried again"
    assert "letter.txt" in machine.run("ls", FOLDER), "what was seen before can be looked at"
    nas.switch_on()
    until("it is mounted", lambda: is_active(machine, service), RESTART_SECONDS)
    assert letter(machine) == "Dear NAS,\n"
    until("this one, too, has noticed", lambda: letter(machine, FOLDER) == "Dear NAS,\n")
