"""The example: one poller, one Socket.IO server, one page.

python -m examples.live_feed --feed https://example.org/feed.json
python -m examples.live_feed --sample-feed
"""

import argparse
import asyncio
import dataclasses
import logging
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from aiohttp import ClientSession, web
from yarl import URL

import gateway

from .feed import FeedItem, FeedPoller, FeedState, public_address
from .sample_feed import served_sample_feed

logger = logging.getLogger(__name__)

REMEMBERED_ITEMS = 50
#: For which the server keeps the place of a browser that is gone.
RECOVERY_S = 120.0

_STATIC = Path(__file__).parent / "static"
_ASSETS = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/live.css": ("live.css", "text/css; charset=utf-8"),
    "/live.js": ("live.js", "text/javascript; charset=utf-8"),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
}
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class LiveFeed:
    """Passes a feed on: `item` for each new entry, `feed` for how polling goes, `welcome` to who comes late."""

    def __init__(self, server: gateway.Server, feed_url: str | None, interval_s: float) -> None:
        """feed_url: None for the sample feed."""
        self._server = server
        self._feed_url = feed_url
        self._interval_s = interval_s
        self._epoch = secrets.token_hex(4)
        self._items: deque[dict[str, object]] = deque(maxlen=REMEMBERED_ITEMS)
        self._last_n = 0
        self._state = FeedState()
        server.on("connect", self.connect)

    async def connect(self, sid: str, environ: dict[str, object], auth: object = None) -> None:
        if self._server.recovered(sid):
            return  # it is sent what it has missed
        welcome = {
            "epoch": self._epoch,
            "n": self._last_n,
            "items": list(self._items),
            "feed": self._describe_feed(),
        }
        await self._server.emit("welcome", welcome, to=sid)

    async def running(self, app: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            url = self._feed_url
            if url is None:
                url = await stack.enter_async_context(served_sample_feed())
            http = await stack.enter_async_context(ClientSession())
            poller = FeedPoller(http, url, interval_s=self._interval_s)
            polling = asyncio.create_task(poller.run(self._pass_on, self._tell), name="feed poller")
            polling.add_done_callback(_log_failure)
            yield
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)

    async def _pass_on(self, items: list[FeedItem]) -> None:
        # Of a first look at a long feed, no more than a late joiner would get.
        for item in items[-REMEMBERED_ITEMS:]:
            self._last_n += 1
            wire_item: dict[str, object] = {
                "n": self._last_n,
                "t": round(time.time(), 3),
                "title": item.title,
                "summary": item.summary,
                "url": item.url,
                "published": item.published,
            }
            self._items.append(wire_item)
            await self._server.emit("item", wire_item)

    async def _tell(self, state: FeedState) -> None:
        self._state = state
        await self._server.emit("feed", self._describe_feed())

    def _describe_feed(self) -> dict[str, object]:
        return {
            **dataclasses.asdict(self._state),
            "sample": self._feed_url is None,
            "address": public_address(self._feed_url) if self._feed_url is not None else "made up by this example",
            "interval_s": self._interval_s,
        }


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("the feed is no longer polled", exc_info=error)


def create_app(feed_url: str | None, *, interval_s: float = 3.0) -> web.Application:
    """An application that passes on the feed at `feed_url`, or the sample feed."""
    app = web.Application()
    server = gateway.Server(recovery_s=RECOVERY_S)
    server.attach(app)
    live_feed = LiveFeed(server, feed_url, interval_s)
    app.cleanup_ctx.append(live_feed.running)
    for path, (name, content_type) in _ASSETS.items():
        app.router.add_get(path, _serve(_STATIC / name, content_type))
    return app


def _serve(path: Path, content_type: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def serve(request: web.Request) -> web.StreamResponse:
        return web.FileResponse(path, headers={**_HEADERS, "Content-Type": content_type})

    return serve


def _feed_url(value: str) -> str:
    try:
        url = URL(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not an address: {value}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise argparse.ArgumentTypeError("the feed's address begins with http:// or https://")
    return value


def _interval_s(value: str) -> float:
    try:
        interval_s = float(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not a number: {value}") from error
    if not 0.5 <= interval_s <= 86_400:
        raise argparse.ArgumentTypeError("between 0.5 and 86400 seconds")
    return interval_s


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.live_feed",
        description="Poll a JSON feed and show what is new, live, in every browser that looks.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--feed", metavar="URL", type=_feed_url, help="the JSON feed to poll")
    source.add_argument("--sample-feed", action="store_true", help="poll a made-up feed served by this process")
    parser.add_argument("--interval", type=_interval_s, default=3.0, metavar="S", help="seconds between polls")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen")
    parser.add_argument("--port", type=int, default=8000, help="where to listen")
    return parser.parse_args(arguments)


def main() -> None:
    options = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    app = create_app(options.feed, interval_s=options.interval)
    print(f"Open http://{options.host}:{options.port}/")
    gateway.run_app(app, host=options.host, port=options.port)
