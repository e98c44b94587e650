"""Where control sockets may lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from synofs.app.identity import require_private, runtime_dirs


def test_a_runtime_directory_that_others_can_enter_is_not_used(tmp_path: Path) -> None:
    open_to_all = tmp_path / "synofs"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(PermissionError):
        require_private(open_to_all, os.getuid())
    link = tmp_path / "link"
    open_to_all.chmod(0o700)
    link.symlink_to(open_to_all)
    with pytest.raises(PermissionError):
        require_private(link, os.getuid())
    require_private(open_to_all, os.getuid())


def test_without_a_session_directory_there_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert Path("/tmp/synofs-1234") in runtime_dirs(1234)
    assert Path("/run/user/1234/synofs") in runtime_dirs(1234)
    assert Path("/run/synofs") in runtime_dirs(0)
