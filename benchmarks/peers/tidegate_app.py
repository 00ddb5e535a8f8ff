"""tidegate behind its own listener.  Usage: tidegate_app.py [--compression] PORT"""

import asyncio
import sys
from typing import Any

from aiohttp import web

import gateway

sio = gateway.Server(
    cors_allowed_origins="*",
    max_http_buffer_size=4 << 20,
    websocket_compression="--compression" in sys.argv,
)


@sio.event
async def echo(sid: str, data: Any) -> Any:
    return data


@sio.event
async def slow(sid: str, data: Any) -> Any:
    await asyncio.sleep(0.1)
    return data


@sio.event
async def broadcast(sid: str, data: Any) -> None:
    await sio.emit("message", data)


app = web.Application()
sio.attach(app)
gateway.run_app(app, host="127.0.0.1", port=int(sys.argv[-1]), access_log=None, print=None)
