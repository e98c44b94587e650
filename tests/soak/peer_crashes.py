"""What is left of acknowledged work when the mount is killed (SIGKILL), of synofs and of its peers."""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.model.crash import Writers, lost_records, lost_saves
from tests.soak.contest import Contest, Outcome, settled

FILES = 40
KILLS = 10
OUTAGE_SECONDS = 0.7  # before the kill
# What a plain write(2) is told promises nothing on most filesystems; what these are told does on all.
ANSWERS = frozenset({"synced", "closed"})


def after_close(contest: Contest) -> Outcome:
    """Files are written and closed, and the mount is killed at once."""
    acknowledged = set()
    with contest.mount() as mount:
        for number in range(FILES):
            text = f"{number} " * 1000
            (mount.path / f"{number}.txt").write_text(text)
            acknowledged.add(text)
        mount.kill()
    with contest.mount():
        settled(lambda: acknowledged <= contest.texts())
    return Outcome(len(acknowledged - contest.texts()), len(acknowledged), "closed files")


def while_writing(contest: Contest) -> Outcome:
    """In the middle of appends, new files, saves by rename, and removals."""
    return _killed_while_writing(contest, "")


def while_the_server_is_away(contest: Contest) -> Outcome:
    """The same; the server has been silent for a moment, and is back before the next mount."""
    return _killed_while_writing(contest, "swallow")


def _killed_while_writing(contest: Contest, trouble: str) -> Outcome:
    rng = random.Random(1)
    told: dict[str, Writers] = {}
    hung = 0
    for number in range(KILLS):
        with contest.mount() as mount:
            folder = mount.path / f"kill{number}"
            folder.mkdir()
            writers = told[folder.name] = Writers(folder, 2, f"{number}", ANSWERS)
            time.sleep(rng.uniform(0.3, 1.5))
            if trouble:
                contest.line(trouble)
                time.sleep(OUTAGE_SECONDS)
            hung += not mount.kill()
            writers.finish()
        contest.line("pass")
    with contest.mount():
        settled(lambda: not _lost(contest.folder, told))
    lost = _lost(contest.folder, told)
    for text in lost[:3]:
        print("   ", text)
    names = sum(len(writers.last) + len(writers.saved) + len(writers.removed) for writers in told.values())
    about = f"names of which something was acknowledged, in {KILLS} kills"
    return Outcome(len(lost), names, about, f"{hung} of {KILLS} kills hung" if hung else "")


def _lost(served: Path, told: dict[str, Writers]) -> list[str]:
    lost = []
    for folder, writers in told.items():
        if not (served / folder).is_dir():
            lost.append(f"{folder}: the folder is not there")
            continue
        found = lost_records(served / folder, writers.last)
        found += lost_saves(served / folder, writers.saved, writers.removed)
        lost += [f"{folder}/{text}" for text in found]
    return lost
