"""What the services around the files remember as long as the process lives: bookmarks, links, thumbnails."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Bookmark:
    """A favourite of an account."""

    path: str
    name: str


@dataclass
class Link:
    """A sharing link."""

    id: str
    path: str
    owner: str
    is_folder: bool
    password: str = ""
    date_expired: str = ""
    date_available: str = ""


@dataclass
class Remembered:
    """Bookmarks by account, links by id, and the paths whose thumbnail has been asked for."""

    bookmarks: dict[str, list[Bookmark]] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    thumbs: set[str] = field(default_factory=set)
