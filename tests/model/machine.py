"""The machine without its rules: engine, clock and clients put together, what is checked after every rule, and how
every history ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine, invariant

from tests.model import reference
from tests.model.client import Client
from tests.model.network import Network
from tests.model.reference import Port
from tests.unit.transports.engine_doubles import FakeLoop
from transports import reasons
from transports.engine import Engine
from transports.hosts.listener import Listener
from transports.outbound import MESSAGE_OVERHEAD_BYTES, OutboundMessage
from transports.protocol.lifecycle import State
from transports.protocol.timing_wheel import UNSCHEDULED
from transports.session import Session

#: Time passes in slices, so that a ping and its time-out never fall in the same one.
SLICE_S = 2.5
BIG = 3000
#: What can be waiting beyond the bound: one message, and what base64 and framing add to those that were written.
MAY_WAIT_BYTES = reference.MAX_BUFFERED_BYTES * 4 // 3 + BIG * 2


class Application:
    """Hears everything; answers some messages, and ends the session on others (see ``SessionModel.packet``)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.client: Client | None = None  # whose handshake is under way
        self.decision: asyncio.Future[str | None] | str | None = None
        self.greeting: OutboundMessage | None = None

    def session_opens(self, session: Session) -> Any:
        assert self.client is not None
        session.application = self.client
        self.client.session = session
        if self.greeting is not None:
            self._engine.post(session, self.greeting)
        return self.decision

    def message_received(self, session: Session, data: str | bytes) -> None:
        session.application.inbox.append(data)
        if isinstance(data, str) and data.startswith("echo"):
            self._engine.post(session, OutboundMessage(b"4" + data.encode()))
        elif isinstance(data, str) and data.startswith("close"):
            session.close(reasons.SERVER_DISCONNECT)

    def session_closed(self, session: Session, reason: str) -> None:
        session.application.closings.append(reason)

    def deadline_passed(self, session: Session) -> None:
        raise AssertionError("nobody has set a deadline")


class _Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(logging.Formatter().format(record))


