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
from .brokers.base import BrokerError, BrokerLimits, BrokerUnavailableError
from .channels import ChannelManager
from .connection import ConnectionInfo, EventArgumentsError, SocketConnection, event
from .dispatch import NOT_HANDLED
from .emitter import AsyncEmitter, Emitter
from .foreign_emitters import ForeignEmitters
from .middleware import EventRefusedError, TooManyRoomsError
from .node_messages import NodeError
from .remote_socket import RemoteSocket
from .router import Router, RouterSession
from .runner import AppRunner, run, run_app
from .server import Server
from .server_side import NodeAnswers

__all__ = [
    "NOT_HANDLED",
    "AppRunner",
    "AsyncEmitter",
    "BroadcastAnswers",
    "BrokerError",
    "BrokerLimits",
    "BrokerUnavailableError",
    "ChannelManager",
    "ConnectionInfo",
    "ConnectionRefusedError",
    "Emitter",
    "EventArgumentsError",
    "EventRefusedError",
    "ForeignEmitters",
    "Namespace",
    "NodeAnswers",
    "NodeError",
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
