"""python-socketio on aiohttp and uvloop.  Usage: psio_aiohttp.py PORT"""

import sys
from typing import Any

import socketio
import uvloop
from aiohttp import web

sio = socketio.AsyncServer(async_mode="aiohttp", cors_allowed_origins="*", max_http_buffer_size=4 << 20)


@sio.event
async def echo(sid: str, data: Any) -> Any:
    return data


@sio.event
async def broadcast(sid: str, data: Any) -> None:
    await sio.emit("message", data)


app = web.Application()
sio.attach(app)
web.run_app(
    app,
    host="127.0.0.1",
    port=int(sys.argv[-1]),
    loop=uvloop.new_event_loop(),
    access_log=None,
    print=None,
    backlog=1024,
)
