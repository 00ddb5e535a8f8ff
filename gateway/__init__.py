"""tidegate: a Socket.IO gateway for Python.

::

    import gateway
    from aiohttp import web

    server = gateway.Server()

    @server.event
    async def chat(sid, text):
        await server.emit("chat", text)

    app = web.Application()
    server.attach(app)
    gateway.run_app(app, port=8000)
"""

from socketio import AsyncNamespace as Namespace
from socketio.exceptions import ConnectionRefusedError, TimeoutError  # noqa: A004 - python-socketio's names

from .acks import BroadcastAnswers
from .channels import ChannelManager
from .remote_socket import RemoteSocket
from .runner import AppRunner, run, run_app
from .server import EventRefusedError, Server

__all__ = [
    "AppRunner",
    "BroadcastAnswers",
    "ChannelManager",
    "ConnectionRefusedError",
    "EventRefusedError",
    "Namespace",
    "RemoteSocket",
    "Server",
    "TimeoutError",
    "run",
    "run_app",
]
