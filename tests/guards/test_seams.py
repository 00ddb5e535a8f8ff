"""The private names of the libraries that we rely on. A release that moves one fails here, by name."""

from __future__ import annotations

import ast
import inspect
from typing import Any

import aiohttp.web
import engineio
import pytest
import socketio
from aiohttp import web_protocol, web_runner
from engineio import async_socket
from socketio import async_admin, async_manager, async_namespace, async_server, base_manager, msgpack_packet, packet

import gateway
from gateway.admin import InstrumentedServer
from gateway.codec import JsonPacket, MsgpackPacket
from tests.guards.source_tree import modules, tree
from transports.engine import Engine

#: By class: methods and class attributes, private or not in the documentation, that we call, override or read.
SEAMS: dict[type, tuple[str, ...]] = {
    engineio.AsyncServer: (
        "_generate_sid_cookie",
        "_get_socket",
        "get_session",
        "save_session",
        "session",
        "start_background_task",
        "create_event",
        "valid_transports",
    ),
    socketio.AsyncServer: (
        "_engineio_server_class",
        "_get_event_handler",
        "_get_namespace_handler",
        "_handle_eio_connect",
        "_handle_eio_disconnect",
        "_handle_eio_message",
        "_send_packet",
        "_trigger_event",
        "reason",
        "reserved_events",
    ),
    socketio.AsyncManager: (
        "_generate_ack_id",
        "basic_close_room",
        "basic_disconnect",
        "basic_enter_room",
        "basic_leave_room",
        "can_disconnect",
        "close_room",
        "connect",
        "disconnect",
        "eio_sid_from_sid",
        "emit",
        "enter_room",
        "get_namespaces",
        "get_participants",
        "get_rooms",
        "initialize",
        "is_connected",
        "leave_room",
        "pre_connect",
        "pre_disconnect",
        "set_server",
        "sid_from_eio_sid",
        "trigger_callback",
    ),
    packet.Packet: ("add_attachment", "decode", "encode", "json"),
    msgpack_packet.MsgPackPacket: ("configure", "decode", "dumps_default", "encode", "ext_hook"),
    async_namespace.AsyncNamespace: ("_set_server", "is_asyncio_based", "trigger_event"),
    async_admin.InstrumentedAsyncServer: (
        "_basic_enter_room",
        "_basic_leave_room",
        "_emit",
        "_emit_server_stats",
        "_trigger_event",
        "admin_connect",
        "admin_disconnect",
        "admin_emit",
        "admin_enter_room",
        "admin_leave_room",
        "instrument",
    ),
    web_protocol.RequestHandler: ("connection_lost", "connection_made", "data_received", "set_parser"),
    aiohttp.web.AppRunner: ("server", "setup", "cleanup"),
    web_runner.BaseSite: ("_server", "name", "start", "stop"),
}

#: What the constructors must set, by the attributes that we read.
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "engine": ("allow_upgrades", "compression_threshold", "cookie", "handlers", "http_compression", "async_mode"),
    "server": (
        "always_connect",
        "async_handlers",
        "eio",
        "handlers",
        "manager",
        "namespace_handlers",
        "namespaces",
        "not_handled",
        "packet_class",
    ),
}

#: Names that the base class mangles with its own, by the method that uses them.
MANGLED = {
    "_trigger_event": "_InstrumentedAsyncServer__trigger_event",
    "_basic_enter_room": "_InstrumentedAsyncServer__basic_enter_room",
    "_basic_leave_room": "_InstrumentedAsyncServer__basic_leave_room",
    "_emit": "_InstrumentedAsyncServer__emit",
}

OURS = {
    Engine: engineio.AsyncServer,
    gateway.Server: socketio.AsyncServer,
    gateway.ChannelManager: socketio.AsyncManager,
    JsonPacket: packet.Packet,
    MsgpackPacket: msgpack_packet.MsgPackPacket,
    InstrumentedServer: async_admin.InstrumentedAsyncServer,
    gateway.AppRunner: aiohttp.web.AppRunner,
}


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner, names in SEAMS.items() for name in names])
def test_seam_is_where_it_was(owner: type, name: str) -> None:
    assert hasattr(owner, name), f"{owner.__module__}.{owner.__qualname__} has no {name} any more"


@pytest.mark.parametrize("name", ATTRIBUTES["engine"])
def test_engines_constructor_sets_what_is_read(name: str) -> None:
    assert hasattr(engineio.AsyncServer(async_mode="aiohttp"), name)


@pytest.mark.parametrize("name", ATTRIBUTES["server"])
def test_servers_constructor_sets_what_is_read(name: str) -> None:
    assert hasattr(socketio.AsyncServer(async_mode="aiohttp"), name)


