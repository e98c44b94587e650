"""What people install: the wheel and the sdist, in an environment of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import synofs
from tests.systemd.container import CHECKOUT, sources, wheelhouse

pytestmark = pytest.mark.timeout(300)  # what synofs depends on may have to be compiled, once


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and with a wheel that was built from the sdist."""
    folder = tmp_path_factory.mktemp("built")
    out(sys.executable, "-m", "build", "--outdir", folder, sources(tmp_path_factory.mktemp("checkout")))
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment with the wheel and what it says it depends on, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    command = [folder / "bin/python", "-m", "pip", "install", "-q", "--no-index", "--disable-pip-version-check"]
    done = subprocess.run([*command, "--find-links", wheelhouse(), wheel], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "bin"


def out(*command: object, code: int = 0) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_installed_command_works(installed: Path) -> None:
    assert out(installed / "synofs", "--version") == f"synofs {synofs.__version__}\n"
    assert out(installed / "python", "-m", "synofs", "--version") == f"synofs {synofs.__version__}\n"
    for words in (["--help"], ["mount", "--help"], ["units", "--help"]):
        assert "Usage: synofs" in out(installed / "synofs", *words)
    for name in ("mount.synofs", "umount.synofs"):
        assert "By hand" in out(installed / name, "--help")
    assert "is not a synofs mount" in out(installed / "synofs", "umount", "/", code=50)


def test_units_are_made_from_the_templates_that_were_installed(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "synofs").mkdir()
    (tmp_path / "synofs/config.toml").write_text('[profiles.home]\nnas = "nas"\nmountpoint = "/mnt/nas"\n')
    for words in (["--system"], ["--user"], ["--automount"]):
        assert "synofs" in out(installed / "synofs", "units", "home", "--print", *words)
    assert f"ExecStart={installed}/synofs mount %i" in out(installed / "synofs", "units", "home", "--print", "--user")
    assert (installed.parent / "share/synofs/systemd/synofs-system@.service").exists()


def test_the_manual_is_installed_where_man_looks_beside_the_command(installed: Path) -> None:
    for name in ("man1/synofs.1", "man8/mount.synofs.8"):
        assert (installed.parent / "share/man" / name).read_text() == (CHECKOUT / "man" / name[5:]).read_text()


def test_the_demo_without_its_extra_says_what_to_install(installed: Path) -> None:
    assert "synofs[demo]" in out(installed / "synofs", "demo", "--once", code=67)


def test_the_version_has_one_source(wheel: Path) -> None:
    assert wheel.name.startswith(f"synofs-{synofs.__version__}-")
    assert "version" not in (CHECKOUT / "pyproject.toml").read_text().partition("[project]")[2].partition("dynamic")[0]


def test_the_wheel_holds_the_package_and_nothing_of_the_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"synofs"}
    assert "synofs/py.typed" in names


def test_the_sdist_has_what_a_build_needs(built: Path) -> None:
    with tarfile.open(built / f"synofs-{synofs.__version__}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "pyproject.toml",
        "LICENSE",
        "README.md",
        "systemd/synofs-user@.service",
        "man/synofs.1",
        "synofs/cli/main.py",
    } <= names
