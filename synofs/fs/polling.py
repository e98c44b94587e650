"""Asking gently for directories that are in use, so that a file manager sees a colleague's change.

Polled are only directories that somebody came back to: one `ls` or one walk of a tree leaves no trace.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from synofs.fs.listing import Listing, ListingOptions
from synofs.remote import RemoteError

if TYPE_CHECKING:
    from synofs.fs.listings import Listings

log = logging.getLogger(__name__)


async def poll(listings: Listings, options: ListingOptions) -> None:
    """Until cancelled."""
    while True:
        await trio.sleep(max(options.dir_ttl_seconds, 5.0))
        horizon = trio.current_time() - options.poll_recent_seconds
        in_use = [one for one in listings.cached() if one.is_in_use(horizon)]
        few = options.poll_max_entries
        recent = [one for one in in_use if len(one.entries) <= few and not listings.remaining_seconds(one)]
        recent.sort(key=lambda listing: listing.used_at, reverse=True)
        for listing in recent[: options.poll_max_directories]:
            if listing.directory.listing is listing and not listing.directory.gone:
                await _poll_one(listings, listing)


async def _poll_one(listings: Listings, listing: Listing) -> None:
    used_at, use_count = listing.used_at, listing.use_count
    load = listings.reload(listing.directory).load
    listing.used_at, listing.use_count = used_at, use_count
    while load is not None and not load.done:
        await load.step.wait()
    if load is not None and load.error is not None and not isinstance(load.error, RemoteError):
        log.error("polling failed in a way nobody foresaw", exc_info=load.error)
