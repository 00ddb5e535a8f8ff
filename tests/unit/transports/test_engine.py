"""The engine: broadcasts, handlers, the end."""

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.transports.engine_doubles import (
    WEBSOCKET_HEADERS,
    FakeExchange,
    FakeLoop,
    FakePort,
    client_frame,
    text,
)
from transports.engine import Engine
from transports.outbound import OutboundMessage
from transports.protocol.frames import TEXT, FrameParser
from transports.protocol.lifecycle import State
from transports.session import Session

Open = Callable[..., tuple[Session, FakePort]]


def opened(engine: Engine, open_session: Open, count: int, **port: Any) -> tuple[list[Session], list[FakePort]]:
    pairs = [open_session(engine, FakePort(**port)) for _ in range(count)]
    return [session for session, _ in pairs], [port for _, port in pairs]


# -- broadcast -----------------------------------------------------------------------------------------------


def test_sessions_that_wait_for_the_same_share_one_run(engine: Engine, open_session: Open, loop: FakeLoop) -> None:
    sessions, ports = opened(engine, open_session, 5)
    for content in ("4a", "4b", "4c"):
        assert engine.broadcast(sessions, text(content)) == 5
    assert len({id(session.run) for session in sessions}) == 1
    loop.turn()
    assert all(port.written == [b"4a", b"4b", b"4c"] for port in ports)
    assert all(session.run is None for session in sessions)
    assert engine.counters.messages_out == 15


def test_sessions_that_wait_for_more_keep_their_own_order(engine: Engine, open_session: Open, loop: FakeLoop) -> None:
    (first, second, third), ports = opened(engine, open_session, 3)
    second.send(text("4mine"))
    engine.broadcast([first, second, third], text("4all"))
    third.send(text("4after"))
    engine.broadcast([third, second, first], text("4end"))
    loop.turn()
    assert ports[0].written == [b"4all", b"4end"]
    assert ports[1].written == [b"4mine", b"4all", b"4end"]
    assert ports[2].written == [b"4all", b"4after", b"4end"]


def test_long_broadcast_is_written_through(engine: Engine, open_session: Open) -> None:
    sessions, ports = opened(engine, open_session, 3)
    engine.broadcast(sessions, text("4" + "x" * 70_000))
    assert all(len(port.written) == 1 for port in ports)


def test_broadcast_enforces_the_bound_of_each(
    make_engine: Callable[..., Engine], open_session: Open, loop: FakeLoop
) -> None:
    engine = make_engine(max_buffered_bytes=100_000)
    (quick, slow), _ = opened(engine, open_session, 2)
    slow.port.writable = False  # type: ignore[union-attr]
    for _ in range(12):
        engine.broadcast([quick, slow], text("4" + "x" * 10_000))
        loop.settle()
    assert quick.state is State.OPEN
    assert slow.close_reason == "slow client"


def test_bound_below_the_write_through_size_holds_too(
    make_engine: Callable[..., Engine], open_session: Open, loop: FakeLoop
) -> None:
    engine = make_engine(max_buffered_bytes=5000)
    [slow], _ = opened(engine, open_session, 1, writable=False)
    for _ in range(6):
        engine.broadcast([slow], text("4" + "x" * 1000))
        loop.settle()
    assert slow.close_reason == "slow client"


def test_volatile_goes_to_those_who_can_take_it_and_counts_the_rest(
    engine: Engine, open_session: Open, loop: FakeLoop
) -> None:
    (ready, jammed, gone), ports = opened(engine, open_session, 3)
    ports[1].writable = False
    gone.close("server disconnect")
    assert engine.broadcast_volatile([ready, jammed, gone], text("4now")) == 1
    loop.turn()
    ports[1].writable = True
    jammed.port_resumed(ports[1])  # type: ignore[arg-type]
    assert [port.written for port in ports] == [[b"4now"], [], []]
    assert engine.counters.dropped_volatile == 2
    assert engine.counters.messages_out == 1


def test_broadcast_to_a_session_that_is_ending_is_counted_as_dropped(engine: Engine, open_session: Open) -> None:
    (open_one, closing), ports = opened(engine, open_session, 2)
    ports[1].can_say_goodbye = False
    closing.close("server disconnect")
    assert closing.state is State.CLOSING
    assert engine.broadcast([open_one, closing], text("4late")) == 1
    assert closing.run is None
    assert engine.counters.dropped_closed == 1
    assert engine.counters.messages_out == 1


def test_fault_of_one_connection_does_not_keep_the_others_from_theirs(
    engine: Engine, open_session: Open, loop: FakeLoop
) -> None:
    (broken, well), ports = opened(engine, open_session, 2)

    def write(run: Any) -> None:
        raise RuntimeError("broken")

    ports[0].write = write  # type: ignore[method-assign]
    engine.broadcast([broken, well], text("4a"))
    loop.turn()
    assert ports[1].written == [b"4a"]
    assert broken.close_reason == "transport error"


