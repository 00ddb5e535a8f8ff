"""The server behind the networks under test: numbered messages in both directions, counted per client.

    python -m tests.networks.server [--listener fast|aiohttp] [--options JSON] [--loop uvloop|asyncio]

A client names itself by ``auth: {client: NAME}``, so what it sent and was sent counts together over all its
connections. Events: ``number`` (n) is noted as it came and acknowledged with n; ``burst`` (count, every_ms, size)
begins what ``POST /clients/NAME/burst`` does. ``GET /page?script=FILE&client=NAME`` is a page with that browser file
and ``recorder.js``. ``GET /clients/NAME`` tells what the server knows:

- ``received``: each number the client sent, in the order it came, as often as it came
- ``sent``: how many ``number`` events it was sent, n from 0 on; ``sentByTransport``: on what it was connected then
- ``connections``: ``{transport, lasted, reason}``, oldest first; ``transport`` and ``lasted`` (seconds) are the newest
  known, ``reason`` is null while it is open
- ``isSending``: whether a burst is under way
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

import gateway
from tests.support import apps

SCRIPTS = ("tidegate-client.min.js", "socket.io.js")
#: A burst is sent in steps of this, so that many a second do not each need a timer.
_STEP_S = 0.01

_NODE = Path(__file__).with_name("node")
#: What the page records with: the stock API, and that of ``tidegate.connect()``.
_RECORDERS = ("recorder.js", "client-recorder.js")
_PAGE = """<!DOCTYPE html><html><head><meta charset="utf-8"><title>test</title><link rel="icon" href="data:,">
<script src="/socket.io/{script}"></script><script src="/recorder.js"></script>
<script src="/client-recorder.js"></script></head><body style="white-space: pre"></body></html>"""


@dataclass
class Connection:
    socket_id: str
    since: float
    transport: str
    lasted: float | None = None
    reason: str | None = None


@dataclass
class Client:
    received: list[int] = field(default_factory=list)
    sent: int = 0
    sent_by_transport: dict[str, int] = field(default_factory=dict)
    connections: list[Connection] = field(default_factory=list)
    bursts: set[asyncio.Task[None]] = field(default_factory=set)


class Numbers:
    """The events, and the window into what they did."""

    def __init__(self, server: gateway.Server) -> None:
        self.server = server
        self.clients: dict[str, Client] = {}
        self._names: dict[str, str] = {}
        for name in ("connect", "disconnect", "number", "burst"):
            server.on(name, getattr(self, "on_" + name))

    async def on_connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        name = auth.get("client") if isinstance(auth, dict) else None
        if not isinstance(name, str) or not name:
            raise gateway.ConnectionRefusedError("name yourself: auth: {client: NAME}")
        client = self.clients.setdefault(name, Client())
        self._names[sid] = name
        client.connections.append(Connection(sid, time.monotonic(), self.server.transport(sid)))
        await self.server.enter_room(sid, _room(name))

    async def on_disconnect(self, sid: str, reason: str) -> None:
        name = self._names.pop(sid, None)
        if name is None:
            return
        for connection in self.clients[name].connections:
            if connection.socket_id == sid:
                connection.lasted, connection.reason = time.monotonic() - connection.since, reason

    async def on_number(self, sid: str, n: int) -> int:
        self.clients[self._names[sid]].received.append(n)
        return n

    async def on_burst(self, sid: str, count: int, every_ms: float = 0, size: int = 0) -> None:
        self.begin_burst(self._names[sid], count, every_ms, size)

    def begin_burst(self, name: str, count: int, every_ms: float, size: int) -> None:
        client = self.clients[name]
        task = asyncio.create_task(self._send(name, client, count, every_ms / 1000, size))
        client.bursts.add(task)
        task.add_done_callback(client.bursts.discard)

    async def _send(self, name: str, client: Client, count: int, every_s: float, size: int) -> None:
        """``count`` events ``number`` to the client's room, whether or not it is connected."""
        pad = "x" * size
        begun = time.monotonic()
        for i in range(count):
            if (ahead := begun + i * every_s - time.monotonic()) > 0:
                await asyncio.sleep(max(ahead, _STEP_S))
            transport = self._observe(client)
            client.sent_by_transport[transport] = client.sent_by_transport.get(transport, 0) + 1
            n, client.sent = client.sent, client.sent + 1
            await self.server.emit("number", (n, pad) if size else n, to=_room(name))

    def _observe(self, client: Client) -> str:
        """The transport of the newest connection, or "none"."""
        if not client.connections or client.connections[-1].reason is not None:
            return "none"
        newest = client.connections[-1]
        try:
            newest.transport = self.server.transport(newest.socket_id)
        except KeyError:  # gone, and its handler has yet to run
            return "none"
        return newest.transport

    async def show(self, request: web.Request) -> web.Response:
        client = self.clients.get(request.match_info["name"])
        if client is None:
            raise web.HTTPNotFound
        self._observe(client)
        return web.json_response(
            {
                "received": client.received,
                "sent": client.sent,
                "sentByTransport": client.sent_by_transport,
                "connections": [
                    {
                        "transport": each.transport,
                        "lasted": time.monotonic() - each.since if each.lasted is None else each.lasted,
                        "reason": each.reason,
                    }
                    for each in client.connections
                ],
                "isSending": bool(client.bursts),
            }
        )

    async def burst(self, request: web.Request) -> web.Response:
        """Query: ``count``, ``every_ms`` (0), ``size`` of the padding of each (0)."""
        name, query = request.match_info["name"], request.query
        if name not in self.clients:
            raise web.HTTPNotFound
        try:
            numbers = int(query["count"]), float(query.get("every_ms", "0")), int(query.get("size", "0"))
        except (KeyError, ValueError):
            raise web.HTTPBadRequest from None
        self.begin_burst(name, *numbers)
        return web.json_response({})


def _room(name: str) -> str:
    return f"client:{name}"


async def _page(request: web.Request) -> web.Response:
    script = request.query.get("script", SCRIPTS[0])
    if script not in SCRIPTS:
        raise web.HTTPNotFound
    return web.Response(text=_PAGE.format(script=script), content_type="text/html")


async def _recorder(request: web.Request) -> web.FileResponse:
    return web.FileResponse(_NODE / request.path[1:], headers={"Content-Type": "text/javascript; charset=utf-8"})


def create_app(options: dict[str, Any]) -> web.Application:
    server = gateway.Server(**options)
    numbers = Numbers(server)
    app = web.Application()
    server.attach(app)
    app.router.add_get("/page", _page)
    for name in _RECORDERS:
        app.router.add_get(f"/{name}", _recorder)
    app.router.add_get("/clients/{name}", numbers.show)
    app.router.add_post("/clients/{name}/burst", numbers.burst)
    return app


if __name__ == "__main__":
    apps.create_app = create_app
    apps.main()
