"""A desktop nobody sees: an X server, a session bus, a window manager; and hands and eyes for it."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image, ImageChops

NEEDED = ("Xvfb", "xdotool", "dbus-daemon", "openbox", "import", "thunar", "pcmanfm", "nautilus")
SECONDS = 75.0  # for anything to happen; most of it takes less than one, where the machine has time
MOST_STILLNESS_SECONDS = 25.0  # some programs show that they wait for as long as they do


def missing() -> list[str]:
    found = [name for name in NEEDED if shutil.which(name) is None]
    # Thunar shows no thumbnails without it, not even those that are there.
    return found if list(Path("/usr/lib").glob("*/tumbler-1/tumblerd")) else [*found, "tumbler"]


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
            "GSK_RENDERER": "cairo",  # there is no graphics card, and drawing as if there were one takes a processor
            # gvfs's trash looks into every mount of the machine, and a stuck one that is not ours would stop it.
            "GIO_USE_VFS": "local",
            "GIO_USE_VOLUME_MONITOR": "unix",
        }
        self.stillness = 0.6  # seconds without a change of the screen that mean that a program has done all it had to
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

    def end(self) -> None:
        """Again does no harm."""
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
        """That window, in front. While it comes up it may go once more, and come under another number."""
        found: list[str] = []

        def is_there() -> bool:
            found[:] = self.windows(title)
            return bool(found)

        wait_for(f"a window {title!r}", is_there)
        time.sleep(0.3)
        wait_for(f"the window {title!r}", is_there)
        self.xdotool("windowactivate", "--sync", found[-1])
        return found[-1]

    def close(self, name: str) -> None:
        """Close the window of the folder of that name, as its user does: xdotool would destroy it behind its back."""
        title = f"^{name}( - .*)?$"
        self.window(title)
        self.keys("alt+F4")
        wait_for(f"no window {title!r} any more", lambda: not self.windows(title))

    def keys(self, *keys: str) -> None:
        for key in keys:
            self.xdotool("key", "--clearmodifiers", key)
            time.sleep(0.15)  # toolkits drop what comes faster than a hand

    def keys_until(self, keys: Sequence[str], condition: Callable[[], object]) -> None:
        """Press them, and again if nothing comes of it: a program that is busy may lose them."""
        for _ in range(10):
            self.keys(*keys)
            deadline = time.monotonic() + 4
            while time.monotonic() < deadline:
                if condition():
                    return
                time.sleep(0.1)
        raise AssertionError(f"nothing comes of {'+'.join(keys)}")

    def type(self, text: str) -> None:
        self.xdotool("type", "--clearmodifiers", "--delay", "40", text)

    def place(self, window: str, x: int, y: int, width: int, height: int) -> None:
        self.xdotool("windowsize", "--sync", window, width, height)
        self.xdotool("windowmove", window, x, y)
        self.wait_for_stillness()

    def click(self, x: int, y: int) -> None:
        self.xdotool("mousemove", x, y, "click", 1)

    def drag(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        """In small steps, as a hand does: toolkits take one jump for no drag at all."""
        self.xdotool("mousemove", *start, "mousedown", 1)
        for step in range(1, 11):
            x, y = (start[axis] + (end[axis] - start[axis]) * step // 10 for axis in (0, 1))
            self.xdotool("mousemove", x, y)
            time.sleep(0.05)
        self.wait_for_stillness(0.3)
        self.xdotool("mouseup", 1)

    def wait_for_stillness(self, seconds: float | None = None) -> None:
        """Until the screen has not changed for so long: windows take keys only once their content is shown."""
        seconds = self.stillness if seconds is None else seconds
        last, since = b"", time.monotonic()
        deadline = since + MOST_STILLNESS_SECONDS
        while time.monotonic() < since + seconds and time.monotonic() < deadline:
            shot = self._picture().tobytes()
            if shot != last:
                last, since = shot, time.monotonic()
            time.sleep(0.1)

    # ----- eyes ---------------------------------------------------------------------------------------------------

    def _picture(self) -> Image.Image:
        shot = subprocess.run(
            ["import", "-window", "root", "-depth", "8", "-silent", "ppm:-"],
            env=self.environment, capture_output=True, check=True, timeout=30,
        ).stdout  # fmt: skip
        return Image.open(io.BytesIO(shot)).convert("L")

    def find_file(self, area: tuple[int, int, int, int]) -> tuple[int, int]:
        """Where the only file is that the window in front shows, within left, top, right, bottom. It is selected, so it
        is what looks different after a click beside it."""
        before = self._picture().crop(area)
        self.click(area[2] - 40, area[3] - 40)
        self.wait_for_stillness()
        box = ImageChops.difference(before, self._picture().crop(area)).getbbox()
        assert box is not None, "nothing was selected"
        return area[0] + (box[0] + box[2]) // 2, area[1] + (box[1] + box[3]) // 2

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
