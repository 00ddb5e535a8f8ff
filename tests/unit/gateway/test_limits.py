"""What clients may make a server keep or run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

import gateway
from gateway.limits import NAMES, Limits
from gateway.middleware import EventRefusedError, TooManyRoomsError
from tests.unit.gateway.conftest import InMemoryClient
from tests.unit.transports.engine_doubles import FakeLoop

Join = Callable[..., InMemoryClient]
MakeServer = Callable[..., gateway.Server]


@pytest.mark.parametrize("name", NAMES)
def test_limits_are_options_of_the_server_and_have_a_least(make_server: MakeServer, name: str) -> None:
    assert getattr(make_server(**{name: 7}).limits, name) == 7
    assert make_server().limits == Limits()
    least = 0 if name == "once_window_s" else 1
    with pytest.raises(ValueError, match=f"{name} must be {least} or more, not {least - 1}"):
        make_server(**{name: least - 1})
    assert getattr(make_server(**{name: least}).limits, name) == least


# -- handlers ------------------------------------------------------------------------------------------------


class Gates:
    """A handler whose calls wait until they are let through, the oldest first."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[None]] = []
        self.seen: list[Any] = []

    async def __call__(self, sid: str, number: int) -> int:
        self.seen.append(number)
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(gate)
        await gate
        return number

    def let_through(self, count: int) -> None:
        for gate in self.waiting[:count]:
            gate.set_result(None)
        del self.waiting[:count]


def send_numbers(client: InMemoryClient, numbers: range) -> None:
    client.send(*[f'2["work",{number}]' for number in numbers])


def test_client_whose_handlers_are_busy_is_not_read(make_server: MakeServer, join: Join, loop: FakeLoop) -> None:
    server = make_server(max_handlers_per_connection=4)
    gates = Gates()
    server.on("work", gates.__call__)
    client, other = join(server), join(server)
    send_numbers(client, range(3))
    assert not client.session.is_held
    send_numbers(client, range(3, 4))
    assert client.session.is_held
    assert not other.session.is_held
    assert server.eio.counters.held_for_handlers == 1
    gates.let_through(1)
    loop.settle()
    assert client.session.is_held, "until half of them have ended"
    gates.let_through(1)
    loop.settle()
    assert not client.session.is_held
    assert client.port.calls == ["pause", "resume"]


def test_bound_over_all_clients_holds_those_that_send(make_server: MakeServer, join: Join, loop: FakeLoop) -> None:
    server = make_server(max_handlers=4)
    gates = Gates()
    server.on("work", gates.__call__)
    first, second, idle = join(server), join(server), join(server)
    send_numbers(first, range(3))
    send_numbers(second, range(3))
    assert (first.session.is_held, second.session.is_held, idle.session.is_held) == (False, True, False)
    send_numbers(first, range(3, 4))
    assert first.session.is_held
    gates.let_through(5)
    loop.settle()
    assert not first.session.is_held
    assert not second.session.is_held
    gates.let_through(2)
    loop.settle()


@pytest.mark.parametrize("way", ["raises", "refuses", "returns", "awaitable", "middleware", "sync"])
@pytest.mark.parametrize("async_handlers", [True, False])
def test_every_handler_that_ends_is_counted_out(
    make_server: MakeServer, join: Join, loop: FakeLoop, way: str, async_handlers: bool
) -> None:
    server = make_server(async_handlers=async_handlers, max_handlers_per_connection=2)

    async def coroutine(sid: str, number: int) -> Any:
        await asyncio.sleep(0)
        if way == "raises":
            raise RuntimeError("broken")
        if way == "refuses":
            raise EventRefusedError("no")
        return number

    if way == "awaitable":
        server.on("work", lambda sid, number: coroutine(sid, number))
    elif way == "sync":
        server.on("work", lambda sid, number: number)
    else:
        server.on("work", coroutine)
    if way == "middleware":
        server.use_event(lambda sid, event, args: None)
    client = join(server)
    send_numbers(client, range(10))
    loop.settle()
    client.session.close("transport close")
    loop.settle()
    assert server.handler_runner.in_flight == 0
    assert client.session.application.in_flight == 0
    assert not client.session.is_held


