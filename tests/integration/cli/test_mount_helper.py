"""mount.synofs and umount.synofs as mount(8) and umount(8) call them."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from synofs.app.mount_helper import DONE, MOUNT_FAILED, WRONG_CALL

from .conftest import COMMAND, Nas, Synofs

pytestmark = pytest.mark.mount

MOUNT, UMOUNT = COMMAND.with_name("mount.synofs"), COMMAND.with_name("umount.synofs")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def call(*words: object, cwd: Path | None = None) -> tuple[int, str]:
    done = subprocess.run(
        list(map(str, words)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=60, cwd=cwd,
    )  # fmt: skip
    assert "Traceback" not in done.stdout, done.stdout
    return done.returncode, done.stdout


def sign_in(synofs: Synofs) -> str:
    return f"insecure-http,username=anna,password-file={synofs.password_file}"


@pytest.fixture
def helpers_in_sbin() -> Iterator[None]:
    """What `ln -s` would do; only where root has not done it already."""
    made = [Path("/sbin", program.name) for program in (MOUNT, UMOUNT) if not Path("/sbin", program.name).exists()]
    for link in made:
        link.symlink_to(COMMAND.with_name(link.name))
    yield
    for link in made:
        link.unlink()


def test_called_as_mount_calls_it(nas: Nas, synofs: Synofs) -> None:
    options = f"rw,_netdev,nofail,user,noexec,nosuid,nodev,{sign_in(synofs)}"
    assert call(MOUNT, nas.url, synofs.mountpoint, "-v", "-n", "-o", options) == (DONE, "")
    assert (synofs.mountpoint / "docs/letter.txt").read_text() == "Dear NAS,\n"
    assert os.statvfs(synofs.mountpoint).f_flag & os.ST_NOEXEC
    assert call(UMOUNT, synofs.mountpoint, "-t", "fuse.synofs") == (DONE, "")
    assert not synofs.is_mounted()


def test_read_only_by_switch_and_by_word(nas: Nas, synofs: Synofs) -> None:
    for words in (["-r", "-o", sign_in(synofs)], ["-o", f"ro,{sign_in(synofs)}"]):
        assert call(MOUNT, nas.url, synofs.mountpoint, *words) == (DONE, "")
        with pytest.raises(OSError, match="Read-only file system"):
            (synofs.mountpoint / "docs/new").touch()
        assert call(UMOUNT, synofs.mountpoint)[0] == DONE


def test_what_is_mounted_already_is_no_failure_for_mount_all(nas: Nas, synofs: Synofs) -> None:
    words = [nas.url, synofs.mountpoint, "-o", sign_in(synofs)]
    assert call(MOUNT, *words)[0] == DONE
    code, said = call(MOUNT, *words)
    assert (code, "mounted" in said, "already" in said) == (DONE, True, True)
    code, said = call(MOUNT, "https://another:5001", *words[1:])
    assert (code, "is mounted already" in said) == (MOUNT_FAILED, True)
    assert call(UMOUNT, synofs.mountpoint)[0] == DONE


def test_a_fake_mount_mounts_nothing(nas: Nas, synofs: Synofs) -> None:
    assert call(MOUNT, nas.url, synofs.mountpoint, "-f", "-o", sign_in(synofs)) == (DONE, "")
    assert not synofs.is_mounted()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["-o", "dirttl=5"], WRONG_CALL, "there is no such option"),
        (["-o", "remount,ro"], WRONG_CALL, "cannot be changed; unmount it"),
        (["--surprise"], WRONG_CALL, "--surprise"),
        (["-o", "insecure-http,username=anna"], MOUNT_FAILED, "there is no password for anna"),
        (["-o", "insecure-http"], MOUNT_FAILED, "no account is named"),
    ],
)
def test_failures_are_one_line_with_the_codes_of_mount(
    words: list[str], code: int, said: str, nas: Nas, synofs: Synofs
) -> None:
    found, line = call(MOUNT, nas.url, synofs.mountpoint, *words)
    assert (found, line.count("\n")) == (code, 1), line
    assert line.startswith("mount.synofs: ")
    assert said in line
    assert not synofs.is_mounted()


def test_sloppy_options_are_passed_over(nas: Nas, synofs: Synofs) -> None:
    assert call(MOUNT, nas.url, synofs.mountpoint, "-s", "-o", f"vers=3.0,{sign_in(synofs)}") == (DONE, "")
    assert call(UMOUNT, synofs.mountpoint)[0] == DONE


def test_unmounting_what_is_not_mounted_fails(synofs: Synofs) -> None:
    code, said = call(UMOUNT, synofs.mountpoint)
    assert (code, "is not a synofs mount" in said) == (MOUNT_FAILED, True)


def test_a_folder_in_use_is_not_unmounted(nas: Nas, synofs: Synofs) -> None:
    assert call(MOUNT, nas.url, synofs.mountpoint, "-o", sign_in(synofs))[0] == DONE
    with open(synofs.mountpoint / "docs/letter.txt"):
        code, said = call(UMOUNT, synofs.mountpoint)
        assert (code, "is in use" in said) == (MOUNT_FAILED, True)
        assert synofs.is_mounted()
    assert call(UMOUNT, synofs.mountpoint)[0] == DONE


def test_a_profile_is_a_source(nas: Nas, synofs: Synofs) -> None:
    folder = Path(os.environ["XDG_CONFIG_HOME"], "synofs")
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(
        f'[profiles.home]\nnas = "{nas.url}"\nuser = "anna"\ninsecure-http = true\nshare = "docs"\n'
        f'password-file = "{synofs.password_file}"\nmountpoint = "{synofs.mountpoint}"\n'
    )
    assert call(MOUNT, "home", synofs.mountpoint) == (DONE, "")
    assert (synofs.mountpoint / "letter.txt").read_text() == "Dear NAS,\n"
    assert synofs("status", "home", "--json").json["share"] == "docs"
    assert synofs("umount", "home").code == 0
    assert synofs("mount", "home").code == 0, "with the folder of the profile"
    assert synofs.is_mounted()
    assert synofs("umount", "home", "--dead").code == 0
    assert synofs.is_mounted(), "a living mount is left alone"
    assert synofs("umount", "home").code == 0


# ----- through mount(8) and umount(8) ---------------------------------------------------------------------------


class _LibMount:
    """What libmount tells desktops and systemd about a mount."""

    def __init__(self) -> None:
        self._lib = ctypes.CDLL("libmount.so.1")
        for name in ("mnt_new_context", "mnt_table_find_target"):
            getattr(self._lib, name).restype = ctypes.c_void_p
        self._lib.mnt_fs_get_options.restype = ctypes.c_char_p

    def options(self, folder: Path) -> set[str]:
        context, table = ctypes.c_void_p(self._lib.mnt_new_context()), ctypes.c_void_p()
        assert self._lib.mnt_context_get_mtab(context, ctypes.byref(table)) == 0
        found = self._lib.mnt_table_find_target(table, os.fsencode(folder), 1)
        assert found
        return set(self._lib.mnt_fs_get_options(ctypes.c_void_p(found)).decode().split(","))


@as_root
def test_mount_and_umount_of_the_system(nas: Nas, synofs: Synofs, helpers_in_sbin: None) -> None:
    assert call("mount", "-t", "synofs", nas.url, synofs.mountpoint, "-o", sign_in(synofs)) == (DONE, "")
    code, found = call("findmnt", "-n", "-o", "SOURCE,FSTYPE", "--mountpoint", synofs.mountpoint)
    assert (code, found.split()) == (0, [nas.url, "fuse.synofs"])
    assert nas.url in call("df", synofs.mountpoint)[1]
    assert nas.url not in call("df", "-l")[1], "coreutils takes it for local"
    assert {"_netdev", "helper=synofs"} <= _LibMount().options(synofs.mountpoint)
    assert str(synofs.mountpoint) in call("mount", "-O", "_netdev")[1]
    assert call("umount", synofs.mountpoint) == (DONE, "")
    assert not synofs.is_mounted()
    assert str(synofs.mountpoint).replace(" ", "\\040") not in Path("/run/mount/utab").read_text(), "a stale record"


@as_root
def test_umount_waits_for_uploads(nas: Nas, synofs: Synofs, helpers_in_sbin: None, tmp_path: Path) -> None:
    from .conftest import PASSWORD, running_nas

    folder = tmp_path / "served"
    folder.mkdir()
    with running_nas(folder, "--account", f"anna:{PASSWORD}", "--latency-ms", "300") as slow:
        options = f"write-mode=writeback,{sign_in(synofs)}"
        assert call("mount", "-t", "synofs", slow.url, synofs.mountpoint, "-o", options) == (DONE, "")
        (synofs.mountpoint / "docs/late.txt").write_text("late\n")
        assert not (folder / "late.txt").exists(), "there was nothing to wait for"
        assert call("umount", synofs.mountpoint) == (DONE, "")
        assert (folder / "late.txt").read_text() == "late\n"


@as_root
def test_another_user_is_not_let_in_unless_asked_for(nas: Nas, synofs: Synofs, tmp_path: Path) -> None:
    for above in (tmp_path, *tmp_path.parents):  # so that nothing but the mount itself can refuse
        if str(above).startswith(str(tmp_path.parents[1])):
            above.chmod(0o755)
    assert call(MOUNT, nas.url, synofs.mountpoint, "-o", sign_in(synofs))[0] == DONE
    look = ["runuser", "-u", "nobody", "--", "cat", synofs.mountpoint / "docs/letter.txt"]
    code, said = call(*look)
    assert (code, "Permission denied" in said) == (1, True)
    assert call(UMOUNT, synofs.mountpoint)[0] == DONE
    assert call(MOUNT, nas.url, synofs.mountpoint, "-o", f"allow_other,{sign_in(synofs)}")[0] == DONE
    assert call(*look) == (0, "Dear NAS,\n")
    assert call(UMOUNT, synofs.mountpoint)[0] == DONE
