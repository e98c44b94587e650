"""What a person sees while something takes its time: nothing for a second, then a bar. Never anything in a pipe."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from synofs.cli.terminal import console, format_bytes

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

News = dict[str, Any]

QUIET_SECONDS = 1.0


@contextmanager
def bar(doing: str) -> Iterator[Callable[[News], None]]:
    """Yields what takes news: `fraction` (0 to 1), `files`, `left`, `done_bytes`, `total_bytes`, `why` nothing moves;
    all may be missing."""
    out = console(stderr=True)
    if not doing or not out.is_terminal:
        yield lambda news: None
        return
    progress = _bar(out)
    task = progress.add_task(doing, total=None, what="")

    def show(news: News) -> None:
        total = None if news.get("fraction") is None else 1.0
        progress.update(task, total=total, completed=news.get("fraction") or 0.0, what=_told(news))

    with _after_a_while(progress):
        yield show


def working(doing: str) -> AbstractContextManager[Callable[[News], None]]:
    """For what tells nothing on its way."""
    return bar(doing)


def _bar(out: Console) -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[what]}", markup=False),
        TimeElapsedColumn(),
        console=out,
        transient=True,
    )


@contextmanager
def _after_a_while(progress: Progress) -> Iterator[None]:
    starter = threading.Timer(QUIET_SECONDS, progress.start)
    starter.daemon = True
    starter.start()
    try:
        yield
    finally:
        starter.cancel()
        starter.join()
        if progress.live.is_started:
            progress.stop()


def _told(news: News) -> str:
    parts = []
    if news.get("files") is not None:
        parts.append(f"{news['files']} files")
    if news.get("left") is not None:
        parts.append(f"{news['left']} left")
    if news.get("done_bytes") is not None:
        done = format_bytes(news["done_bytes"])
        parts.append(done if not news.get("total_bytes") else f"{done} of {format_bytes(news['total_bytes'])}")
    if news.get("why"):
        parts.append(news["why"])
    return ", ".join(parts)