def test_events_that_wait_their_turn_count(make_server: MakeServer, join: Join, loop: FakeLoop) -> None:
    server = make_server(async_handlers=False, max_handlers_per_connection=4)
    gates = Gates()
    server.on("work", gates.__call__)
    client = join(server)
    send_numbers(client, range(4))
    assert gates.seen == [0]
    assert client.session.is_held
    for _ in range(4):
        gates.let_through(1)
        loop.settle()
    assert gates.seen == [0, 1, 2, 3]
    assert not client.session.is_held


def test_a_handler_may_refuse_and_nothing_is_logged(
    server: gateway.Server, join: Join, loop: FakeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(sid: str) -> None:
        raise EventRefusedError("not now", 3)

    server.on("ask", refuse)
    client = join(server)
    client.send('25["ask"]', '2["ask"]')
    assert client.received() == ['35["not now",3]']
    assert caplog.records == []


# -- rooms, acks, namespaces, attachments ----------------------------------------------------------------------


def test_rooms_of_one_client_are_bounded(
    make_server: MakeServer, join: Join, loop: FakeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(max_rooms=2)

    async def enter(sid: str, room: str) -> str:
        await server.enter_room(sid, room)
        return "entered"

    server.on("enter", enter)
    client, other = join(server), join(server)
    client.send('21["enter","a"]', '22["enter","b"]', '23["enter","a"]', '24["enter","c"]')
    assert client.received() == [
        '31["entered"]',
        '32["entered"]',
        '33["entered"]',
        '34[{"message":"the client is in 2 rooms already"}]',
    ]
    assert not any(record.exc_info for record in caplog.records), "the client's fault is no traceback"
    assert server.eio.counters.refused["too_many_rooms"] == 1
    with pytest.raises(TooManyRoomsError):
        loop.run(server.enter_room(client.member().sid, "d"))
    loop.run(server.leave_room(client.member().sid, "a"))
    loop.run(server.enter_room(client.member().sid, "d"))
    other.send('21["enter","c"]')
    assert other.received() == ['31["entered"]']


def test_acks_that_a_client_never_sends_are_given_up_from_the_oldest(
    make_server: MakeServer, join: Join, loop: FakeLoop
) -> None:
    server = make_server(max_pending_acks=3)
    client = join(server)
    sid = client.member().sid
    answers: list[Any] = []
    for number in range(5):
        loop.run(server.emit("ask", number, to=sid, callback=answers.append))
    assert len(client.member().acks or {}) == 3
    assert server.eio.counters.refused["ack_given_up"] == 2
    client.received()
    client.send('31["late"]', '35["in time"]')
    assert answers == ["in time"]
    assert server.eio.counters.refused["unknown_ack"] == 1


def test_acks_of_a_broadcast_that_are_given_up_are_told(make_server: MakeServer, join: Join, loop: FakeLoop) -> None:
    server = make_server(max_pending_acks=1)
    client = join(server)
    gathered = loop.create_task(server.call_all("ask", timeout=60))
    loop.settle()
    loop.run(server.emit("ask", to=client.member().sid, callback=lambda *_: None))
    loop.settle()
    assert gathered.done(), "nobody is left to wait for"
    assert gathered.result().missing == [client.member().sid]


def test_namespaces_that_are_still_being_asked_for_count(make_server: MakeServer, loop: FakeLoop) -> None:
    server = make_server(namespaces="*", max_namespaces=3)
    gate = loop.create_future()

    async def connect(namespace: str, sid: str, environ: Any) -> None:
        await gate

    server.on("connect", connect, namespace="*")
    client = InMemoryClient(server, loop)
    client.send(*[f"0/{number}," for number in range(5)])
    refusal = '{"message":"Too many namespaces: 3 are allowed"}'
    assert client.received() == [f"4/3,{refusal}", f"4/4,{refusal}"]
    gate.set_result(None)
    assert len(client.received()) == 3


def test_attachments_are_bounded_in_bytes_together(make_server: MakeServer, join: Join) -> None:
    server = make_server(max_attachments_bytes=2_000, max_http_buffer_size=1_000)
    seen: list[int] = []
    server.on("data", lambda sid, *parts: seen.append(sum(map(len, parts))))
    client = join(server)
    placeholders = ",".join(f'{{"_placeholder":true,"num":{number}}}' for number in range(3))
    client.send(f'53-["data",{placeholders}]', b"x" * 600, b"x" * 600, b"x" * 600)
    assert seen == [1800]
    client.send(f'53-["data",{placeholders}]', b"x" * 950, b"x" * 950)
    assert client.session.close_reason == "parse error"
    assert server.eio.counters.refused["attachments_too_big"] == 1
    assert client.session.application.awaited is None


def test_one_attachment_of_the_largest_payload_always_passes(make_server: MakeServer, join: Join) -> None:
    server = make_server(max_attachments_bytes=1, max_http_buffer_size=100_000)
    seen: list[int] = []
    server.on("data", lambda sid, part: seen.append(len(part)))
    client = join(server)
    client.send('51-["data",{"_placeholder":true,"num":0}]', b"x" * 99_000)
    assert seen == [99_000]


# -- what goes nowhere is counted ------------------------------------------------------------------------------


def test_events_without_handler_and_late_ones_are_counted(
    server: gateway.Server, join: Join, caplog: pytest.LogCaptureFixture
) -> None:
    server.on("known", lambda sid: None)
    client = join(server)
    with caplog.at_level(logging.INFO, "tidegate.refusals"):
        client.send('2["unknown"]', '2["unknown"]', "1", '2["known"]')
    assert server.eio.counters.refused == {"unhandled_event": 2, "late_event": 1}
    assert [record.getMessage().split(":")[0].split(" from ")[0] for record in caplog.records] == [
        "refused unhandled_event",
        "refused late_event",
    ], "each kind once"


def test_packets_that_wait_for_their_attachments_count_in_the_bound_on_all_buffers(
    make_server: MakeServer, join: Join
) -> None:
    server = make_server(max_total_buffered_bytes=1_000_000)
    values = ",".join(["[]"] * 1000)
    clients = [join(server) for _ in range(12)]
    for client in clients:
        client.send(f'52-["work",{{"_placeholder":true,"num":0}},{{"_placeholder":true,"num":1}},{values}]')
        assert client.session.held_bytes() > 64_000, "the lists, not only their text"
        if client.session.connected:
            client.send(b"x" * 50_000)
        assert sum(each.session.held_bytes() for each in clients if each.session.connected) <= 1_000_000
    assert server.eio.counters.closed["memory shed"]
    [client] = [each for each in clients if each.session.connected][:1]
    client.send(b"")
    assert client.session.application_bytes == 0


@pytest.mark.parametrize("in_turn", [False, True])
def test_client_whose_busy_handlers_hold_much_is_not_read(
    make_server: MakeServer, join: Join, loop: FakeLoop, in_turn: bool
) -> None:
    """A few large events weigh as much as a thousand small ones."""
    server = make_server(max_buffered_bytes=250_000, async_handlers=not in_turn)
    gates = Gates()
    server.on("work", gates.__call__)
    client = join(server)
    large = ",".join(["[]"] * 1000)
    for number in range(4):
        assert not client.session.is_held
        client.send(f'2["work",[{number},{large}]]')
    assert client.session.is_held
    assert client.session.held_bytes() > 500_000
    for _ in range(4):
        gates.let_through(1)
        loop.settle()
    assert not client.session.is_held
    assert client.session.application_bytes == 0
