"""Sessions, transports and upgrades against the model in ``reference.py``, over random histories.

The system is the real engine behind the real listener; only the kernel and the clock are the test's. A run is
the same every time; ``MODEL_EXAMPLES=5000`` makes it long and random (``MODEL_STEPS``: rules in one history, 60).
"""

from __future__ import annotations

import asyncio
import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from tests.model import reference
from tests.model.client import Client
from tests.model.machine import SLICE_S, Harness
from tests.model.reference import RANKS, Get, Port, SessionModel
from tests.unit.transports.engine_doubles import client_frame
from transports import reasons
from transports.outbound import OutboundMessage

whos = st.integers(0, 2)
transports = st.sampled_from(list(RANKS))
kinds = st.lists(st.sampled_from(["text", "binary", "attached", "big"]), min_size=1, max_size=5)
segments = st.sampled_from([1 << 20, 1 << 20, 7, 1])
client_messages = st.lists(st.sampled_from(["text", "text", "binary", "echo"]), min_size=1, max_size=4)
paddings = st.sampled_from([0, 0, 2, 50])


#: Rules about clients wait for one; those that mostly end a session come up at every fourth step only, so that
#: histories grow long.
needs_client = precondition(lambda self: bool(self.alive()))
at_times = precondition(lambda self: bool(self.alive()) and self.steps % 4 == 3)


