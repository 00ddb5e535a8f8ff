"""The server that real clients talk to.

    python -m tests.support.apps [--listener fast|aiohttp] [--options JSON] [--loop uvloop|asyncio]

prints ``PORT 12345`` once it listens, logs to standard error and ends on SIGTERM. ``--options`` are those of
``gateway.Server``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web

import gateway
from gateway.runner import new_event_loop

NAMESPACES = ("/", "/news")
#: How fast ``ticks`` come: slow enough that an upgrade happens among them.
_TICKS_PER_STEP = 10
_STEP_S = 0.02

_PAGE = """<!DOCTYPE html><html><head><meta charset="utf-8"><title>test</title><link rel="icon" href="data:,">
<script src="/socket.io/{script}"></script></head><body></body></html>"""


@dataclass
class Numbers:
    """What one client has sent by the event ``number``, and how it was sent ticks."""

    received: list[int] = field(default_factory=list)
    ticks_by_transport: dict[str, int] = field(default_factory=dict)
    has_finished: bool = False


class App:
    """The events, on one server."""

    def __init__(self, server: gateway.Server) -> None:
        self.server = server
        self.numbers: dict[str, Numbers] = {}
        self.disconnects: dict[str, str] = {}
        self.floods: set[asyncio.Task[None]] = set()
        for namespace in NAMESPACES:
            for event in (
                "echo",
                "burst",
                "broadcast",
                "ask",
                "binary",
                "push_binary",
                "join",
                "join_other",
                "leave",
                "room_emit",
                "who",
                "whoami",
                "number",
                "report",
                "close_engine",
                "disconnect_me",
                "reasons",
                "flood",
            ):
                server.on(event, self._bound(event, namespace), namespace=namespace)
            server.on("connect", self._bound("connect", namespace), namespace=namespace)
            server.on("disconnect", self._bound("disconnect", namespace), namespace=namespace)

    def _bound(self, name: str, namespace: str) -> Any:
        method = getattr(self, "on_" + name)

        async def handler(sid: str, *args: Any) -> Any:
            return await method(namespace, sid, *args)

        return handler

    async def on_connect(self, namespace: str, sid: str, environ: dict[str, Any], auth: Any) -> None:
        self.numbers[sid] = Numbers()
        if auth and auth.get("refuse"):
            raise gateway.ConnectionRefusedError("no entry", {"code": 7})
        if auth and auth.get("ticks"):
            first = parse_qs(environ["QUERY_STRING"])["transport"][0]
            self.server.start_background_task(self._tick, namespace, sid, auth["ticks"], first)

    async def _tick(self, namespace: str, sid: str, count: int, first: str) -> None:
        """Ticks that begin before the connection is confirmed; the last fifth waits until it is on another transport
        than the ``first``.
        """
        numbers = self.numbers[sid]
        for n in range(count):
            if n and n % _TICKS_PER_STEP == 0:
                await asyncio.sleep(_STEP_S)
            while n == count * 4 // 5 and sid not in self.disconnects and self._transport(sid, namespace) == first:
                await asyncio.sleep(_STEP_S)
            if sid in self.disconnects:
                return
            transport = self._transport(sid, namespace)
            numbers.ticks_by_transport[transport] = numbers.ticks_by_transport.get(transport, 0) + 1
            await self.server.emit("tick", {"n": n, "pad": ""}, to=sid, namespace=namespace)
        numbers.has_finished = True

    def _transport(self, sid: str, namespace: str) -> str:
        try:
            return self.server.transport(sid, namespace)
        except KeyError:
            return "none"

    async def on_disconnect(self, namespace: str, sid: str, reason: str) -> None:
        self.disconnects[sid] = reason

    async def on_echo(self, namespace: str, sid: str, *args: Any) -> tuple[Any, ...]:
        return args

    async def on_burst(self, namespace: str, sid: str, n: int, size: int = 0) -> int:
        """Emits ``tick`` n times to this client."""
        pad = "x" * size
        for i in range(n):
            await self.server.emit("tick", {"n": i, "pad": pad}, to=sid, namespace=namespace)
        return n

    async def on_broadcast(self, namespace: str, sid: str, *args: Any) -> None:
        await self.server.emit("message", args, namespace=namespace)

    async def on_ask(self, namespace: str, sid: str, *args: Any) -> Any:
        """Calls the client; what it answers is the ack."""
        return await self.server.call("question", args, to=sid, namespace=namespace)

    async def on_binary(self, namespace: str, sid: str, size: int = 0) -> dict[str, Any]:
        return _binary(size)

    async def on_push_binary(self, namespace: str, sid: str, size: int = 0) -> None:
        await self.server.emit("binary", _binary(size), to=sid, namespace=namespace)

    async def on_join(self, namespace: str, sid: str, room: str) -> None:
        await self.server.enter_room(sid, room, namespace=namespace)

    async def on_join_other(self, namespace: str, sid: str, other: str, room: str) -> None:
        await self.server.enter_room(other, room, namespace=namespace)

    async def on_leave(self, namespace: str, sid: str, room: str) -> None:
        await self.server.leave_room(sid, room, namespace=namespace)

    async def on_room_emit(self, namespace: str, sid: str, room: str, *args: Any) -> None:
        await self.server.emit("message", args, room=room, namespace=namespace)

    async def on_who(self, namespace: str, sid: str) -> str:
        return self.server.transport(sid, namespace)

    async def on_whoami(self, namespace: str, sid: str) -> str:
        return sid

    async def on_number(self, namespace: str, sid: str, n: int) -> int:
        self.numbers[sid].received.append(n)
        return n

    async def on_report(self, namespace: str, sid: str) -> dict[str, Any]:
        numbers = self.numbers[sid]
        return {
            "received": numbers.received,
            "ticksByTransport": numbers.ticks_by_transport,
            "hasFinished": numbers.has_finished,
        }

    async def on_close_engine(self, namespace: str, sid: str) -> None:
        """Ends the Engine.IO session below the client."""
        await self.server.eio.disconnect(self.server.manager.eio_sid_from_sid(sid, namespace))

    async def on_disconnect_me(self, namespace: str, sid: str) -> None:
        await self.server.disconnect(sid, namespace=namespace)

    async def on_reasons(self, namespace: str, sid: str) -> dict[str, str]:
        """Why clients were disconnected, by their sid."""
        return self.disconnects

    async def on_flood(self, namespace: str, sid: str, target: str, count: int, size: int, broadcast: bool) -> int:
        """Emits ``blob`` to a client, or to the room of that name; answers once all are sent."""
        pad = "x" * size
        for i in range(count):
            if broadcast:
                await self.server.emit("blob", {"n": i, "pad": pad}, room=target, namespace=namespace)
            else:
                await self.server.emit("blob", {"n": i, "pad": pad}, to=target, namespace=namespace)
        return count

    async def page(self, request: web.Request) -> web.Response:
        script = request.query.get("script", "")
        if script not in ("tidegate-client.min.js", "socket.io.js"):
            raise web.HTTPNotFound
        return web.Response(text=_PAGE.format(script=script), content_type="text/html")


def _binary(size: int) -> dict[str, Any]:
    data = bytes(range(256)) * (size // 256 + 1)
    return {"buffer": data[: size or 256], "nested": [b"", {"deep": b"\x00\x1e\xff"}], "text": "b"}


def create_app(options: dict[str, Any]) -> web.Application:
    server = gateway.Server(**options)
    events = App(server)
    app = web.Application()
    server.attach(app)
    app.router.add_get("/page", events.page)
    return app


async def serve(options: dict[str, Any], listener: str) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    runner_class = gateway.AppRunner if listener == "fast" else web.AppRunner
    runner = runner_class(create_app(options), access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    # aiohttp's own 128 overflow where many clients come at once to a busy machine; TCP then tries again after seconds.
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    print(f"PORT {runner.addresses[0][1]}", flush=True)
    await stopped.wait()
    await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--listener", choices=("fast", "aiohttp"), default="fast")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--options", type=json.loads, default={})
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    factory = new_event_loop if arguments.loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(arguments.options, arguments.listener))


if __name__ == "__main__":
    main()
