"""The whole gateway: what several connections send, interleaved, on a clock that the input moves.

The input is a script, lines apart: ``<action><connection><rest>``. Session ids are ``id1``, ``id2`` … in the order
of their making, so that a script can name them. Nothing may raise or be logged as an error; a bystander is
served all along; and when everybody has gone and all deadlines have passed, nothing is left.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import re
import weakref
from typing import Any

import gateway
from tests.unit.transports.engine_doubles import KEY, FakeLoop, client_frame, running_loop
from transports.eager_twin import SPARE_TASK_NAME
from transports.hosts.listener import Listener
from transports.protocol import frames
from transports.session import Session

from .wire import ServerFrame, Wire, check_written

CONNECTIONS = 4
#: Between the actions of a script: no byte that UTF-8 text has.
BREAK = b"\xff\n"
MAX_ACTIONS = 60
STEPS_S = (0.02, 0.5, 2.0, 6.0, 21.0)
#: Longer than every deadline of transports and listener.
FOREVER_S = 500.0
_OPCODES = {
    b"c": frames.CONTINUATION,
    b"t": frames.TEXT,
    b"b": frames.BINARY,
    b"x": frames.CLOSE,
    b"i": frames.PING,
    b"o": frames.PONG,
}
_HEAD = " HTTP/1.1\r\nHost: h\r\n"
_UPGRADE = f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
_PATH = "/socket.io/?EIO=4&transport="
#: Requests by one letter; ``%s`` is what follows it, such as ``&sid=id2``.
REQUESTS = {
    "p": "GET " + _PATH + "polling%s" + _HEAD + "\r\n",
    "s": "GET " + _PATH + "xhr-streaming%s" + _HEAD + "\r\n",
    "w": "GET " + _PATH + "websocket%s" + _HEAD + _UPGRADE + "\r\n",
}
_POST = re.compile(rb"([a-z0-9-]*)([^ ]{0,60})(?: |$)(.*)", re.DOTALL)


class Errors(logging.Handler):
    """What should never be logged: errors, and whatever comes with a traceback."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or record.exc_info:
            self.records.append(logging.Formatter().format(record))


