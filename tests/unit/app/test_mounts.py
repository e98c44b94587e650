"""The kernel's list of mounts, and what is checked before mounting."""

from __future__ import annotations

from pathlib import Path

import pytest

from synofs.app import mounts
from synofs.app.errors import Failure, Problem

MOUNTINFO = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:41 / /home/anna/my\040nas ro,nosuid shared:9 - fuse.synofs https://nas:5001 ro,user_id=1000,group_id=1000
41 22 0:42 / /mnt/nas ro - fuse.synofs https://nas:5001/photos ro,user_id=0,group_id=0,allow_other
42 22 0:43 / /mnt/other rw - fuse.sshfs anna@host:/ rw,user_id=1000,group_id=1000
""".lstrip()


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mountinfo"
    file.write_text(MOUNTINFO)
    monkeypatch.setattr(mounts, "MOUNTINFO", file)


@pytest.mark.usefixtures("kernel")
def test_synofs_mounts_are_listed_with_their_owner() -> None:
    first, second = mounts.list_mounts()
    assert (first.mountpoint, first.source, first.owner_uid) == ("/home/anna/my nas", "https://nas:5001", 1000)
    assert (second.mountpoint, second.source, second.owner_uid) == ("/mnt/nas", "https://nas:5001/photos", 0)
    assert len(mounts.list_mounts(None)) == 4


@pytest.mark.usefixtures("kernel")
def test_a_path_inside_a_mount_is_split_without_touching_it() -> None:
    found = mounts.find_mount_above("/mnt/nas/2024/../2025/a.jpg")
    assert found is not None
    assert (found[0].mountpoint, found[1]) == ("/mnt/nas", "/2025/a.jpg")
    root = mounts.find_mount_above("/home/anna/my nas")
    assert root is not None
    assert root[1] == "/"
    assert mounts.find_mount_above("/mnt/other/x") is None
    assert mounts.find_mount_above("/mnt/nas2") is None


def test_a_path_that_leads_through_a_symlink_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tmp_path / "real"
    (real / "nas").mkdir(parents=True)
    (tmp_path / "link").symlink_to(real)
    file = tmp_path / "mountinfo"
    file.write_text(f"40 22 0:41 / {real}/nas ro - fuse.synofs x ro,user_id=1000\n")
    monkeypatch.setattr(mounts, "MOUNTINFO", file)
    assert mounts.find_mount(str(tmp_path / "link" / "nas")) is not None
    found = mounts.find_mount_above(str(tmp_path / "link" / "nas" / "a" / "b"))
    assert found is not None
    assert found[1] == "/a/b"


def refused(mountpoint: Path) -> Problem:
    with pytest.raises(Failure) as caught:
        mounts.require_mountpoint(str(mountpoint))
    assert str(mountpoint) in caught.value.line
    return caught.value.problem


def test_only_an_empty_folder_can_be_mounted_on(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert refused(tmp_path / "missing") is Problem.MOUNTPOINT_MISSING
    assert refused(file) is Problem.MOUNTPOINT_NO_FOLDER
    assert refused(tmp_path) is Problem.MOUNTPOINT_NOT_EMPTY
    empty = tmp_path / "empty"
    empty.mkdir()
    mounts.require_mountpoint(str(empty))


def test_without_the_device_nothing_is_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mounts, "FUSE_DEVICE", str(tmp_path / "fuse"))
    with pytest.raises(Failure) as caught:
        mounts.require_fuse(allow_other=False)
    assert caught.value.problem is Problem.NO_FUSE


def test_a_device_that_may_not_be_opened_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mounts, "FUSE_DEVICE", str(tmp_path))
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(Failure) as caught:
        mounts.require_fuse(allow_other=False)
    assert caught.value.problem is Problem.FUSE_FORBIDDEN


def test_allow_other_needs_the_word_of_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    conf = tmp_path / "fuse.conf"
    monkeypatch.setattr(mounts, "FUSE_CONF", conf)
    monkeypatch.setattr(mounts, "FUSE_DEVICE", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    for text in ("", "#user_allow_other\n", "# say user_allow_other to allow\n"):
        conf.write_text(text)
        with pytest.raises(Failure) as caught:
            mounts.require_fuse(allow_other=True)
        assert caught.value.problem is Problem.ALLOW_OTHER_FORBIDDEN
    conf.write_text("# words\n  user_allow_other \n")
    mounts.require_fuse(allow_other=True)


def test_a_user_needs_fusermount(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mounts, "FUSE_DEVICE", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(Failure) as caught:
        mounts.require_fuse(allow_other=False)
    assert caught.value.problem is Problem.NO_FUSERMOUNT


def test_unmounting_what_is_not_mounted_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(Failure) as caught:
        mounts.unmount(str(tmp_path))
    assert caught.value.problem is Problem.UNMOUNT_REFUSED
    assert str(tmp_path) in caught.value.line
