"""The server of ``tests.support.apps`` with a window into it: ``GET /inside`` tells what it holds.

    python -m tests.support.watched [--listener fast|aiohttp] [--options JSON] [--loop uvloop|asyncio]

Any namespace that the options let in answers ``echo`` too.
"""

from __future__ import annotations

import asyncio
import gc
from dataclasses import asdict, dataclass
from typing import Any

from aiohttp import web

import gateway
from transports.eager_twin import SPARE_TASK_NAME

from . import apps

#: How long one ``slow`` event is handled.
SLOW_S = 0.05


@dataclass
class Slow:
    """The handlers of ``slow``: how many run, ran at most at a time, have ended, and began out of turn."""

    running: int = 0
    peak: int = 0
    handled: int = 0
    out_of_turn: int = 0
    expected: int = 0


class Watched:
    """Events whose cost is of interest, and the window."""

    def __init__(self, server: gateway.Server) -> None:
        self.server = server
        self.slow = Slow()
        server.on("echo", self.echo, namespace="*")
        server.on("join_many", self.join_many)
        server.on("slow", self.handle_slowly)
        server.on("slow_anew", self.begin_anew)

    async def echo(self, namespace: str, sid: str, *args: Any) -> tuple[Any, ...]:
        return args

    async def join_many(self, sid: str, prefix: str, count: int) -> int:
        """Enter the rooms prefix-0, prefix-1, …"""
        for n in range(count):
            await self.server.enter_room(sid, f"{prefix}-{n}")
        return len(self.server.rooms(sid))

    async def begin_anew(self, sid: str) -> None:
        self.slow = Slow()

    async def handle_slowly(self, sid: str, n: int) -> int:
        """Events are numbered from 0 on."""
        slow = self.slow
        slow.running += 1
        slow.peak = max(slow.peak, slow.running)
        slow.out_of_turn += n != slow.expected
        slow.expected = n + 1
        await asyncio.sleep(SLOW_S)
        slow.running -= 1
        slow.handled += 1
        return n

    async def inside(self, request: web.Request) -> web.Response:
        """``?collect``: after a collection."""
        if "collect" in request.query:
            gc.collect()
        engine, manager = self.server.eio, self.server.manager
        counters = engine.counters
        found = {
            "sessions": len(engine.sockets),
            "members": len(manager.members),
            "rooms": sum(len(rooms) for rooms in manager.rooms.values()),
            "closing": len(engine.lingering),
            "tasks": sum(task.get_name() != SPARE_TASK_NAME for task in asyncio.all_tasks()),
            "held_bytes": sum(session.held_bytes() for session in engine.sockets.values()),
            "opened": counters.opened,
            "messages_in": counters.messages_in,
            "held_for_handlers": counters.held_for_handlers,
            "refused": dict(counters.refused),
            "closed": {str(reason): count for reason, count in counters.closed.items()},
            "slow": asdict(self.slow),
        }
        return web.json_response(found)


def create_app(options: dict[str, Any]) -> web.Application:
    server = gateway.Server(**options)
    apps.App(server)
    watched = Watched(server)
    app = web.Application()
    server.attach(app)
    app.router.add_get("/inside", watched.inside)
    return app


if __name__ == "__main__":
    apps.create_app = create_app
    apps.main()