class World:
    """A server with short times and small bounds, its application, and the connections of the script."""

    def __init__(self, loop: FakeLoop, *, msgpack: bool, async_handlers: bool) -> None:
        self.loop = loop
        self.sessions: list[weakref.ref[Session]] = []
        self.server = gateway.Server(
            serializer="msgpack" if msgpack else "default",
            async_handlers=async_handlers,
            namespaces=["/", "/slow", "/refuse"],
            ping_interval=5,
            ping_timeout=4,
            upgrade_timeout=3,
            connect_timeout=6,
            max_http_buffer_size=4000,
            max_buffered_bytes=20_000,
            stream_max_bytes=2000,
            stream_max_s=10,
            compression_threshold=500,
        )
        ids = itertools.count(1)
        self.server.eio.generate_id = lambda: f"id{next(ids)}"  # type: ignore[method-assign]
        create_session = self.server.eio.create_session

        def create(request: Any) -> Session:
            session = create_session(request)
            self.sessions.append(weakref.ref(session))
            return session

        self.server.eio.create_session = create  # type: ignore[method-assign]
        self.listener = Listener({"/socket.io/": self.server.eio}, None)
        self.connections: dict[int, Wire] = {}
        self.wires: list[Wire] = []
        self._register()

    def _register(self) -> None:
        """Handlers that raise nothing, whatever they are sent."""
        server = self.server

        async def connect(sid: str, environ: dict[str, Any], auth: Any) -> None:
            pass

        async def slow(sid: str, environ: dict[str, Any], auth: Any) -> None:
            await asyncio.sleep(1)

        async def refuse(sid: str, environ: dict[str, Any], auth: Any) -> None:
            raise gateway.ConnectionRefusedError("no", auth)

        async def call(sid: str, *args: Any) -> Any:
            if not server.async_handlers:
                return None
            try:
                return await server.call("question", args, to=sid, timeout=2)
            except gateway.TimeoutError:
                return "no answer"

        async def late(sid: str, *args: Any) -> Any:
            await asyncio.sleep(1)
            return args

        async def join(sid: str, *args: Any) -> None:
            if server.manager.member(sid, "/") is not None:
                await server.enter_room(sid, str(args[:1]))

        async def leave(sid: str, *args: Any) -> None:
            await server.leave_room(sid, str(args[:1]))

        async def shout(sid: str, *args: Any) -> None:
            await server.emit("shout", args, room=str(args[:1]), volatile=len(args) > 2)

        async def everybody(sid: str, *args: Any) -> None:
            await server.emit("news", args, skip_sid=sid)

        async def bye(sid: str, *args: Any) -> None:
            await server.disconnect(sid)

        async def flood(sid: str, *args: Any) -> None:
            for _ in range(5):
                await server.emit("flood", "x" * 1500, to=sid)

        for namespace, handler in (("/", connect), ("/slow", slow), ("/refuse", refuse)):
            server.on("connect", handler, namespace=namespace)
        server.on("echo", lambda sid, *args: args)
        for handler_of_event in (call, late, join, leave, shout, everybody, bye, flood):
            server.on(handler_of_event.__name__, handler_of_event)

    def open(self, index: int) -> Wire:
        """The connection; a new one in the place of one that is lost."""
        wire = self.connections.get(index)
        if wire is None or not wire.is_open:
            wire = self.connections[index] = Wire(self.loop, self.listener())
            self.wires.append(wire)
        return wire

    # -- the script ------------------------------------------------------------------------------------

    def act(self, line: bytes) -> None:
        action, index, rest = line[:1], line[1:2], line[2:]
        wire = self.open(index[0] % CONNECTIONS if index else 0)
        if action in _OPCODES:
            wire.receive(client_frame(_OPCODES[action], rest, mask=b"\0\0\0\0"))
        elif action == b"f":  # the first of several frames
            wire.receive(client_frame(frames.TEXT, rest, fin=False))
        elif action == b"g":  # a request of the usual form
            template = REQUESTS.get(rest[:1].decode("latin-1"), REQUESTS["p"])
            wire.receive(template.encode() % rest[1:].replace(b" ", b"+"))
        elif action == b"P":  # a POST: transport, further parameters, a space and the body
            match = _POST.fullmatch(rest)
            transport, parameters, body = match.groups() if match is not None else (b"", b"", b"")
            target = _PATH.encode() + (transport or b"polling") + parameters
            wire.receive(b"POST %b%bContent-Length: %d\r\n\r\n%b" % (target, _HEAD.encode(), len(body), body))
        elif action == b"e":
            wire.end()
        elif action == b"l":
            wire.lose(ConnectionResetError() if rest else None)
        elif action == b"j":
            wire.jam()
        elif action == b"u":
            wire.unjam()
        elif action == b"n":  # the next action comes in the same turn of the loop
            return
        elif action == b"w":
            return  # see ``run``
        else:
            wire.receive(line[2:] if action == b"r" else line)