def test_many_sessions_are_written_to_in_portions_with_turns_between(
    engine: Engine, open_session: Open, loop: FakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transports.engine.FLUSH_AT_A_TIME", 2)
    sessions, ports = opened(engine, open_session, 5)
    engine.broadcast(sessions, text("4a"))
    loop.turn()
    assert [port.written for port in ports] == [[b"4a"], [b"4a"], [], [], []]
    engine.broadcast(sessions, text("4b"))
    loop.turn()
    assert [port.written for port in ports] == [[b"4a"], [b"4a"], [b"4a", b"4b"], [b"4a", b"4b"], []]
    assert engine.turn_bytes > 0, "whoever sends on and on gives way"
    loop.settle()
    assert [port.written for port in ports] == [[b"4a", b"4b"]] * 5
    assert engine.turn_bytes == 0


def test_turn_bytes_count_each_recipient_until_the_flush(engine: Engine, open_session: Open, loop: FakeLoop) -> None:
    sessions, _ = opened(engine, open_session, 3)
    message = text("4a")
    engine.broadcast(sessions, message)
    assert engine.turn_bytes == 3 * message.nbytes
    loop.turn()
    assert engine.turn_bytes == 0


# -- engine alone --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "written"),
    [("a", b"4a"), (b"\x01", b"\x01"), (bytearray(b"\x02"), b"\x02"), ({"a": [1]}, b'4{"a":[1]}'), ([], b"4[]")],
)
def test_send_takes_text_bytes_and_json(
    engine: Engine, open_session: Open, loop: FakeLoop, data: Any, written: bytes
) -> None:
    session, port = open_session(engine)
    loop.run(engine.send(session.id, data))
    loop.turn()
    assert port.written == [written]


def test_send_to_nobody_is_counted_as_dropped(engine: Engine, loop: FakeLoop) -> None:
    loop.run(engine.send("nobody", "a"))
    assert engine.counters.dropped_closed == 1


@pytest.mark.parametrize("is_async", [False, True])
def test_handlers_that_fail_harm_nobody(engine: Engine, open_session: Open, loop: FakeLoop, is_async: bool) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("application")

    async def fail_later(*args: Any) -> None:
        raise RuntimeError("application")

    engine.on("message", fail_later if is_async else fail)
    engine.on("disconnect", fail_later if is_async else fail)
    session, port = open_session(engine)
    session.receive_message(port, "a")  # type: ignore[arg-type]
    session.receive_message(port, "b")  # type: ignore[arg-type]
    session.close("server disconnect")
    loop.settle()
    assert loop.faults == []
    assert session.closed


@pytest.mark.parametrize("takes_reason", [False, True])
def test_disconnect_handlers_of_both_signatures_are_called(
    engine: Engine, open_session: Open, takes_reason: bool
) -> None:
    seen: list[Any] = []
    engine.on("disconnect", (lambda sid, reason: seen.append(reason)) if takes_reason else seen.append)
    session, _ = open_session(engine)
    session.close("server disconnect")
    assert seen == (["server disconnect"] if takes_reason else [session.id])


def test_handlers_of_one_client_run_in_order_where_they_are_not_concurrent(
    make_engine: Callable[..., Engine], open_session: Open, loop: FakeLoop
) -> None:
    engine = make_engine(async_handlers=False)
    seen: list[Any] = []

    async def message(sid: str, data: str) -> None:
        await asyncio.sleep(1 if data == "slow" else 0)
        seen.append(data)

    engine.on("message", message)
    session, port = open_session(engine)
    for data in ("slow", "a", "b"):
        session.receive_message(port, data)  # type: ignore[arg-type]
    loop.advance(5)
    assert seen == ["slow", "a", "b"]


def test_ended_sessions_leave_nothing_behind(
    make_engine: Callable[..., Engine], open_session: Open, loop: FakeLoop
) -> None:
    engine = make_engine(async_handlers=False)

    async def handler(*args: Any) -> None:
        await asyncio.sleep(0)

    engine.on("message", handler)
    engine.on("disconnect", handler)
    for _ in range(10):
        session, port = open_session(engine)
        session.receive_message(port, "a")  # type: ignore[arg-type]
        loop.settle()
        session.close("server disconnect")
        loop.settle()
    assert not engine.sockets
    assert not engine._tasks
    assert not engine._last_handler


def test_transport_is_told_by_id(engine: Engine, open_session: Open) -> None:
    session, _ = open_session(engine, FakePort("xhr-streaming"))
    assert engine.transport(session.id) == "xhr-streaming"
    with pytest.raises(KeyError):
        engine.transport("nobody")