def test_manager_sets_its_server_and_nothing_that_is_a_property_here() -> None:
    manager = socketio.AsyncManager()
    server = socketio.AsyncServer(async_mode="aiohttp", client_manager=manager)
    assert manager.server is server
    assert {"rooms", "callbacks", "server"} <= set(vars(manager))


def _parameters(function: Any) -> dict[str, inspect.Parameter]:
    return {name: found for name, found in inspect.signature(function).parameters.items() if name != "self"}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Engine.__init__, engineio.base_server.BaseServer.__init__),
        (gateway.Server.__init__, socketio.base_server.BaseServer.__init__),
        (gateway.Server.emit, socketio.AsyncServer.emit),
        (gateway.Server.call, socketio.AsyncServer.call),
        (gateway.Server.disconnect, socketio.AsyncServer.disconnect),
        (gateway.Server.get_session, socketio.AsyncServer.get_session),
        (gateway.Server.save_session, socketio.AsyncServer.save_session),
        (gateway.Server.transport, socketio.AsyncServer.transport),
        (gateway.Server.get_environ, socketio.AsyncServer.get_environ),
        (gateway.Server.on, socketio.AsyncServer.on),
        (gateway.Server.register_namespace, socketio.AsyncServer.register_namespace),
        (gateway.Server.instrument, socketio.AsyncServer.instrument),
        (gateway.Server.attach, socketio.AsyncServer.attach),
        (gateway.ChannelManager.emit, async_manager.AsyncManager.emit),
        (gateway.ChannelManager.basic_enter_room, base_manager.BaseManager.basic_enter_room),
        (gateway.ChannelManager.basic_leave_room, base_manager.BaseManager.basic_leave_room),
        (gateway.ChannelManager.basic_close_room, base_manager.BaseManager.basic_close_room),
        (gateway.ChannelManager.get_participants, base_manager.BaseManager.get_participants),
        (gateway.ChannelManager.connect, async_manager.AsyncManager.connect),
        (gateway.ChannelManager.pre_connect, async_manager.AsyncManager.pre_connect),
        (gateway.ChannelManager.trigger_callback, async_manager.AsyncManager.trigger_callback),
        (JsonPacket.__init__, packet.Packet.__init__),
    ],
    ids=lambda function: function.__qualname__,
)
def test_every_parameter_of_theirs_is_one_of_ours(ours: Any, theirs: Any) -> None:
    given = _parameters(ours)
    if any(found.kind is inspect.Parameter.VAR_KEYWORD for found in given.values()):
        return
    missing = [
        name
        for name, found in _parameters(theirs).items()
        if found.kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL) and name not in given
    ]
    assert missing == []


def test_send_takes_what_theirs_takes_by_position() -> None:
    names = list(_parameters(socketio.AsyncServer.emit))[1:]
    assert list(_parameters(gateway.Server.emit))[1 : len(names) + 1] == names


@pytest.mark.parametrize(("method", "mangled"), MANGLED.items())
def test_admin_calls_the_originals_by_their_mangled_names(method: str, mangled: str) -> None:
    assert mangled in getattr(async_admin.InstrumentedAsyncServer, method).__code__.co_names


def test_event_handlers_are_resolved_with_their_prefix() -> None:
    server = socketio.AsyncServer(async_mode="aiohttp")
    server.on("*", print, namespace="*")
    assert server._get_event_handler("a", "/b", ("sid",)) == (print, ("a", "/b", "sid"))
    namespace = socketio.AsyncNamespace("*")
    server.register_namespace(namespace)
    assert server._get_namespace_handler("/b", ("sid",)) == (namespace, ("/b", "sid"))


@pytest.mark.parametrize(("ours", "theirs"), OURS.items(), ids=lambda found: found.__qualname__)
def test_no_private_name_of_theirs_is_overridden_unnamed(ours: type, theirs: type) -> None:
    known = {name for owner in theirs.__mro__ for name in SEAMS.get(owner, ())}
    overridden = {
        name
        for name in vars(ours)
        if name.startswith("_") and not name.startswith(("__", "_abc_")) and hasattr(theirs, name) and name not in known
    }
    assert overridden == set(), "name it in SEAMS"


def test_no_private_name_of_theirs_is_used_unnamed() -> None:
    theirs = {
        name
        for owner in (*SEAMS, async_server.AsyncServer, async_socket.AsyncSocket)
        for name in dir(owner)
        if name.startswith("_") and not name.startswith("__")
    }
    named = {name for names in SEAMS.values() for name in names}
    used: dict[str, set[str]] = {}
    for module in modules():
        own = {
            node.name for node in ast.walk(tree(module)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        } | {
            node.attr
            for node in ast.walk(tree(module))
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        }
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.Attribute) and node.attr in theirs - named - own:
                used.setdefault(module, set()).add(node.attr)
    assert used == {}, "name them in SEAMS"
