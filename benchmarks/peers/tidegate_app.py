"""tidegate behind its own listener.  Usage: tidegate_app.py PORT"""

import sys
from typing import Any

from aiohttp import web

import gateway

sio = gateway.Server(cors_allowed_origins="*")


@sio.event
async def echo(sid: str, data: Any) -> Any:
    return data


@sio.event
async def broadcast(sid: str, data: Any) -> None:
    await sio.emit("message", data)


app = web.Application()
sio.attach(app)
gateway.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
