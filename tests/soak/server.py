"""The server under soak, with a window into it: ``GET /inside`` tells what it holds.

python -m tests.soak.server [--listener fast|aiohttp] [--options JSON] [--loop uvloop|asyncio]
"""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import psutil
from aiohttp import web

import gateway
from tests.soak.holders import holders_of
from tests.support import apps
from transports.eager_twin import SPARE_TASK_NAME
from transports.session import Session

#: How often everybody in the room ``bystanders`` is sent the next number.
TICK_S = 0.05
#: Short, so that what waits for a deadline does not outlast the run.
OPTIONS: dict[str, Any] = {
    "ping_interval": 1.0,
    "ping_timeout": 4.0,
    "upgrade_timeout": 2.0,
    "connect_timeout": 3.0,
    "max_http_buffer_size": 100_000,
    "max_buffered_bytes": 512 * 1024,
    "stream_max_bytes": 64 * 1024,
    "stream_max_s": 5.0,
    "namespaces": "*",
}


class Errors(logging.Handler):
    """Errors of ours and of the loop: there should be none, whatever clients do."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.texts) < 20:
            self.texts.append(logging.Formatter().format(record))


class SoakApp:
    """Handlers that raise nothing, and the window."""

    def __init__(self, server: gateway.Server) -> None:
        self.server = server
        self.ticks = 0
        self.errors = Errors()
        for name in ("tidegate", "asyncio", "engineio", "socketio"):
            logging.getLogger(name).addHandler(self.errors)
        self._ticking: asyncio.Task[None] | None = None
        server.on("connect", self.connect)
        server.on("connect", self.refuse, namespace="/refuse")
        server.on("number", self.number)
        for handler in (self.join, self.leave, self.late, self.call, self.flood):
            server.on(handler.__name__, handler)
        server.on("echo", self.echo)
        server.on("watch", self.watch)

    async def connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        await asyncio.sleep(0)

    async def refuse(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        raise gateway.ConnectionRefusedError("no entry", auth)

    def echo(self, sid: str, *args: Any) -> Any:
        return args

    def number(self, sid: str, *args: Any) -> Any:
        return args

    async def watch(self, sid: str, *args: Any) -> int:
        """From the next tick on, every one."""
        await self.server.enter_room(sid, "bystanders")
        return self.ticks

    async def join(self, sid: str, *args: Any) -> None:
        if self.server.manager.member(sid, "/") is not None:
            await self.server.enter_room(sid, str(args[:1]))

    async def leave(self, sid: str, *args: Any) -> None:
        await self.server.leave_room(sid, str(args[:1]))

    async def late(self, sid: str, *args: Any) -> Any:
        await asyncio.sleep(0.5)
        return args

    async def call(self, sid: str, *args: Any) -> Any:
        try:
            return await self.server.call("question", args, to=sid, timeout=2)
        except gateway.TimeoutError:
            return None

    async def flood(self, sid: str, *args: Any) -> None:
        """More to the room that is named than the kernel and ``max_buffered_bytes`` hold together."""
        for _ in range(100):
            await self.server.emit("flood", "x" * 65000, room=str(args[:1]))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.ticks += 1
            await self.server.emit("tick", self.ticks, room="bystanders")

    async def begin(self, _: web.Application) -> None:
        self._ticking = asyncio.create_task(self._tick())

    async def end(self, _: web.Application) -> None:
        if self._ticking is not None:
            self._ticking.cancel()

    async def inside(self, request: web.Request) -> web.Response:
        """``?collect``: after a collection, and with a count of sessions that only the collector knows.

        ``&holders``: and who holds one of them.
        """
        engine, manager = self.server.eio, self.server.manager
        found: dict[str, Any] = {}
        if "collect" in request.query:
            gc.collect()
            known = set(map(id, engine.sockets.values()))
            unfreed = [thing for thing in gc.get_objects() if isinstance(thing, Session) and id(thing) not in known]
            found["unfreed"] = len(unfreed)
            if "holders" in request.query and unfreed:
                session = unfreed.pop()
                found["holders"] = [f"session that ended by: {session.close_reason}", *holders_of(session)]
        process = psutil.Process()
        found |= {
            "sessions": len(engine.sockets),
            "members": len(manager.members),
            "rooms": sum(len(rooms) for rooms in manager.rooms.values()),
            "closing": len(engine.lingering),
            "tasks": sum(task.get_name() != SPARE_TASK_NAME for task in asyncio.all_tasks()),
            "files": process.num_fds(),
            "rss": process.memory_info().rss,
            "errors": self.errors.texts,
            "closed": {str(reason): count for reason, count in engine.counters.closed.items()},
        }
        return web.json_response(found)


def create_app(options: dict[str, Any]) -> web.Application:
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)  # for what is not ours it logs its own tracebacks
    server = gateway.Server(**{**OPTIONS, **options})
    soak = SoakApp(server)
    app = web.Application()
    server.attach(app)
    app.router.add_get("/inside", soak.inside)
    app.on_startup.append(soak.begin)
    app.on_shutdown.append(soak.end)
    return app


if __name__ == "__main__":
    apps.create_app = create_app
    apps.main()
