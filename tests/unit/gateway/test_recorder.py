"""What is on the wire where clients can be recovered, and what the server says of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgpack
import pytest

import gateway
from gateway.codec import JsonPacket
from gateway.recorder import Claim, take_claim
from tests.unit.gateway.conftest import InMemoryClient
from tests.unit.transports.engine_doubles import FakeLoop

MakeServer = Callable[..., gateway.Server]
PID = "p" * 40


@pytest.fixture
def server(make_server: MakeServer) -> gateway.Server:
    return make_server(recovery_s=60)


def offset(server: gateway.Server) -> str:
    assert server.recovery is not None
    return server.recovery.newest_offset()


def connect(client: InMemoryClient, namespace: str = "/", auth: dict[str, Any] | None = None) -> dict[str, str]:
    """What the server says to a client that joins."""
    head = "" if namespace == "/" else namespace + ","
    client.send("0" + head + ("" if auth is None else json.dumps(auth)))
    answer = client.received()[0]
    assert answer.startswith("0" + head), answer
    hello: dict[str, str] = json.loads(answer[1 + len(head) :])
    return hello


@pytest.mark.parametrize("options", [{}, {"volatile": True}, {"conflate": "key"}])
def test_every_event_without_ack_carries_an_offset(
    server: gateway.Server, loop: FakeLoop, options: dict[str, Any]
) -> None:
    client = InMemoryClient(server, loop)
    connect(client)
    loop.run(server.emit("before"))
    loop.run(server.emit("event", ("a", 1), **options))
    assert client.received() == [f'2["before","{offset(server)[:-1]}1"]', f'2["event","a",1,"{offset(server)}"]']
    assert offset(server)[-1] == ("1" if options.get("volatile") else "2"), "what is volatile has no place of its own"


def test_conflated_event_that_had_to_wait_leaves_the_client_its_offset(server: gateway.Server, loop: FakeLoop) -> None:
    slow, other = InMemoryClient(server, loop), InMemoryClient(server, loop)
    connect(slow)
    connect(other)
    slow.port.writable = False
    for n in range(2):
        loop.run(server.emit("price", n, conflate="key"))
        loop.run(server.emit("news", n))
    epoch = offset(server)[:-1]
    assert other.received() == [
        f'2["price",0,"{epoch}1"]',
        f'2["news",0,"{epoch}2"]',
        f'2["price",1,"{epoch}3"]',
        f'2["news",1,"{epoch}4"]',
    ]
    slow.port.writable = True
    slow.session.port_resumed(slow.port)  # type: ignore[arg-type]
    assert slow.received() == [f'2["news",0,"{epoch}2"]', f'2["news",1,"{epoch}4"]', '2["price",1,null]']


@pytest.mark.parametrize(
    ("last", "is_followed"),
    [("text", True), (datetime(2026, 1, 1, tzinfo=UTC), True), (1, False), (None, False), ({"a": "b"}, False)],
)
def test_event_for_an_ack_whose_last_argument_is_text_is_followed_by_the_offset(
    server: gateway.Server, loop: FakeLoop, last: Any, is_followed: bool
) -> None:
    client = InMemoryClient(server, loop)
    connect(client)
    loop.run(server.emit("before"))
    client.received()
    loop.run(server.emit("question", (0, last), callback=lambda *_: None))
    question, *rest = client.received()
    assert question.startswith('21["question",0,')
    assert rest == ([f'2["tidegate:offset","{offset(server)}"]'] if is_followed else [])


def test_claim_is_taken_out_of_what_the_application_gets() -> None:
    assert take_claim({"pid": PID, "offset": "o-1", "token": "t"}) == (Claim(PID, "o-1"), {"token": "t"})
    assert take_claim({"pid": PID}) == (Claim(PID, None), {})
    assert take_claim({"pid": PID, "offset": None}) == (Claim(PID, None), {})


@pytest.mark.parametrize(
    "payload", [None, {}, {"pid": 1}, {"pid": "17"}, {"pid": PID, "offset": 1}, {"offset": "o-1"}, {"pid": PID + "!"}]
)
def test_fields_of_the_application_of_these_names_are_left_alone(payload: Any) -> None:
    assert take_claim(payload) == (None, payload)


def test_namespaces_are_recovered_each_for_itself(server: gateway.Server, loop: FakeLoop) -> None:
    client = InMemoryClient(server, loop)
    server.on("event", lambda *_: None, namespace="/other")
    hello, other = connect(client), connect(client, "/other")
    assert hello["pid"] != other["pid"]
    loop.run(server.emit("event", "root"))
    loop.run(server.emit("event", "other", namespace="/other"))
    client.session.port_lost(client.port, "transport close")  # type: ignore[arg-type]
    again = InMemoryClient(server, loop)
    # The pid of one namespace opens no other.
    assert connect(again, auth={"pid": other["pid"]})["pid"] not in (hello["pid"], other["pid"])
    again.received()
    assert connect(again, "/other", {"pid": other["pid"]}) == other
    assert (server.recovered(other["sid"], "/other"), server.recovered(hello["sid"])) == (True, False)
    environ = server.get_environ(other["sid"], "/other")
    assert environ is not None
    assert environ["tidegate.recovered"] is True


def test_old_connection_that_ends_in_the_turn_of_the_claim_leaves_its_place(
    server: gateway.Server, loop: FakeLoop
) -> None:
    client, again = InMemoryClient(server, loop), InMemoryClient(server, loop)
    hello = connect(client)
    again.session.receive_message(again.port, "0" + json.dumps({"pid": hello["pid"]}))  # type: ignore[arg-type]
    client.session.port_lost(client.port, "transport close")  # type: ignore[arg-type]
    assert again.received() == ["0" + json.dumps(hello, separators=(",", ":"))]
    assert not loop.faults


def test_nothing_is_left_when_the_time_is_over(server: gateway.Server, loop: FakeLoop) -> None:
    client = InMemoryClient(server, loop)
    connect(client)
    loop.run(server.emit("event"))
    client.session.port_lost(client.port, "transport close")  # type: ignore[arg-type]
    recovery = server.recovery
    assert recovery is not None
    loop.advance(59)
    assert recovery.gone == 1
    loop.advance(60)
    assert recovery.is_empty
    assert not loop.has_timers()


def test_msgpack_and_packet_classes_of_the_application(make_server: MakeServer, loop: FakeLoop) -> None:
    class Shouting(JsonPacket):
        def _dumps(self, data: Any, attachments: list[bytes]) -> bytes:
            return super()._dumps(data, attachments).replace(b"quiet", b"QUIET")

    server = make_server(recovery_s=60, serializer=Shouting)
    client = InMemoryClient(server, loop)
    connect(client)
    loop.run(server.emit("quiet", "a"))
    assert client.received() == [f'2["QUIET","a","{offset(server)}"]']

    server = make_server(recovery_s=60, serializer="msgpack")
    client = InMemoryClient(server, loop)
    client.send(msgpack.packb({"type": 0, "nsp": "/"}))
    hello = msgpack.unpackb(client.received()[0])["data"]
    loop.run(server.emit("event", b"\x00"))
    client.session.port_lost(client.port, "transport close")  # type: ignore[arg-type]
    again = InMemoryClient(server, loop)
    again.send(msgpack.packb({"type": 0, "nsp": "/", "data": {"pid": hello["pid"], "offset": None}}))
    answer, missed = [msgpack.unpackb(packet) for packet in again.received()]
    assert answer["data"] == hello
    assert missed["data"] == ["event", b"\x00", offset(server)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recovery_s": -1}, "recovery_s must be 0"),
        ({"recovery_s": float("inf")}, "recovery_s must be 0"),
        ({"recovery_s": 1, "recovery_max_bytes": 0}, "recovery_max_bytes must be 1 or more"),
        ({"recovery_s": 1, "recovery_max_clients": 0}, "recovery_max_clients must be 1 or more"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gateway.Server(**options)


def test_connection_classes_are_recovered_too(loop: FakeLoop) -> None:
    opened: list[tuple[str | None, bool, Any]] = []
    closed: list[str] = []

    class Chat(gateway.SocketConnection):
        def on_open(self, request: gateway.ConnectionInfo) -> None:
            opened.append((self.sid, self.is_recovered, request.auth))
            self.join("room")

        def on_close(self) -> None:
            closed.append(self.close_reason)

    router = gateway.Router(Chat, {"recovery_s": 60})
    server = router.server
    client = InMemoryClient(server, loop)
    hello = connect(client)
    [session] = router._sessions.values()
    assert session.conn is not None
    session.conn.emit("direct", 1)
    session.conn.emit_conflated("key", "price", 1)
    again = InMemoryClient(server, loop)  # the old connection is still there
    again.send("0" + json.dumps({"pid": hello["pid"], "token": "t"}))
    loop.run(server.emit("new", room="room"))
    epoch = offset(server)[:-1]
    assert again.received() == [
        "0" + json.dumps(hello, separators=(",", ":")),
        f'2["direct",1,"{epoch}1"]',
        f'2["price",1,"{epoch}2"]',
        f'2["new","{epoch}3"]',
    ]
    assert opened == [(hello["sid"], False, None), (hello["sid"], True, {"token": "t"})]
    assert closed == ["connection replaced"]