def test_session_ids_are_long_and_differ(engine: Engine) -> None:
    ids = {engine.generate_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {len(session_id) for session_id in ids} == {20}


@pytest.mark.parametrize(
    "options",
    [
        {"ping_interval": 0},
        {"ping_timeout": -1},
        {"max_http_buffer_size": 0},
        {"max_buffered_bytes": 0},
        {"upgrade_timeout": 0},
        {"stream_max_bytes": 0},
        {"stream_max_s": 0},
        {"ping_interval": float("nan")},
        {"transports": []},
        {"transports": ["polling", "pigeon"]},
        {"async_mode": "asgi"},
    ],
)
def test_options_out_of_range_are_refused(loop: FakeLoop, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Engine(**options)


def test_unknown_option_is_refused(loop: FakeLoop) -> None:
    with pytest.raises(TypeError):
        Engine(ping_intervall=3)  # type: ignore[call-arg]


# -- end -----------------------------------------------------------------------------------------------------


def test_drain_waits_for_handlers_and_tells_everybody(
    engine: Engine, ask: Callable[..., FakeExchange], loop: FakeLoop
) -> None:
    seen: list[str] = []

    async def message(sid: str, data: str) -> None:
        await asyncio.sleep(2)
        await engine.send(sid, "answer")

    engine.on("message", message)
    engine.on("disconnect", lambda sid, reason: seen.append(reason))
    websocket = ask(engine, "EIO=4&transport=websocket", headers=WEBSOCKET_HEADERS).transport
    ask(engine, "EIO=4&transport=polling")
    first, second = engine.sockets.values()
    poll = ask(engine, f"EIO=4&transport=polling&sid={second.id}")
    assert websocket is not None
    engine.deliver(first, "x")
    task = loop.create_task(engine.drain(10.0))
    loop.advance(1.9)
    assert seen == []
    loop.advance(0.2)
    assert seen == ["server shutting down"] * 2
    assert b"4answer" in websocket.take()
    assert poll.packets == ["1"]
    assert not task.done(), "the WebSocket has not answered the good-bye yet"
    websocket.lose()
    loop.advance(0.1)
    assert task.done()
    assert not engine.sockets


def test_drain_gives_up_after_its_time(engine: Engine, ask: Callable[..., FakeExchange], loop: FakeLoop) -> None:
    async def message(sid: str, data: str) -> None:
        await asyncio.sleep(1000)

    engine.on("message", message)
    ask(engine, "EIO=4&transport=polling")
    [session] = engine.sockets.values()
    engine.deliver(session, "x")
    began = loop.time()
    loop.run(engine.drain(4.0))
    assert loop.time() - began <= 4.5
    assert session.closed


def test_shutdown_of_an_engine_never_used_does_nothing(loop: FakeLoop) -> None:
    loop.run(Engine().shutdown())


def test_shutdown_stops_the_clock(engine: Engine, open_session: Open, loop: FakeLoop) -> None:
    session, _ = open_session(engine)
    loop.run(engine.shutdown())
    assert session.closed
    assert not [handle for handle in loop._scheduled if not handle.cancelled()]


def test_send_packet_takes_the_librarys_packets(engine: Engine, open_session: Open, loop: FakeLoop) -> None:
    from engineio.packet import MESSAGE, Packet

    session, port = open_session(engine)
    loop.run(engine.send_packet(session.id, Packet(MESSAGE, "a")))
    loop.run(engine.send_packet(session.id, Packet(MESSAGE, b"\x01")))
    loop.turn()
    assert port.written == [b"4a", b"\x01"]


def test_message_with_attachments_stays_together(engine: Engine, open_session: Open, loop: FakeLoop) -> None:
    session, port = open_session(engine)
    session.send(OutboundMessage(b'451-["a"]', [b"\x01"]))
    engine.broadcast([session], text("4b"))
    loop.turn()
    assert port.written == [b'451-["a"]', b"\x01", b"4b"]


@pytest.mark.parametrize("limit", [1e6, 1.5e6, math.inf, 2**80])
def test_any_number_is_a_limit_of_messages(make_engine: Callable[..., Engine], limit: float) -> None:
    engine = make_engine(max_http_buffer_size=limit)
    assert type(engine.max_payload_bytes) is int
    parser = FrameParser(engine.max_payload_bytes)
    assert parser.feed(client_frame(TEXT, "a")) == [(TEXT, "a")]
    assert parser.error is None


def test_message_that_cannot_be_encoded_costs_the_sessions_it_is_for_and_no_others(
    engine: Engine, loop: FakeLoop, ask: Callable[..., FakeExchange], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(run: Any) -> bytes:
        raise MemoryError

    opened = [ask(engine, "EIO=4&transport=websocket", headers=WEBSOCKET_HEADERS) for _ in range(3)]
    first, second, third = engine.sockets.values()
    for session in (first, second, third):
        assert session.port is not None
        session.port.direct_fd = 1 << 20  # type: ignore[attr-defined]
    sent: list[Any] = []
    monkeypatch.setattr("transports.flushing.send_each", lambda writers, fds, data: sent.extend(data))
    engine.broadcast([first, third], text("4well"))
    engine.post(second, bad := text("4bad"))
    monkeypatch.setattr(type(bad), "frames", property(lambda run: broken(run) if run is bad else b"well"))
    loop.turn()
    assert sent == [b"well", b"well"]
    assert [session.close_reason for session in (first, second, third)] == ["", "transport error", ""]
    assert not any(session.is_queued for session in (first, second, third))
    assert len(opened) == 3
