"""Sessions, transports and upgrades against the model in ``reference.py``, over random histories.

The system is the real engine behind the real listener; only the kernel and the clock are the test's. A run is
the same every time; ``MODEL_EXAMPLES=5000`` makes it long and random (``MODEL_STEPS``: rules in one history, 60).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.model import reference
from tests.model.client import Client
from tests.model.network import Network
from tests.model.reference import OK, RANKS, Get, Port, SessionModel
from tests.unit.transports.engine_doubles import FakeLoop, client_frame
from transports import reasons
from transports.engine import Engine
from transports.hosts.listener import Listener
from transports.outbound import MESSAGE_OVERHEAD_BYTES, OutboundMessage
from transports.protocol.lifecycle import State
from transports.session import Session

#: Time passes in slices, so that a ping and its time-out never fall in the same one.
SLICE_S = 2.5
BIG = 3000
#: What can be waiting beyond the bound: one message, and what base64 and framing add to those that were written.
MAY_WAIT_BYTES = reference.MAX_BUFFERED_BYTES * 4 // 3 + BIG * 2

whos = st.integers(0, 2)
transports = st.sampled_from(list(RANKS))
kinds = st.lists(st.sampled_from(["text", "binary", "attached", "big"]), min_size=1, max_size=5)
segments = st.sampled_from([1 << 20, 1 << 20, 7, 1])
client_messages = st.lists(st.sampled_from(["text", "text", "binary", "echo"]), min_size=1, max_size=4)
paddings = st.sampled_from([0, 0, 2, 50])


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


class SessionMachine(RuleBasedStateMachine):
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

    # -- beginnings ------------------------------------------------------------------------------------

    @initialize(transport=transports, counts=st.booleans())
    def first(self, transport: str, counts: bool) -> None:
        self.connect(transport, counts, 0, "accept", False, True)

    @precondition(lambda self: len(self.alive()) < 3)
    @rule(
        transport=transports,
        counts=st.booleans(),
        padding=paddings,
        decision=st.sampled_from(["accept", "accept", "wait", "refuse"]),
        greets=st.booleans(),
        keeps_alive=st.booleans(),
    )
    def connect(
        self, transport: str, counts: bool, padding: int, decision: str, greets: bool, keeps_alive: bool
    ) -> None:
        is_stream = transport == "xhr-streaming"
        ack = 0 if counts and is_stream else None
        model = SessionModel(self.loop.time, transport, ack, Get(padding=padding if is_stream else 0))
        client = Client(self.network, model, keeps_alive=keeps_alive)
        self.clients.append(client)
        self.application.client = client
        greeting = self.new_message("attached") if greets else None
        self.application.greeting = None
        if greeting is not None:
            self.application.greeting = OutboundMessage((greeting[0] or "").encode(), greeting[1])
        self.application.decision = None if decision == "accept" else "Not you"
        if decision == "wait":
            future: asyncio.Future[str | None] = self.loop.create_future()
            self.application.decision = future
            self.undecided.append((client, future))
        query = f"transport={transport}" + ("" if ack is None else "&ack=0")
        client.connect(query + (f"&padding={padding}" if padding and is_stream else ""))
        if greeting is not None:
            model.ledger.send(*greeting)
        if decision == "accept":
            client.decided(model.accept())
        elif decision == "refuse":
            client.decided(model.refuse())
            client.session = None
        self.settle()
        client.read()

    @precondition(lambda self: self.undecided)
    @rule(is_accepted=st.booleans())
    def decide(self, is_accepted: bool) -> None:
        client, future = self.undecided.pop(0)
        client.decided(client.model.accept() if is_accepted else client.model.refuse())
        if not is_accepted:
            client.session = None
        future.set_result(None if is_accepted else "Not you")
        self.settle()
        client.read()

    @precondition(lambda self: self.undecided)
    @rule(reset=st.booleans())
    def leave_before_the_decision(self, reset: bool) -> None:
        client, _ = self.undecided[0]
        if client.model.state == "opening":
            client.cut(client.model.port, reset=reset)
            self.settle()

    # -- the server ------------------------------------------------------------------------------------

    @rule(who=whos, kinds=kinds, times=st.sampled_from([1, 1, 1, 5]), closes=st.sampled_from([False] * 9 + [True]))
    def server_sends(self, who: int, kinds: list[str], times: int, closes: bool) -> None:
        client = self.client(who)
        if client.session is None:
            return
        for kind in kinds * times:
            text, attachments = self.new_message(kind)
            if client.model.state in ("opening", "open"):
                client.model.ledger.send(text, attachments)
            message = OutboundMessage(None if text is None else text.encode(), attachments)
            self.engine.post(client.session, message)
        if closes and client.session.close_reason == "":
            client.model.close(reasons.SERVER_DISCONNECT)
            client.session.close(reasons.SERVER_DISCONNECT)
        self.settle()

    @rule(kinds=kinds)
    def server_broadcasts(self, kinds: list[str]) -> None:
        members = [client for client in self.clients if client.session is not None and client.model.state != "opening"]
        for kind in kinds:
            text, attachments = self.new_message(kind)
            for client in members:
                if client.model.is_open:
                    client.model.ledger.send(text, attachments)
            message = OutboundMessage(None if text is None else text.encode(), attachments)
            self.engine.broadcast([client.session for client in members if client.session is not None], message)
        self.settle()

    @rule()
    def server_broadcasts_volatile(self) -> None:
        text, _ = self.new_message("text")
        for client in self.clients:
            model = client.model
            if model.is_open and model.port.is_held and not client.wire_of(model.port).is_paused:
                model.ledger.send(text, [])
        sessions = [client.session for client in self.clients if client.session is not None]
        self.engine.broadcast_volatile(sessions, OutboundMessage((text or "").encode()))
        self.settle()

    # -- time ------------------------------------------------------------------------------------------

    @rule(slices=st.integers(1, 8), attentive=st.sampled_from([0, 7, 7, 7, 1, 2, 6]))
    def time_passes(self, slices: int, attentive: int) -> None:
        for _ in range(slices):
            for place, client in enumerate(self.clients):
                if attentive >> place & 1:
                    self.attend(client)
            self.slice(SLICE_S)

    # -- a client in order -----------------------------------------------------------------------------

    @rule(who=whos)
    def client_reads(self, who: int) -> None:
        self.client(who).read()

    @rule(who=whos)
    def client_attends(self, who: int) -> None:
        self.attend(self.client(who))

    @rule(who=whos, padding=paddings)
    def client_opens_the_next_response(self, who: int, padding: int) -> None:
        client = self.client(who)
        if client.session_id:
            self.open_next(client, client.model.port, padding)

    @rule(who=whos, kinds=client_messages, segment=segments, chunked=st.booleans())
    def client_sends(self, who: int, kinds: list[str], segment: int, chunked: bool) -> None:
        client = self.client(who)
        port = client.model.port
        if client.session_id and port.name == "websocket":
            if port.is_held:
                client.send_frames(port, self.packets(kinds), segment)
        elif client.session_id:
            client.post(port.name, self.packets(kinds), segment, chunked=chunked)
        self.settle()

    @rule(who=whos, kinds=client_messages, chunked=st.booleans(), on_candidate=st.booleans())
    def client_begins_a_post(self, who: int, kinds: list[str], chunked: bool, on_candidate: bool) -> None:
        client = self.client(who)
        model = client.model
        port = model.candidate if on_candidate and model.candidate is not None else model.port
        if client.session_id and port.name != "websocket":
            packets = ["2probe"] if port is model.candidate else self.packets(kinds)
            client.begin_upload(port.name, packets, chunked=chunked)
            self.settle()

    @precondition(lambda self: self.uploading())
    @rule(who=whos, size=st.sampled_from([1, 5, 1 << 20]))
    def client_goes_on_with_its_post(self, who: int, size: int) -> None:
        client = self.client_where(who, lambda client: bool(client.uploads))
        if client.uploads:
            client.continue_upload(client.uploads[0], size)
            self.settle()

    @precondition(lambda self: self.uploading())
    @rule(who=whos, reset=st.booleans())
    def network_cuts_a_post(self, who: int, reset: bool) -> None:
        client = self.client_where(who, lambda client: bool(client.uploads))
        if client.uploads:
            client.cut_upload(client.uploads[0], reset=reset)
            self.settle()

    @rule(who=whos)
    def client_answers_no_ping(self, who: int) -> None:
        """A pong that nobody has asked for is no fault."""
        client = self.client(who)
        port = client.model.port
        if client.session_id and client.model.is_open and port.get is not None:
            if port.name != "websocket" or port.is_held:
                client.send_packets(port, ["3"])
                self.settle()

    # -- a counting client resumes ---------------------------------------------------------------------

    @rule(who=whos, padding=paddings, leaves_old=st.booleans())
    def client_resumes_its_stream(self, who: int, padding: int, leaves_old: bool) -> None:
        client = self.client(who)
        for port in (client.model.port, client.model.candidate):
            if port is not None and port.is_counting and client.session_id and port.get is not None:
                older = client.wire_of(port)
                client.open_get("xhr-streaming", port.counted, padding)
                self.settle()
                if leaves_old:
                    older.hang_up()
                    self.settle()

    # -- upgrades --------------------------------------------------------------------------------------

    @rule(who=whos, onto=st.sampled_from(["xhr-streaming", "websocket", "websocket"]), counts=st.booleans())
    def client_begins_an_upgrade(self, who: int, onto: str, counts: bool) -> None:
        client = self.client(who)
        if not client.session_id or client.model.port_named(onto) is not None and onto == "xhr-streaming":
            return
        if onto == "websocket":
            client.open_websocket()
        else:
            client.open_get("xhr-streaming", 0 if counts else None)
        self.settle()

    @precondition(lambda self: self.upgrading())
    @rule(who=whos, segment=segments)
    def client_probes(self, who: int, segment: int) -> None:
        client = self.client_where(who, lambda client: client.model.candidate is not None)
        candidate = client.model.candidate
        if candidate is not None and not candidate.is_probed:
            client.send_packets(candidate, ["2probe"], segment)
            self.settle()

    @precondition(lambda self: self.upgrading())
    @rule(who=whos, kinds=st.lists(st.sampled_from(["text", "binary"]), max_size=3), segment=segments)
    def client_completes_the_upgrade(self, who: int, kinds: list[str], segment: int) -> None:
        client = self.client_where(who, lambda client: client.model.candidate is not None)
        candidate = client.model.candidate
        if candidate is not None and candidate.has_answered_probe:
            client.read()
            if client.can_leave(client.model.port):
                client.send_packets(candidate, ["5", *self.packets(kinds)], segment)
                self.settle()

    @rule(who=whos, onto=st.sampled_from(["xhr-streaming", "websocket"]), counts=st.booleans())
    def client_upgrades(self, who: int, onto: str, counts: bool) -> None:
        """All of it, as a client in order does: the whole rarely comes together from the single steps."""
        self.client_begins_an_upgrade(who, onto, counts)
        self.client_probes(who, 1 << 20)
        self.client_completes_the_upgrade(who, [], 1 << 20)

    @precondition(lambda self: self.upgrading())
    @rule(who=whos, how=st.sampled_from(["cut", "reset", "close", "message", "pong", "5", "broken"]))
    def client_abandons_the_upgrade(self, who: int, how: str) -> None:
        client = self.client_where(who, lambda client: client.model.candidate is not None)
        candidate = client.model.candidate
        if candidate is None:
            return
        if how in ("cut", "reset"):
            client.cut(candidate, reset=how == "reset")
        elif how == "close":
            if candidate.name == "websocket":
                client.close_websocket(candidate)
        elif how == "broken":
            self.break_the_protocol(client, candidate, "9")
        elif how != "5" or not candidate.is_probed:
            client.send_packets(candidate, self.packets(["text"]) if how == "message" else ["3" if how == "pong" else "5"])
        self.settle()

    # -- the network -----------------------------------------------------------------------------------

    @rule(who=whos, reset=st.booleans())
    def network_cuts_the_response(self, who: int, reset: bool) -> None:
        client = self.client(who)
        port = client.model.port
        if port.get is not None and not client.has_read(port) and not client.wire_of(port).has_left:
            client.cut(port, reset=reset)
            self.settle()

    @rule(who=whos, on_candidate=st.booleans())
    def client_takes_nothing(self, who: int, on_candidate: bool) -> None:
        client = self.client(who)
        port = client.model.candidate if on_candidate else client.model.port
        if port is not None and port.is_held:
            client.wire_of(port).jam()

    @rule(who=whos)
    def client_takes_again(self, who: int) -> None:
        self.unjam(self.client(who))

    def unjam(self, client: Client) -> None:
        for _, _, wire in client.gets:
            if wire.is_jammed and not wire.has_left:
                wire.unjam()
        self.settle()

    # -- ends ------------------------------------------------------------------------------------------

    @rule(who=whos)
    def server_closes(self, who: int) -> None:
        client = self.client(who)
        if client.session is not None:
            client.model.close(reasons.SERVER_DISCONNECT)
            client.session.close(reasons.SERVER_DISCONNECT)
            self.settle()

    @rule(who=whos, last=st.sampled_from(["1", "4close"]))
    def client_ends_it(self, who: int, last: str) -> None:
        client = self.client(who)
        port = client.model.port
        if client.session_id and client.model.is_open and (port.name != "websocket" or port.is_held):
            client.send_packets(port, [*self.packets(["text", "echo"]), last, *self.packets(["text"])])
            self.settle()

    @rule(who=whos)
    def client_closes_its_websocket(self, who: int) -> None:
        client = self.client(who)
        port = client.model.port
        if port.name == "websocket" and port.is_held:
            client.close_websocket(port)
            self.settle()

    # -- clients out of order --------------------------------------------------------------------------

    @rule(
        who=whos,
        broken=st.sampled_from(["9", "", "b!", "0", "2", "5", "2probe", "utf-8", "too much"]),
        on_candidate=st.booleans(),
    )
    def client_breaks_the_protocol(self, who: int, broken: str, on_candidate: bool) -> None:
        client = self.client(who)
        port = client.model.candidate if on_candidate else client.model.port
        if client.session_id and port is not None and (port.name != "websocket" or port.is_held):
            self.break_the_protocol(client, port, broken)
            self.settle()

    def break_the_protocol(self, client: Client, port: Port, broken: str) -> None:
        if broken in ("0", "2", "5", "2probe"):
            client.send_packets(port, [broken] if port is client.model.port else ["4early"])
        elif port.name == "websocket":
            client.model.fail(port)
            unreadable = {"utf-8": client_frame(1, b"\xff"), "too much": client_frame(2, bytes(2001))}
            client.send_bytes(port, unreadable.get(broken, client_frame(1, broken)))
        elif broken == "too much":
            client.send_too_much(port.name, reference.MAX_PAYLOAD_BYTES + 1)
        else:
            body = b"4\xff" if broken == "utf-8" else broken.encode()
            upload = client.begin_upload(port.name, [], body)
            if upload is not None and upload.rest:
                client.continue_upload(upload, len(upload.rest))

    @rule(who=whos, transport=transports, ack=st.sampled_from([None, None, 0, 1, 99]), is_post=st.booleans())
    def client_asks_for_anything(self, who: int, transport: str, ack: int | None, is_post: bool) -> None:
        """Second GETs and POSTs, wrong transports, wrong counts, sessions that are over."""
        client = self.clients[-1 - who % len(self.clients)]
        model = client.model
        port = model.port_named(transport)
        if not client.session_id:
            return
        if is_post:
            client.post(transport, self.packets(["text"]))
        elif transport == "websocket":
            client.open_websocket()
        elif port is None or not (port.is_counting and ack is not None) or ack > len(port.history):
            # A right count that repeats what the client has read would be its own fault.
            if port is None or port.is_held or client.has_read(port):
                client.open_get(transport, ack if transport == "xhr-streaming" else None)
        self.settle()

    @rule(
        query_and_code=st.sampled_from(
            [
                ("transport=polling&sid=nobody", (400, 1)),
                ("transport=xhr-streaming&sid=nobody&ack=0", (400, 1)),
                ("transport=carrier-pigeon", (400, 0)),
                ("transport=polling&j=x", (400, 3)),
            ]
        )
    )
    def client_asks_for_nothing_known(self, query_and_code: tuple[str, tuple[int, int]]) -> None:
        self.clients[0].ask_for_unknown(*query_and_code)
        self.settle()

    # -- what is always true ---------------------------------------------------------------------------

    @invariant()
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
        is_upgrading = model.candidate is not None
        states = {"opening": State.OPENING, "leaving": State.CLOSING, "closed": session.state}
        assert session.state == states.get(model.state, State.UPGRADING if is_upgrading else State.OPEN)
        if model.is_open:
            assert session.transport == model.port.name
            waiting = sum(model.ledger.weights[model.ledger.written :]) + (0 if wire is None else wire.backlog)
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
            self.decide(True)
        for _ in range(6):
            for client in self.clients:
                self.unjam(client)
                self.attend(client)
            self.slice(SLICE_S)
        for client in self.clients:
            client.read()
            ledger = client.model.ledger
            if client.model.is_open:
                assert ledger.reached == len(ledger.sent), "not everything has arrived"

    def everybody_leaves(self) -> None:
        """Without the clients' help nothing is left of their sessions, and nothing in the clockwork."""
        for _ in range(24):
            self.slice(SLICE_S)
        for client in self.clients:
            assert client.model.state == "closed", "dead but open"
            for ask in client.asks:
                assert ask.wire.has_left or (ask.expected is not None and ask.answer.status), "never answered"
        self.loop.advance(100)
        assert self.engine.sockets == {}
        assert self.engine.lingering == set()
        assert self.engine.timers._wheel._buckets == {}
        assert self.engine._queued == []
        assert self.engine._tasks == set()
        assert self.listener.connections == set()
        assert self.listener.timers._wheel._buckets == {}
        assert [handle for handle in self.loop._scheduled if not handle.cancelled()] == []
        assert all(wire.is_dead for wire in self.network.wires), "a connection is kept for ever"
        assert sum(self.engine.counters.closed.values()) == sum(client.model.is_accepted for client in self.clients)
        self.check()


_examples = os.environ.get("MODEL_EXAMPLES")
TestSessions = SessionMachine.TestCase
TestSessions.settings = settings(
    max_examples=int(_examples or 150),
    stateful_step_count=int(os.environ.get("MODEL_STEPS", "60")),
    derandomize=_examples is None,
    database=None,
    deadline=None,
    print_blob=False,
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
