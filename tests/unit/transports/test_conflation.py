"""Conflated messages: what waits for a session that cannot take them, and how it leaves."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.transports.engine_doubles import (
    WEBSOCKET_HEADERS,
    FakeExchange,
    FakeLoop,
    FakePort,
    server_frames,
    stream_records,
    text,
)
from transports import reasons
from transports.conflation import Conflated, behind, divide_rest
from transports.engine import Engine
from transports.outbound import MESSAGE_OVERHEAD_BYTES, OutboundMessage, Run
from transports.protocol.lifecycle import State
from transports.protocol.packets import Packet, PacketType
from transports.session import CONFLATED_PORTION_BYTES, Session

Open = Callable[..., tuple[Session, FakePort]]
Ask = Callable[..., FakeExchange]

BROWSER = {"host": "example.org", "user-agent": "Mozilla/5.0"}


def texts(messages: Any) -> list[bytes | None]:
    return [message.text for message in messages]


def resume(session: Session, port: FakePort) -> None:
    port.writable, port.buffered = True, 0
    session.port_resumed(port)  # type: ignore[arg-type]


# -- what waits ----------------------------------------------------------------------------------------------


def test_newer_message_takes_the_place_of_the_one_it_replaces() -> None:
    conflated = Conflated()
    assert [conflated.put(key, text(content)) for key, content in (("a", "4a1"), ("b", "4b1"), ("a", "4a22"))] == [
        False,
        False,
        True,
    ]
    assert [(key, message.text) for key, message in conflated] == [("a", b"4a22"), ("b", b"4b1")]
    assert len(conflated) == 2
    assert conflated.nbytes == 2 * MESSAGE_OVERHEAD_BYTES + 4 + 3


def test_messages_are_taken_from_the_front_and_put_back_there() -> None:
    conflated = Conflated()
    for key in "abcd":
        conflated.put(key, text("4" + key))
    each = MESSAGE_OVERHEAD_BYTES + 2
    taken = conflated.take(2 * each)
    assert [key for key, _ in taken] == ["a", "b"]
    assert conflated.nbytes == 2 * each
    conflated.put_back(taken[1:])
    assert [key for key, _ in conflated] == ["b", "c", "d"]
    assert conflated.nbytes == 3 * each
    assert [key for key, _ in conflated.take(1)] == ["b"], "at least one"
    assert [key for key, _ in conflated.take(1 << 20)] == ["c", "d"]
    assert (len(conflated), conflated.nbytes) == (0, 0)


def test_withdrawn_messages_wait_no_more() -> None:
    conflated = Conflated()
    for key in (("/", 1), ("/x", 1), ("/", 2)):
        conflated.put(key, text(f"4{key[1]}"))
    assert texts(conflated.withdraw(lambda key: key[0] == "/")) == [b"41", b"42"]  # type: ignore[index]
    assert [key for key, _ in conflated] == [("/x", 1)]
    assert conflated.nbytes == MESSAGE_OVERHEAD_BYTES + 2


@pytest.mark.parametrize(
    ("written", "must", "may"),
    [
        (0, ["4r1", "4r2"], ["k1", "k2", "k3"]),
        (1, ["4r2"], ["k1", "k2", "k3"]),
        (2, [], ["k1", "k2", "k3"]),
        (3, [], ["k2", "k3"]),
        (4, ["x", "y"], ["k3"]),
        (5, ["y"], ["k3"]),
        (6, [], ["k3"]),
        (7, [], []),
    ],
)
def test_rest_of_a_write_is_divided_into_what_must_follow_and_what_may_be_replaced(
    written: int, must: list[str], may: list[str]
) -> None:
    """Of two reliable messages and three conflated ones, the second of which has two attachments."""
    kept: Any = [("k1", text("4k1")), ("k2", OutboundMessage(b"4k2", (b"x", b"y"))), ("k3", text("4k3"))]
    run = behind(Run.of([text("4r1"), text("4r2")]), kept)
    assert run is not None
    rest = run.split(written)[1] if written else run
    following, left = divide_rest(rest, kept)
    packets: list[bytes] = []
    for message in [] if following is None else following.messages():
        packets += [] if message.text is None else [message.text]
        packets += message.attachments
    assert [packet.decode() for packet in packets] == must
    assert left == [pair for pair in kept if pair[0] in may]


# -- on a session --------------------------------------------------------------------------------------------


def test_client_that_takes_messages_gets_conflated_ones_like_any_other(
    engine: Engine, open_session: Open, loop: FakeLoop
) -> None:
    session, port = open_session(engine)
    session.conflate("k", text("4a1"))
    session.send(text("4b"))
    session.conflate("k", text("4a2"))
    loop.turn()
    assert port.written == [b"4a1", b"4b", b"4a2"]
    assert session.conflated is None
    assert engine.counters.conflated == 0


def test_newest_of_each_key_comes_after_what_waited_reliably(
    engine: Engine, open_session: Open, loop: FakeLoop
) -> None:
    session, port = open_session(engine, FakePort(writable=False))
    for n in range(3):
        session.conflate("a", text(f"4a{n}"))
        session.send(text(f"4reliable{n}"))
        session.conflate("b", text(f"4b{n}"))
        loop.settle()
    assert port.written == []
    assert engine.counters.conflated == 4
    resume(session, port)
    assert port.written == [b"4reliable0", b"4reliable1", b"4reliable2", b"4a2", b"4b2"]
    assert (session.run, session.conflated, session.backlog(), session.stuck_bytes) == (None, None, 0, 0)
    session.conflate("a", text("4a3"))
    loop.turn()
    assert port.written[-1:] == [b"4a3"]


def test_keys_alone_wait_without_anything_reliable(engine: Engine, open_session: Open) -> None:
    session, port = open_session(engine, FakePort(writable=False))
    session.conflate("a", text("4a"))
    session.conflate(None, text("4none"))
    session.conflate(("a", 1), text("4tuple"))
    resume(session, port)
    assert port.written == [b"4a", b"4none", b"4tuple"]


def test_attachments_stay_with_their_message(engine: Engine, open_session: Open) -> None:
    session, port = open_session(engine, FakePort(writable=False))
    session.conflate("a", OutboundMessage(b'451-["a"]', (b"old",)))
    session.conflate("b", OutboundMessage(b'451-["b"]', (b"b",)))
    session.conflate("a", OutboundMessage(b'451-["a"]', (b"new",)))
    resume(session, port)
    assert port.written == [b'451-["a"]', b"new", b'451-["b"]', b"b"]


def test_bytes_that_wait_conflated_count_in_the_backlog(engine: Engine, open_session: Open) -> None:
    session, _ = open_session(engine, FakePort(writable=False))
    session.send(text("4" + "x" * 99))
    before = session.backlog()
    for _ in range(5):
        session.conflate("k", text("4" + "x" * 999))
    assert session.backlog() == before + MESSAGE_OVERHEAD_BYTES + 1000
    assert session.stuck_bytes == MESSAGE_OVERHEAD_BYTES + 1000


@pytest.mark.parametrize("last", ["send", "conflate", "pause"])
def test_client_is_dropped_when_too_much_waits_conflated(
    make_engine: Callable[..., Engine], open_session: Open, caplog: pytest.LogCaptureFixture, last: str
) -> None:
    engine = make_engine(max_buffered_bytes=100_000)
    session, port = open_session(engine, FakePort(writable=False))
    for key in range(9):
        session.conflate(key, text("4" + "x" * 10_000))
    assert session.state is State.OPEN
    with caplog.at_level(logging.WARNING, "tidegate.session"):
        if last == "send":
            session.send(text("4" + "x" * 10_000))
        elif last == "conflate":
            session.conflate("one more", text("4" + "x" * 10_000))
        else:
            port.buffered = 20_000
            session.port_paused(port)  # type: ignore[arg-type]
    assert session.close_reason == reasons.SLOW_CLIENT
    assert "max_buffered_bytes" in caplog.text
    assert session.conflated is None
    session.conflate("late", text("4late"))
    assert (session.conflated, engine.counters.dropped_closed) == (None, 1)


def test_key_that_changes_for_ever_takes_no_more_than_one_message(
    make_engine: Callable[..., Engine], open_session: Open
) -> None:
    engine = make_engine(max_buffered_bytes=5_000)
    session, port = open_session(engine, FakePort(writable=False))
    for n in range(10_000):
        session.conflate("k", text(f"4{n:04}" + "x" * 1000))
    assert session.state is State.OPEN
    assert session.backlog() < 2_000
    assert engine.counters.conflated == 9_999
    resume(session, port)
    assert [message[:5] for message in port.written] == [b"49999"]


def test_single_message_over_the_bound_may_wait_conflated(
    make_engine: Callable[..., Engine], open_session: Open
) -> None:
    engine = make_engine(max_buffered_bytes=10_000)
    session, _ = open_session(engine, FakePort(writable=False))
    for _ in range(3):
        session.conflate("k", text("4" + "x" * 20_000))
    assert session.state is State.OPEN
    session.conflate("other", text("4"))
    assert session.close_reason == reasons.SLOW_CLIENT


def test_what_the_port_does_not_take_can_still_be_replaced(engine: Engine, open_session: Open, loop: FakeLoop) -> None:
    """The port pauses after the first portion; the rest keeps its keys."""
    session, port = open_session(engine, FakePort(writable=False))
    for key in range(5):
        session.conflate(key, text(f"4old{key}" + "x" * (CONFLATED_PORTION_BYTES // 2 - 1000)))
    write = port.write

    def write_and_pause(run: Run) -> Run | None:
        rest = write(run)
        port.writable, port.buffered = False, run.nbytes
        session.port_paused(port)  # type: ignore[arg-type]
        return rest

    port.write = write_and_pause  # type: ignore[method-assign]
    resume(session, port)
    assert [message[:5] for message in port.written] == [b"4old0", b"4old1"]
    session.conflate(4, text("4new4"))
    session.conflate(0, text("4new0"))
    resume(session, port)
    assert [message[:5] for message in port.written[2:]] == [b"4old2", b"4old3", b"4new4", b"4new0"]
    assert session.conflated is None


def test_end_says_the_newest_before_the_good_bye(engine: Engine, open_session: Open) -> None:
    session, port = open_session(engine, FakePort(writable=False))
    session.conflate("k", text("4old"))
    session.send(text("4reliable"))
    session.conflate("k", text("4new"))
    session.close(reasons.SERVER_DISCONNECT)
    assert port.closed_with is not None
    assert port.closed_with[0] == b"4reliable\x1e4new"


def test_sender_waits_for_a_client_with_much_conflated_and_no_longer(
    make_engine: Callable[..., Engine], open_session: Open, loop: FakeLoop
) -> None:
    engine = make_engine(max_buffered_bytes=100_000)
    session, port = open_session(engine, FakePort(writable=False))
    session.conflate("k", text("4" + "x" * 60_000))
    task = loop.create_task(session.wait_for_room())
    loop.settle()
    assert not task.done()
    resume(session, port)
    loop.settle()
    assert task.done()


def test_withdrawing_frees_the_bytes(engine: Engine, open_session: Open) -> None:
    session, port = open_session(engine, FakePort(writable=False))
    assert session.withdraw_conflated(lambda key: True) == []
    session.conflate("a", text("4a"))
    session.conflate("b", text("4b"))
    assert texts(session.withdraw_conflated(lambda key: key == "a")) == [b"4a"]
    assert session.backlog() == session.stuck_bytes == MESSAGE_OVERHEAD_BYTES + 2
    assert texts(session.withdraw_conflated(lambda key: True)) == [b"4b"]
    assert (session.conflated, session.stuck_bytes) == (None, 0)
    resume(session, port)
    assert port.written == []


# -- broadcast -----------------------------------------------------------------------------------------------


def test_broadcast_goes_to_the_ready_at_once_and_waits_for_the_others(
    engine: Engine, open_session: Open, loop: FakeLoop
) -> None:
    (first, one), (second, other), (slow, jammed), (gone, _) = [open_session(engine) for _ in range(4)]
    jammed.writable = False
    gone.close(reasons.SERVER_DISCONNECT)
    for n in range(3):
        assert engine.broadcast_conflated([first, second, slow, gone], "k", text(f"4{n}")) == 3
        assert first.run is second.run, "the ready share one run"
    loop.turn()
    assert one.written == other.written == [b"40", b"41", b"42"]
    resume(slow, jammed)
    assert jammed.written == [b"42"]
    counters = engine.counters
    assert (counters.conflated, counters.dropped_closed, counters.messages_out) == (2, 3, 9)


def test_burst_to_nobody_ready_still_counts_in_the_turn(engine: Engine, open_session: Open, loop: FakeLoop) -> None:
    session, _ = open_session(engine, FakePort(writable=False))
    for _ in range(3):
        engine.broadcast_conflated([session], "k", text("4" + "x" * 10_000))
    assert engine.turn_bytes > 30_000
    loop.settle()
    assert engine.turn_bytes == 0


# -- on each transport ---------------------------------------------------------------------------------------


def polling_session(engine: Engine, ask: Ask, headers: dict[str, str] | None = None) -> Session:
    assert ask(engine, "EIO=4&transport=polling", headers=headers).status == 200
    [session] = engine.sockets.values()
    return session


def poll(engine: Engine, ask: Ask, session: Session, headers: dict[str, str] | None = None) -> list[str]:
    return ask(engine, f"EIO=4&transport=polling&sid={session.id}", headers=headers).packets


def test_poll_carries_what_is_reliable_and_the_newest_in_one_payload(engine: Engine, ask: Ask) -> None:
    session = polling_session(engine, ask, BROWSER)
    for n in range(40):
        session.conflate(n % 30, text(f"4k{n}"))
    session.send(text("4reliable"))
    expected = [f"4k{n + 30 if n < 10 else n}" for n in range(30)]
    assert poll(engine, ask, session, BROWSER) == ["4reliable", *expected]


def test_keys_that_do_not_fit_into_a_payload_of_16_packets_wait_on(engine: Engine, ask: Ask) -> None:
    session = polling_session(engine, ask)
    session.send(text("4reliable"))
    for key in range(20):
        session.conflate(key, text(f"4old{key}"))
    assert poll(engine, ask, session) == ["4reliable", *(f"4old{key}" for key in range(15))]
    session.conflate(17, text("4new17"))
    session.conflate(3, text("4new3"))
    assert poll(engine, ask, session) == ["4old15", "4old16", "4new17", "4old18", "4old19", "4new3"]
    assert session.conflated is None


def test_message_of_which_packets_have_left_is_completed_before_its_newer(engine: Engine, ask: Ask) -> None:
    session = polling_session(engine, ask)
    for n in range(14):
        session.send(text(f"4{n}"))
    session.conflate("k", OutboundMessage(b"4head", (b"old1", b"old2", b"old3")))
    session.conflate("next", text("4next"))
    assert poll(engine, ask, session)[14:] == ["4head", "bb2xkMQ=="]
    session.conflate("k", OutboundMessage(b"4head", (b"new",)))
    assert poll(engine, ask, session) == ["bb2xkMg==", "bb2xkMw==", "4next", "4head", "bbmV3"]


def test_between_two_streaming_responses_only_the_newest_waits(
    make_engine: Callable[..., Engine], ask: Ask, loop: FakeLoop
) -> None:
    engine = make_engine(stream_max_bytes=1000)
    first = ask(engine, "EIO=4&transport=xhr-streaming")
    [session] = engine.sockets.values()
    session.send(text("4" + "x" * 1000))
    loop.settle()
    assert first.transport is not None
    assert first.transport.is_closed, "the response is full"
    for n in range(3):
        session.conflate("a", text(f"4a{n}"))
        session.conflate("b", text(f"4b{n}" + "y" * 500))
        session.conflate("c", text(f"4c{n}"))
    session.send(text("4reliable"))
    second = ask(engine, f"EIO=4&transport=xhr-streaming&sid={session.id}")
    assert second.transport is not None
    assert stream_records(bytes(second.transport.written)) == ["4reliable", "4a2", "4b2" + "y" * 500]
    assert second.transport.is_closed, "full once more"
    session.conflate("c", text("4c3"))
    third = ask(engine, f"EIO=4&transport=xhr-streaming&sid={session.id}")
    assert third.transport is not None
    assert stream_records(bytes(third.transport.written)) == ["4c3"]


def test_websocket_that_is_not_read_gets_the_newest_when_it_reads_on(engine: Engine, ask: Ask, loop: FakeLoop) -> None:
    exchange = ask(engine, "EIO=4&transport=websocket", headers=WEBSOCKET_HEADERS)
    [session] = engine.sockets.values()
    transport = exchange.transport
    assert transport is not None
    transport.take()
    transport.is_jammed = True
    session.send(text("4" + "x" * 70_000))
    assert transport.is_paused
    for n in range(3):
        session.conflate("k", text(f"4k{n}"))
    session.send(text("4reliable"))
    loop.settle()
    transport.take()
    transport.unjam()
    loop.settle()
    assert server_frames(transport.take()) == [(1, "4reliable"), (1, "4k2")]


def test_upgrade_takes_along_what_waits_conflated(engine: Engine, open_session: Open, loop: FakeLoop) -> None:
    session, old = open_session(engine, FakePort(writable=False))
    new = FakePort("websocket")
    session.begin_upgrade(new)  # type: ignore[arg-type]
    session.conflate("k", text("4one"))
    session.receive(new, Packet(PacketType.PING, "probe"))  # type: ignore[arg-type]
    session.conflate("k", text("4two"))
    session.send(text("4reliable"))
    session.receive(new, Packet(PacketType.UPGRADE, ""))  # type: ignore[arg-type]
    assert old.written == []
    assert new.written == [b"3probe", b"4reliable", b"4two"]
    assert session.stuck_bytes == 0


def test_upgrade_to_a_port_that_is_jammed_already_counts_both(engine: Engine, open_session: Open) -> None:
    session, _ = open_session(engine, FakePort(writable=False))
    new = FakePort("websocket")
    session.begin_upgrade(new)  # type: ignore[arg-type]
    session.receive(new, Packet(PacketType.PING, "probe"))  # type: ignore[arg-type]
    session.conflate("k", text("4k"))
    new.writable, new.buffered = False, 1000
    session.receive(new, Packet(PacketType.UPGRADE, ""))  # type: ignore[arg-type]
    assert session.stuck_bytes == 1000 + MESSAGE_OVERHEAD_BYTES + 2


@pytest.mark.parametrize("transport", ["polling", "xhr-streaming", "websocket"])
def test_message_conflated_in_the_connect_handler_follows_the_handshake(
    engine: Engine, ask: Ask, loop: FakeLoop, transport: str
) -> None:
    def connect(session_id: str, environ: Any) -> None:
        for n in range(3):
            engine.broadcast_conflated([engine.sockets[session_id]], "k", text(f"4{n}"))

    engine.on("connect", connect)
    headers = WEBSOCKET_HEADERS if transport == "websocket" else None
    exchange = ask(engine, f"EIO=4&transport={transport}", headers=headers)
    if exchange.transport is None:
        found = exchange.packets
    elif transport == "websocket":
        found = [str(content) for _, content in server_frames(bytes(exchange.transport.written))]
    else:
        found = stream_records(bytes(exchange.transport.written))
    assert found[0][0] == "0"
    assert found[1:] == ["42"]
