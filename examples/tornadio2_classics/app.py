"""Four examples of tornadio2 on one router: ackping, multiplexed, transports, stats.

python -m examples.tornadio2_classics
"""

import argparse
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from aiohttp import web

import gateway

_STATIC = Path(__file__).parent / "static"
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
}


def clock() -> list[int]:
    now = datetime.now()
    return [now.hour, now.minute, now.second, now.microsecond // 1000]


class ChatConnection(gateway.SocketConnection):
    """multiplexed: the chat. In tornadio2 it kept its participants in a set and looped over them."""

    _numbers = itertools.count(1)

    async def on_open(self, request: gateway.ConnectionInfo) -> None:
        self.user_name = f"User{next(self._numbers)}"
        await self.say(f"{self.user_name} joined chat.")

    async def on_message(self, message: object) -> None:
        await self.say(f"{self.user_name}: {message}")

    async def on_close(self) -> None:
        await self.say(f"{self.user_name} left chat.")

    async def say(self, line: str) -> None:
        await self.broadcast("message", line, include_self=True)


class PingConnection(gateway.SocketConnection):
    """multiplexed: the ping, as messages."""

    def on_message(self, message: Any) -> None:
        if isinstance(message, dict):
            self.send({**message, "server": clock()})


class TransportConnection(gateway.SocketConnection):
    """transports: whatever carries it."""

    def on_open(self, request: gateway.ConnectionInfo) -> None:
        self.send(f"Welcome from the server, by {self.session.transport}.")

    async def on_message(self, message: object) -> None:
        await self.broadcast("message", message, include_self=True)


class RootConnection(gateway.SocketConnection):
    """ackping and stats, and the way to the others."""

    __endpoints__: ClassVar = {
        "/chat": ChatConnection,
        "/ping": PingConnection,
        "/transports": TransportConnection,
    }

    @gateway.event
    def ping(self, client: Any) -> tuple[Any, list[int]]:
        return client, clock()

    @gateway.event
    def stats(self) -> Mapping[str, Any]:
        return self.session.server.stats.dump()


def create_app() -> web.Application:
    app = web.Application()
    gateway.Router(
        RootConnection, {"enabled_protocols": ["websocket", "xhr-streaming", "xhr-polling", "jsonp-polling"]}
    ).attach(app)
    app.router.add_get("/", _file("index.html", "text/html; charset=utf-8"))
    app.router.add_get("/classics.js", _file("classics.js", "text/javascript; charset=utf-8"))
    return app


def _file(name: str, content_type: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def serve(_: web.Request) -> web.StreamResponse:
        return web.FileResponse(_STATIC / name, headers={**_HEADERS, "Content-Type": content_type})

    return serve


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.tornadio2_classics")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen")
    parser.add_argument("--port", type=int, default=8000, help="where to listen")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    print(f"Open http://{options.host}:{options.port}/")
    gateway.run_app(create_app(), host=options.host, port=options.port)
