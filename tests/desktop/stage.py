"""A desktop nobody sees: an X server, a session bus, a window manager; and hands and eyes for it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

NEEDED = ("Xvfb", "xdotool", "dbus-daemon", "openbox", "import", "thunar", "pcmanfm", "nautilus")
SECONDS = 25.0  # for anything to happen; most of it takes less than one


def missing() -> list[str]:
    return [name for name in NEEDED if shutil.which(name) is None]


def wait_for(what: str, condition: Callable[[], object], seconds: float = SECONDS) -> None:
    """Poll until it is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"in vain for {seconds:.0f} s: {what}"
        time.sleep(0.1)


class Desktop:
    """One session. Everything that is started here ends with it."""

    def __init__(self, home: Path, pictures: Path) -> None:
        self.home = home
        self.pictures = pictures  # where screenshots go
        self.opened = home / "opened"  # what the program behind all file types was given
        self.environment = {
            **os.environ,
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "XDG_CACHE_HOME": str(home / ".cache"),
            "XDG_DATA_HOME": str(home / ".local/share"),
            "LC_ALL": "C.UTF-8",
            "GSETTINGS_BACKEND": "memory",
            "GTK_A11Y": "none",
            "NO_AT_BRIDGE": "1",
        }
        self._processes: list[subprocess.Popen[bytes]] = []
        self._log = (home / "desktop.log").open("wb")

    def start(self, *words: object, **more: object) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [str(word) for word in words],
            stdin=subprocess.DEVNULL,
            stdout=more.get("stdout", self._log),  # type: ignore[arg-type]
            stderr=self._log,
            env=self.environment,
            cwd=self.home,
            pass_fds=more.get("pass_fds", ()),  # type: ignore[arg-type]
        )
        self._processes.append(process)
        return process

    def begin(self) -> None:
        self._register_viewer()
        reader, writer = os.pipe()
        self.start("Xvfb", "-displayfd", writer, "-screen", 0, "1100x720x24", "-nolisten", "tcp", pass_fds=(writer,))
        os.close(writer)
        with open(reader) as pipe:
            self.environment["DISPLAY"] = f":{pipe.readline().strip()}"
        # The bus starts services (tumblerd, xfconfd) with its own environment: it has to have the display in it.
        bus = self.start("dbus-daemon", "--session", "--nofork", "--print-address=1", stdout=subprocess.PIPE)
        assert bus.stdout is not None
        self.environment["DBUS_SESSION_BUS_ADDRESS"] = bus.stdout.readline().decode().strip()
        self.start("openbox")

    def _register_viewer(self) -> None:
        """The program that opens pictures and texts: it keeps a copy of what it is given."""
        applications = self.home / ".local/share/applications"
        applications.mkdir(parents=True)
        self.opened.mkdir()
        types = ["image/jpeg", "text/plain"]
        (applications / "viewer.desktop").write_text(
            f"[Desktop Entry]\nType=Application\nName=Viewer\nExec=cp %f {self.opened}\nMimeType={';'.join(types)};\n"
        )
        (self.home / ".config").mkdir(exist_ok=True)
        lines = "".join(f"{kind}=viewer.desktop\n" for kind in types)
        (self.home / ".config/mimeapps.list").write_text(f"[Default Applications]\n{lines}")
        for tool in (["update-desktop-database", applications],):
            if shutil.which(str(tool[0])):
                subprocess.run(tool, check=False, env=self.environment)

    def end(self) -> None:
        for process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()
        for process in self._processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._log.close()

    # ----- hands --------------------------------------------------------------------------------------------------

    def xdotool(self, *words: object, check: bool = True) -> str:
        done = subprocess.run(
            ["xdotool", *map(str, words)], env=self.environment, capture_output=True, text=True, timeout=20
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout.strip()

    def windows(self, title: str) -> list[str]:
        """The visible windows whose title matches."""
        return self.xdotool("search", "--onlyvisible", "--name", title, check=False).split()

    def window(self, title: str) -> str:
        wait_for(f"a window {title!r}", lambda: self.windows(title))
        window = self.windows(title)[-1]
        self.xdotool("windowactivate", "--sync", window)
        return window

    def gone(self, title: str) -> None:
        wait_for(f"no window {title!r} any more", lambda: not self.windows(title))

    def keys(self, *keys: str) -> None:
        for key in keys:
            self.xdotool("key", "--clearmodifiers", key)
            time.sleep(0.15)  # toolkits drop what comes faster than a hand

    def type(self, text: str) -> None:
        self.xdotool("type", "--clearmodifiers", "--delay", "40", text)

    # ----- eyes ---------------------------------------------------------------------------------------------------

    def look(self, name: str) -> Path:
        """A picture of the screen, kept with the test's results."""
        file = self.pictures / f"{name}.png"
        subprocess.run(["import", "-window", "root", "-depth", "8", file], env=self.environment, check=True, timeout=30)
        return file


@contextlib.contextmanager
def desktop(home: Path, pictures: Path) -> Iterator[Desktop]:
    home.mkdir(parents=True, exist_ok=True)
    pictures.mkdir(parents=True, exist_ok=True)
    session = Desktop(home, pictures)
    try:
        session.begin()
        yield session
    finally:
        session.end()