class SessionMachine(Harness):
    # -- beginnings ------------------------------------------------------------------------------------

    @initialize(transport=transports, counts=st.booleans(), is_prompt=st.booleans())
    def first(self, transport: str, counts: bool, is_prompt: bool) -> None:
        self.connect(transport, counts, 0, "accept", False, True, is_prompt)

    @precondition(lambda self: len(self.alive()) < 3)
    @rule(
        transport=transports,
        counts=st.booleans(),
        padding=paddings,
        decision=st.sampled_from(["accept"] * 6 + ["wait", "wait", "refuse"]),
        greets=st.booleans(),
        keeps_alive=st.booleans(),
        is_prompt=st.booleans(),
    )
    def connect(
        self,
        transport: str,
        counts: bool,
        padding: int,
        decision: str,
        greets: bool,
        keeps_alive: bool,
        is_prompt: bool,
    ) -> None:
        is_stream = transport == "xhr-streaming"
        ack = 0 if counts and is_stream else None
        model = SessionModel(self.loop.time, transport, ack, Get(padding=padding if is_stream else 0))
        client = Client(self.network, model, keeps_alive=keeps_alive, is_prompt=is_prompt)
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
        self.answer_handshake(is_accepted)

    @precondition(lambda self: self.undecided)
    @rule(reset=st.booleans())
    def leave_before_the_decision(self, reset: bool) -> None:
        client, _ = self.undecided[0]
        if client.model.state == "opening":
            client.cut(client.model.port, reset=reset)
            self.settle()

    # -- the server ------------------------------------------------------------------------------------

    @needs_client
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

    @at_times
    @rule(who=whos, jams=st.booleans(), turns=st.integers(1, 3))
    def server_sends_much(self, who: int, jams: bool, turns: int) -> None:
        """More than a stream carries, and more than may wait for a client that takes nothing."""
        if jams:
            self.client_takes_nothing(who, False)
        for _ in range(turns):
            self.server_sends(who, ["big"], 4, False)

    @needs_client
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

    @needs_client
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

    @rule(slices=st.integers(1, 8), attentive=st.sampled_from([7] * 7 + [0, 1, 6]))
    def time_passes(self, slices: int, attentive: int) -> None:
        for _ in range(slices):
            for place, client in enumerate(self.clients):
                if attentive >> place & 1:
                    self.attend(client)
            self.slice(SLICE_S)

    # -- a client in order -----------------------------------------------------------------------------

    @needs_client
    @rule(who=whos)
    def client_reads(self, who: int) -> None:
        self.client(who).read()

    @needs_client
    @rule(who=whos)
    def client_attends(self, who: int) -> None:
        self.attend(self.client(who))

    @needs_client
    @rule(who=whos, padding=paddings)
    def client_opens_the_next_response(self, who: int, padding: int) -> None:
        client = self.client(who)
        if client.session_id:
            self.open_next(client, client.model.port, padding)

    @needs_client
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

    @needs_client
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
    @rule(who=whos, size=st.sampled_from([5, 1 << 20, 1 << 20]))
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

    @needs_client
    @rule(who=whos)
    def client_answers_no_ping(self, who: int) -> None:
        """A pong that nobody has asked for is no fault."""
        client = self.client(who)
        port = client.model.port
        if client.session_id and client.model.is_open and (port.name != "websocket" or port.is_held):
            client.send_packets(port, ["3"])
            self.settle()

    # -- a counting client resumes ---------------------------------------------------------------------

    @needs_client
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

    @needs_client
    @rule(who=whos, onto=st.sampled_from(["xhr-streaming", "websocket", "websocket"]), counts=st.booleans())
    def client_begins_an_upgrade(self, who: int, onto: str, counts: bool) -> None:
        client = self.client(who)
        if not client.session_id or (client.model.port_named(onto) is not None and onto == "xhr-streaming"):
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

    @needs_client
    @rule(
        who=whos,
        onto=st.sampled_from(["xhr-streaming", "websocket"]),
        counts=st.booleans(),
        times=st.tuples(st.booleans(), st.booleans()),
    )
    def client_upgrades(self, who: int, onto: str, counts: bool, times: tuple[bool, bool]) -> None:
        """All of it, as a client in order does, while the server sends: it rarely comes together from single steps."""
        self.client_begins_an_upgrade(who, onto, counts)
        if times[0]:
            self.server_broadcasts(["text"])
        self.client_probes(who, 1 << 20)
        if times[1]:
            self.server_broadcasts(["attached"])
        self.client_completes_the_upgrade(who, ["text"], 1 << 20)

    @needs_client
    @rule(
        who=whos,
        onto=st.sampled_from(["xhr-streaming", "websocket"]),
        counts=st.booleans(),
        probes=st.booleans(),
        how=st.sampled_from(["cut", "reset", "close", "message", "pong", "5", "broken"]),
    )
    def client_abandons_an_upgrade(self, who: int, onto: str, counts: bool, probes: bool, how: str) -> None:
        """The one that is under way, or else one that is begun for it."""
        if not self.upgrading():
            self.client_begins_an_upgrade(who, onto, counts)
            if probes:
                self.client_probes(who, 1 << 20)
        client = self.client_where(who, lambda client: client.model.candidate is not None)
        candidate = client.model.candidate
        if candidate is None:
            return
        if how in ("cut", "reset"):
            client.cut(candidate, reset=how == "reset")
        elif how == "close" and candidate.name == "websocket":
            client.close_websocket(candidate)
        elif how == "broken":
            self.break_the_protocol(client, candidate, "9")
        elif how != "5" or not candidate.is_probed:
            client.send_packets(candidate, {"pong": ["3"], "5": ["5"]}.get(how, self.packets(["text"])))
        self.settle()

    # -- the network -----------------------------------------------------------------------------------

    @precondition(lambda self: bool(self.alive()) and self.steps % 2 == 1)
    @rule(who=whos, reset=st.booleans(), slices_away=st.sampled_from([0, 0, 0, 5, 7]))
    def network_cuts_the_response(self, who: int, reset: bool, slices_away: int) -> None:
        """And keeps the client away for a while, which one that counts is given."""
        client = self.client(who)
        port = client.model.port
        if port.get is None or client.has_read(port) or client.wire_of(port).has_left:
            return
        client.cut(port, reset=reset)
        self.settle()
        for _ in range(slices_away):
            for other in self.clients:
                if other is not client:
                    self.attend(other)
            self.slice(SLICE_S)

    @needs_client
    @rule(who=whos, on_candidate=st.booleans())
    def client_takes_nothing(self, who: int, on_candidate: bool) -> None:
        client = self.client(who)
        port = client.model.candidate if on_candidate else client.model.port
        if port is not None and port.is_held:
            client.wire_of(port).jam()

    @needs_client
    @rule(who=whos)
    def client_takes_again(self, who: int) -> None:
        self.unjam(self.client(who))

    # -- ends ------------------------------------------------------------------------------------------

    @at_times
    @rule(who=whos)
    def server_closes(self, who: int) -> None:
        client = self.client(who)
        if client.session is not None:
            client.model.close(reasons.SERVER_DISCONNECT)
            client.session.close(reasons.SERVER_DISCONNECT)
            self.settle()

    @at_times
    @rule(who=whos, last=st.sampled_from(["1", "4close"]))
    def client_ends_it(self, who: int, last: str) -> None:
        client = self.client(who)
        port = client.model.port
        if client.session_id and client.model.is_open and (port.name != "websocket" or port.is_held):
            client.send_packets(port, [*self.packets(["text", "echo"]), last, *self.packets(["text"])])
            self.settle()

    @at_times
    @rule(who=whos)
    def client_closes_its_websocket(self, who: int) -> None:
        client = self.client(who)
        port = client.model.port
        if port.name == "websocket" and port.is_held:
            client.close_websocket(port)
            self.settle()

    # -- clients out of order --------------------------------------------------------------------------

    @at_times
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

    @at_times
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
        else:
            # What the client would have to blame itself for is left out: messages overtaking a response that it has
            # not read, or repeated by a count that is right but not its own.
            is_own_fault = port is not None and (
                (port.is_counting and ack is not None and ack <= len(port.history))
                or not (port.is_held or client.has_read(port))
            )
            if not is_own_fault:
                client.open_get(transport, ack if transport == "xhr-streaming" else None)
        self.settle()

    @at_times
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


_examples = os.environ.get("MODEL_EXAMPLES")
# A failure is made small first, which takes minutes; a long run takes what it takes.
TestSessions = pytest.mark.timeout(0 if _examples else 900)(SessionMachine.TestCase)
TestSessions.settings = settings(
    max_examples=int(_examples or 600),
    stateful_step_count=int(os.environ.get("MODEL_STEPS", "60")),
    derandomize=_examples is None,
    database=None,
    deadline=None,
    print_blob=False,
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
