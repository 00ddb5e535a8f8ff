"""A feed made up on the spot, for people with none at hand: readings of buoys that do not exist."""

import random
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from aiohttp import web

NEW_ITEM_EVERY_S = 5.0
_FEED_LENGTH = 20
_BUOYS = ("Longsand", "Gannet Rock", "Harbour Mouth", "Skerry North", "Five Fathom", "Maplin")


class SampleFeed:
    """Grows by one item every `NEW_ITEM_EVERY_S` of the clock that is given to `items`."""

    def __init__(self, now: float) -> None:
        self._items: deque[dict[str, object]] = deque(maxlen=_FEED_LENGTH)
        self._random = random.Random(7)
        self._next_id = 1
        self._next_at = now - 3 * NEW_ITEM_EVERY_S

    def items(self, now: float) -> list[dict[str, object]]:
        """Newest first, as feeds have it. now: unix seconds."""
        # However long nobody asked, no more is made up than the feed holds.
        self._next_at = max(self._next_at, now - _FEED_LENGTH * NEW_ITEM_EVERY_S)
        while self._next_at <= now:
            self._items.appendleft(self._reading(self._next_at))
            self._next_at += NEW_ITEM_EVERY_S
        return list(self._items)

    def _reading(self, at: float) -> dict[str, object]:
        buoy = self._random.choice(_BUOYS)
        wave_m = self._random.uniform(0.3, 3.8)
        wind_kn = self._random.randint(3, 38)
        reading_id, self._next_id = self._next_id, self._next_id + 1
        return {
            "id": reading_id,
            "title": f"{buoy}: waves {wave_m:.1f} m, wind {wind_kn} kn",
            "summary": f"Sample reading {reading_id}, made up by this example.",
            "date_published": datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds"),
        }


@asynccontextmanager
async def served_sample_feed() -> AsyncIterator[str]:
    """The address of a sample feed on a loopback port of its own, in this process."""
    feed = SampleFeed(time.time())

    async def answer(request: web.Request) -> web.Response:
        items = feed.items(time.time())
        response = web.json_response({"title": "Sample feed", "items": items})
        response.etag = str(items[0]["id"])
        if request.if_none_match and any(tag.value == str(items[0]["id"]) for tag in request.if_none_match):
            return web.Response(status=304)
        return response

    app = web.Application()
    app.router.add_get("/sample-feed.json", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}/sample-feed.json"
    finally:
        await runner.cleanup()