class Harness(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = FakeLoop()
        asyncio.events._set_running_loop(self.loop)
        self.errors = _Errors()
        logging.getLogger().addHandler(self.errors)
        logging.getLogger("tidegate").setLevel(logging.ERROR)  # slow clients are told of, in thousands
        self.engine = Engine(
            ping_interval=reference.PING_INTERVAL_S,
            ping_timeout=reference.PING_TIMEOUT_S,
            max_http_buffer_size=reference.MAX_PAYLOAD_BYTES,
            max_buffered_bytes=reference.MAX_BUFFERED_BYTES,
            upgrade_timeout=reference.UPGRADE_TIMEOUT_S,
            stream_max_bytes=reference.STREAM_MAX_BYTES,
            stream_max_s=reference.STREAM_MAX_S,
        )
        self.application = Application(self.engine)
        self.engine.application = self.application
        self.listener = Listener({"/engine.io/": self.engine}, None)
        self.network = Network(self.loop, self.listener)
        self.clients: list[Client] = []
        self.undecided: list[tuple[Client, asyncio.Future[str | None]]] = []
        self.number = 0
        self.steps = 0

    # -- parts of rules --------------------------------------------------------------------------------

    def client(self, who: int) -> Client:
        """One of those whose session lives; the last one once none does."""
        alive = self.alive() or self.clients[-1:]
        return alive[who % len(alive)]

    def alive(self) -> list[Client]:
        return [client for client in self.clients if client.model.state != "closed"]

    def client_where(self, who: int, applies: Callable[[Client], bool]) -> Client:
        fitting = [client for client in self.clients if applies(client)]
        return fitting[who % len(fitting)] if fitting else self.client(who)

    def upgrading(self) -> bool:
        return any(client.model.candidate is not None for client in self.clients)

    def uploading(self) -> bool:
        return any(client.uploads for client in self.clients)

    def new_message(self, kind: str) -> tuple[str | None, list[bytes]]:
        self.number += 1
        name = f"{self.number}"
        if kind == "text":
            return "4" + name, []
        if kind == "big":
            return "4" + name + "." * BIG, []
        if kind == "binary":
            return None, [name.encode()]
        return "4" + name, [b"a" + name.encode(), b"b" + name.encode()]

    def settle(self) -> None:
        """Run until nothing is left to do in this moment, and let the model judge what was written."""
        self.loop.settle()
        for client in self.clients:
            self._adopt_slow_end(client)
            client.judge()

    def _adopt_slow_end(self, client: Client) -> None:
        """The one end that the model leaves to the engine, and only allows: of a client that takes too little."""
        model, session = client.model, client.session
        if session is None or session.close_reason != reasons.SLOW_CLIENT or model.reason == reasons.SLOW_CLIENT:
            return
        assert model.state in ("opening", "open")
        wire = None if model.port.get is None else client.wire_of(model.port)
        waiting = sum(model.ledger.weights[model.ledger.written :]) + MESSAGE_OVERHEAD_BYTES + 1
        waiting += 0 if wire is None else wire.dropped_backlog + wire.backlog
        assert waiting > reference.MAX_BUFFERED_BYTES, f"{waiting} bytes are not too much"
        model.close(reasons.SLOW_CLIENT)
        # An answer to the first packets of a POST may have been too much; those behind it are not heard any more.
        assert client.inbox == model.heard[: len(client.inbox)]
        model.heard = list(client.inbox)

    def slice(self, seconds: float) -> None:
        until = self.loop.time() + seconds
        for client in self.clients:
            client.model.elapse(until)
            client.expire_uploads(until)
        self.loop.advance(seconds)
        self.settle()
        self.check()

    def attend(self, client: Client) -> None:
        """What a client in order does whenever it can: read, answer pings, keep a response open."""
        model = client.model
        client.read()
        port = model.port
        if model.state == "open" and client.session_id:
            pings, client.pings = client.pings, 0
            if pings and port.get is not None:
                client.send_packets(port, ["3"])
                self.settle()
        if model.state in ("open", "leaving") and client.session_id and port is model.port:
            self.open_next(client, port, 0)

    def open_next(self, client: Client, port: Port, padding: int) -> None:
        if port.name != "websocket" and client.has_read(port):
            ack = port.counted if port.is_counting else None
            client.open_get(port.name, ack, padding if port.name == "xhr-streaming" else 0)
            self.settle()

    def packets(self, kinds: Sequence[str]) -> list[str | bytes]:
        found: list[str | bytes] = []
        for kind in kinds:
            self.number += 1
            name = f"{self.number}"
            found.append(name.encode() if kind == "binary" else f"4echo{name}" if kind == "echo" else f"4{name}")
        return found

    def answer_handshake(self, is_accepted: bool) -> None:
        """The application makes up its mind about the client that has waited longest."""
        client, future = self.undecided.pop(0)
        client.decided(client.model.accept() if is_accepted else client.model.refuse())
        if not is_accepted:
            client.session = None
        future.set_result(None if is_accepted else "Not you")
        self.settle()
        client.read()

    def unjam(self, client: Client) -> None:
        for _, _, wire in client.gets:
            if wire.is_jammed and not wire.has_left:
                wire.unjam()
        self.settle()

    # -- what is always true ---------------------------------------------------------------------------

    @invariant()
    def after_each_rule(self) -> None:
        self.steps += 1
        self.check()
        for client in self.clients:
            if client.is_prompt:
                self.attend(client)
        self.check()

    def check(self) -> None:
        assert self.errors.seen == []
        assert self.loop.faults == []
        assert self.network.faults() == []
        for client in self.clients:
            self.check_client(client)
        alive = {client.session.id for client in self.clients if client.session and client.model.state != "closed"}
        assert set(self.engine.sockets) == alive

    def check_client(self, client: Client) -> None:
        model, session = client.model, client.session
        for ask in client.asks:
            ask.check()
        wire = None if model.port.get is None or model.state == "opening" else client.wire_of(model.port)
        model.check_at_rest([get for get, _, _ in client.gets], is_jammed=wire is not None and wire.is_jammed)
        assert client.inbox == model.heard
        has_ended = model.is_accepted and model.state in ("leaving", "closed")
        assert client.closings == ([model.reason] if has_ended else [])
        if session is None:
            return
        assert model.state != "closed" or session.wheel_slot == UNSCHEDULED
        is_upgrading = model.candidate is not None
        states = {"opening": State.OPENING, "leaving": State.CLOSING, "closed": session.state}
        assert session.state == states.get(model.state, State.UPGRADING if is_upgrading else State.OPEN)
        if model.is_open:
            assert session.transport == model.port.name
            # A response that is over belongs to its connection, not to what waits for the session.
            backlog = wire.backlog if wire is not None and model.port.is_held else 0
            waiting = sum(model.ledger.weights[model.ledger.written :]) + backlog
            assert waiting <= MAY_WAIT_BYTES
            assert session.backlog() <= MAY_WAIT_BYTES

    # -- how every history ends ------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if self.clients:
                self.everything_arrives()
                self.everybody_leaves()
        finally:
            logging.getLogger().removeHandler(self.errors)
            logging.getLogger("tidegate").setLevel(logging.NOTSET)
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.settle()
            asyncio.events._set_running_loop(None)
            self.loop.close()

    def everything_arrives(self) -> None:
        """Clients in order, given the time of an upgrade, have read all that was sent and not lost."""
        while self.undecided:
            self.answer_handshake(True)
        for client in self.clients:
            if not client.model.is_open:
                for upload in list(client.uploads):  # those of open sessions are left to the listener's patience
                    client.continue_upload(upload, len(upload.rest))
        self.settle()
        for _ in range(6):
            for client in self.clients:
                self.unjam(client)
                self.attend(client)
            self.slice(SLICE_S)
        for client in self.clients:
            self.attend(client)
            client.read()
            ledger = client.model.ledger
            if client.model.is_open:
                assert ledger.reached == len(ledger.sent), "not everything has arrived"

    def everybody_leaves(self) -> None:
        """Without the clients' help nothing is left of their sessions, and nothing in the clockwork."""
        for client in self.clients:
            if client.model.is_open and client.session is not None:
                for _, _, wire in client.gets:
                    wire.jam()
                client.model.ledger.send("4last", [])
                self.engine.post(client.session, OutboundMessage(b"4last"))
        self.settle()
        for _ in range(24):
            self.slice(SLICE_S)
        for client in self.clients:
            assert client.model.state == "closed", "dead but open"
            for ask in client.asks:
                assert ask.wire.has_left or (ask.expected is not None and ask.answer.status), "never answered"
        self.loop.advance(150)
        assert self.engine.sockets == {}
        assert self.engine.lingering == set()
        assert self.engine.timers._wheel._buckets == {}
        assert self.engine._queued == []
        assert self.engine._tasks == set()
        assert self.listener.connections == set()
        assert self.listener.timers._wheel._buckets == {}
        assert not self.loop.has_timers()
        assert all(wire.is_dead for wire in self.network.wires), "a connection is kept for ever"
        assert sum(self.engine.counters.closed.values()) == sum(client.model.is_accepted for client in self.clients)
        self.check()
