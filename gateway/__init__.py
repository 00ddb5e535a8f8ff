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
from .connection import ConnectionInfo, EventArgumentsError, SocketConnection, event
from .dispatch import NOT_HANDLED
from .middleware import EventRefusedError, TooManyRoomsError
from .remote_socket import RemoteSocket
from .router import Router, RouterSession
from .runner import AppRunner, run, run_app
from .server import Server

__all__ = [
    "NOT_HANDLED",
    "AppRunner",
    "BroadcastAnswers",
    "ChannelManager",
    "ConnectionInfo",
    "ConnectionRefusedError",
    "EventArgumentsError",
    "EventRefusedError",
    "Namespace",
    "RemoteSocket",
    "Router",
    "RouterSession",
    "Server",
    "SocketConnection",
    "TimeoutError",
    "TooManyRoomsError",
    "event",
    "run",
    "run_app",
]
