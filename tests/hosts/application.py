"""What the clients of two hosts do: enter a room, ask back, and have numbers said to everybody and to rooms."""

from __future__ import annotations

from typing import Any

from aiohttp import web

import gateway

server = gateway.Server(handshakes_per_second=0)
app = web.Application()
server.attach(app)


@server.event
async def enter(sid: str, room: str) -> bool:
    """True once everybody's messages to the room come here."""
    await server.enter_room(sid, room)
    assert server.cluster is not None
    return await server.cluster.synced(20)


@server.event
async def echo(sid: str, n: int, data: Any) -> tuple[int, Any]:
    return n, data


@server.event
async def to_all(sid: str, publisher: int, n: int, data: Any) -> None:
    await server.emit("said", ("all", publisher, n, data))


@server.event
async def to_room(sid: str, room: str, publisher: int, n: int, data: Any) -> None:
    await server.emit("said", (room, publisher, n, data), room=room)