class Bystander:
    """A client that does everything right: it answers pings, and asks for an echo whenever it is its turn."""

    def __init__(self, world: World, *, msgpack: bool) -> None:
        self.world = world
        self.msgpack = msgpack
        self.echoes = 0
        self.sent = 0
        self.wire = world.open(CONNECTIONS)
        self._read = 0
        self.wire.receive((REQUESTS["w"] % "").encode())
        world.loop.settle()
        self.take()
        self.say(0, None, None)
        self.take()

    def say(self, kind: int, data: Any, ack_id: int | None) -> None:
        if self.msgpack:
            packet: Any = gateway.codec.MsgpackPacket(kind, data, "/", ack_id)
            self.wire.receive(client_frame(frames.BINARY, packet.encode()))
        else:
            text = gateway.codec.JsonPacket(kind, data, "/", ack_id).encode()
            assert isinstance(text, str)
            self.wire.receive(client_frame(frames.TEXT, "4" + text))
        self.world.loop.settle()

    def take(self) -> None:
        """Read what has come, and answer pings."""
        data = bytes(self.wire.written)
        if not self._read:
            self._read = data.index(b"\r\n\r\n") + 4
        while self._read < len(data):
            frame = ServerFrame(data[self._read :])
            self._read += frame.size
            if frame.payload == b"2":
                self.wire.receive(client_frame(frames.TEXT, "3"))
            elif self.answers(frame.payload):
                self.echoes += 1
        self.world.loop.settle()

    def answers(self, payload: bytes) -> bool:
        """Whether this is the ack of the echo that is due."""
        if not self.msgpack:
            return payload == b'43%d["hello"]' % self.sent
        if payload[:1] != b"\x83" and payload[:1] != b"\x84":
            return False
        packet = gateway.codec.MsgpackPacket(encoded_packet=payload) if b"hello" in payload else None
        return packet is not None and packet.packet_type == 3 and packet.id == self.sent

    def echo(self) -> None:
        assert self.wire.is_open, "the bystander was disconnected"
        self.sent += 1
        self.say(2, ["echo", "hello"], self.sent)
        self.take()
        assert self.echoes == self.sent, "the bystander was not answered"


def check(data: bytes) -> None:
    """The last byte chooses the serializer and the order of handlers."""
    options = data[-1] if data else 0
    errors = Errors()
    loggers = [logging.getLogger(name) for name in ("tidegate", "asyncio", "engineio", "socketio")]
    for logger in loggers:
        logger.addHandler(errors)
        logger.propagate = False
    try:
        with running_loop() as loop:
            world = World(loop, msgpack=bool(options & 1), async_handlers=not options & 2)
            run(world, data[:-1].split(BREAK)[:MAX_ACTIONS], msgpack=bool(options & 1))
            assert loop.faults == [], loop.faults
        assert errors.records == [], errors.records[0]
        if options & 0xF0 == 0x50:
            check_memory(world)
    finally:
        for logger in loggers:
            logger.removeHandler(errors)
            logger.propagate = True


def run(world: World, script: list[bytes], *, msgpack: bool) -> None:
    loop = world.loop
    bystander = Bystander(world, msgpack=msgpack)
    for line in script:
        world.act(line)
        if line[:1] == b"w":
            wait(bystander, STEPS_S[(line[1] if len(line) > 1 else 0) % len(STEPS_S)])
        elif line[:1] != b"n":
            loop.settle()
    bystander.take()
    bystander.echo()
    assert len(world.server.eio.sockets) <= len(world.sessions)
    for wire in world.wires:
        wire.lose(None)
        loop.settle()
    loop.advance(FOREVER_S)
    check_nothing_is_left(world)


def wait(bystander: Bystander, seconds: float) -> None:
    """Time passes; the bystander must be there to answer its pings."""
    while seconds > 0:
        bystander.world.loop.advance(min(seconds, 2.0))
        bystander.take()
        seconds -= 2.0


def check_nothing_is_left(world: World) -> None:
    server, loop = world.server, world.loop
    assert server.eio.sockets == {}, "a session is left"
    assert server.manager.members == {}, "a member is left"
    assert server.manager.rooms == {}, "a room is left"
    assert not server.eio.lingering, "a port is left"
    assert not world.listener.connections, "a connection is left"
    left = [task.get_name() for task in asyncio.all_tasks(loop)]
    assert left in ([], [SPARE_TASK_NAME]), "a task is left"
    timers = [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]
    assert timers == [], f"a timer is left: {timers}"
    for wire in world.wires:
        check_written(bytes(wire.written), was_cut=wire.was_cut)


def check_memory(world: World) -> None:
    """Sessions are freed. The collector is slow, so only some inputs ask for it."""
    gc.collect()
    assert [session() for session in world.sessions if session() is not None] == []
