"""How fast a session takes in what its client sends, and what waits meanwhile."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.transports.engine_doubles import FakeExchange, FakeLoop, FakePort, request, running_loop, text
from transports import reasons
from transports.engine import Engine
from transports.intake import BURST_S, TURN_BYTES, TURN_PACKETS, Hold, RateMeter, Rates
from transports.protocol.packets import Packet, PacketType
from transports.session import Session

OpenSession = Callable[..., tuple[Session, FakePort]]
Ask = Callable[..., FakeExchange]

PONG = Packet(PacketType.PONG, "")


# -- the meter -----------------------------------------------------------------------------------------------


def test_what_came_within_the_rates_costs_no_time() -> None:
    meter = RateMeter(Rates(10, 1000), 0.0)
    assert not meter.spend(20, 2000), "two seconds' worth at once"
    assert meter.spend(1, 0)
    assert meter.debt_s(0.0) == pytest.approx(0.1)
    assert meter.debt_s(0.1) == 0


def test_the_slower_of_the_two_rates_counts() -> None:
    meter = RateMeter(Rates(10, 1000), 0.0)
    assert meter.spend(25, 5000)
    assert meter.debt_s(0.0) == pytest.approx(3.0)


@pytest.mark.parametrize("rates", [Rates(0, 1000), Rates(10, 0)])
def test_a_rate_of_nothing_is_no_limit(rates: Rates) -> None:
    meter = RateMeter(rates, 0.0)
    if rates.bytes_per_s == 1000:
        assert not meter.spend(10**9, 0)
    else:
        assert not meter.spend(0, 10**12)
    assert meter.debt_s(1.0) == 0


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3000), st.floats(0, 10)), max_size=50))
def test_no_more_passes_than_the_rate_and_one_burst(steps: list[tuple[int, int, float]]) -> None:
    """However it comes: a client that waits out its debts has sent at most the rate over time, and one burst."""
    rates = Rates(10, 1000)
    meter = RateMeter(rates, 0.0)
    now = 0.0
    packets = nbytes = 0
    for more, size, passed in steps:
        now += passed
        packets += more
        nbytes += size
        if meter.spend(more, size):
            now += meter.debt_s(now)
            assert packets <= 10 * (now + BURST_S) + 1e-6
            assert nbytes <= 1000 * (now + BURST_S) + 1e-6


# -- holding a session -----------------------------------------------------------------------------------------


def test_held_client_is_not_read_and_its_heartbeat_does_not_run_out(
    engine: Engine, open_session: OpenSession, loop: FakeLoop
) -> None:
    session, port = open_session(engine)
    session.intake.hold(Hold.HANDLERS)
    assert port.calls == ["pause"]
    loop.advance(500)
    assert session.connected
    session.intake.let_go(Hold.HANDLERS)
    loop.settle()
    assert port.calls == ["pause", "resume"]
    session.receive(port, PONG)  # type: ignore[arg-type]
    loop.advance(20)
    assert session.connected
    loop.advance(50)
    assert session.close_reason == reasons.PING_TIMEOUT, "from then on it has to answer again"


def test_held_client_that_is_let_go_has_the_whole_time_for_its_pong(
    engine: Engine, open_session: OpenSession, loop: FakeLoop
) -> None:
    session, _ = open_session(engine)
    loop.advance(26)
    session.intake.hold(Hold.HANDLERS)
    loop.advance(300)
    session.intake.let_go(Hold.HANDLERS)
    loop.advance(19)
    assert session.connected
    loop.advance(2)
    assert session.close_reason == reasons.PING_TIMEOUT


def test_each_cause_holds_for_itself(engine: Engine, open_session: OpenSession, loop: FakeLoop) -> None:
    session, port = open_session(engine)
    session.intake.hold(Hold.HANDLERS)
    session.intake.hold(Hold.RATE)
    session.intake.let_go(Hold.RATE)
    session.intake.let_go(Hold.RATE)
    loop.settle()
    assert port.calls == ["pause"]
    session.intake.let_go(Hold.HANDLERS)
    session.intake.hold(Hold.HANDLERS)
    loop.settle()
    assert port.calls == ["pause", "pause"], "held again before reading went on"


def test_client_over_its_rates_is_read_again_when_its_debt_is_paid(
    make_engine: Callable[..., Engine], open_session: OpenSession, loop: FakeLoop
) -> None:
    engine = make_engine(packets_per_second=10, bytes_per_second=0)
    session, port = open_session(engine)
    session.intake.take(port, b"\x1e".join([b"6"] * 20), lambda _: None)  # type: ignore[arg-type]
    assert not session.is_held
    session.intake.take(port, b"\x1e".join([b"6"] * 30), lambda _: None)  # type: ignore[arg-type]
    assert session.is_held
    assert engine.counters.throttled == 1
    loop.advance(2.9)
    assert session.is_held
    loop.advance(0.5)
    assert not session.is_held
    assert port.calls == ["pause", "resume"]


@pytest.mark.parametrize("cause", [Hold.RATE, Hold.HANDLERS, Hold.ALL_HANDLERS])
def test_session_that_ends_while_held_ends(
    engine: Engine, open_session: OpenSession, loop: FakeLoop, cause: Hold
) -> None:
    session, port = open_session(engine)
    session.intake.hold(cause)
    session.close(reasons.SERVER_DISCONNECT)
    session.intake.let_go(cause)
    loop.advance(100)
    assert session.closed
    assert "resume" not in port.calls


def test_upgrade_of_a_held_session_is_held_too(engine: Engine, open_session: OpenSession, loop: FakeLoop) -> None:
    session, _ = open_session(engine)
    candidate = FakePort("websocket")
    session.begin_upgrade(candidate)  # type: ignore[arg-type]
    session.receive(candidate, Packet(PacketType.PING, "probe"))  # type: ignore[arg-type]
    session.intake.hold(Hold.HANDLERS)
    session.receive(candidate, Packet(PacketType.UPGRADE, ""))  # type: ignore[arg-type]
    assert candidate.calls == ["pause"]
    session.intake.let_go(Hold.HANDLERS)
    loop.settle()
    assert candidate.calls == ["pause", "resume"]


# -- a POST of a held session ----------------------------------------------------------------------------------


@pytest.fixture
def received(engine: Engine) -> list[Any]:
    """What the application gets; "stop" makes it hold its session."""
    seen: list[Any] = []

    def receive(sid: str, data: Any) -> None:
        seen.append(data)
        if data == "stop":
            engine.sockets[sid].intake.hold(Hold.HANDLERS)

    engine.on("message", receive)
    return seen


def handshake(engine: Engine, ask: Ask) -> str:
    ask(engine, "EIO=4&transport=polling")
    return next(iter(engine.sockets))


def test_post_is_answered_when_its_last_packet_is_taken(
    engine: Engine, ask: Ask, loop: FakeLoop, received: list[Any]
) -> None:
    sid = handshake(engine, ask)
    target = f"EIO=4&transport=polling&sid={sid}"
    post = ask(engine, request(target, "POST"), b"4a\x1e4stop\x1e4b\x1e4stop\x1e4c")
    assert (received, post.answers) == (["a", "stop"], 0)
    engine.sockets[sid].intake.let_go(Hold.HANDLERS)
    loop.settle()
    assert (received, post.answers) == (["a", "stop", "b", "stop"], 0)
    engine.sockets[sid].intake.let_go(Hold.HANDLERS)
    loop.settle()
    assert received[4:] == ["c"]
    assert (post.status, post.body, post.answers) == (200, b"ok", 1)


def test_second_post_while_the_first_is_not_answered_is_refused(engine: Engine, ask: Ask, received: list[Any]) -> None:
    sid = handshake(engine, ask)
    target = f"EIO=4&transport=polling&sid={sid}"
    first = ask(engine, request(target, "POST"), b"4stop\x1e4a")
    second = ask(engine, request(target, "POST"), b"4b")
    assert second.error == (400, 3)
    assert first.answers == 1, "with the end of the session"
    assert received == ["stop"]
    assert not engine.sockets


def test_packet_that_is_wrong_after_a_hold_refuses_the_post(
    engine: Engine, ask: Ask, loop: FakeLoop, received: list[Any]
) -> None:
    sid = handshake(engine, ask)
    post = ask(engine, request(f"EIO=4&transport=polling&sid={sid}", "POST"), b"4stop\x1e0")
    engine.sockets[sid].intake.let_go(Hold.HANDLERS)
    loop.settle()
    assert post.error == (400, 3)
    assert b"Unexpected open packet" in post.body
    assert engine.counters.refused == {"unexpected_packet": 1}


@pytest.mark.parametrize("broken", [b"9", b"", b"b!", b"4\xff"])
def test_packets_before_a_broken_one_are_taken_and_none_after_it(
    engine: Engine, ask: Ask, received: list[Any], broken: bytes
) -> None:
    sid = handshake(engine, ask)
    post = ask(engine, request(f"EIO=4&transport=polling&sid={sid}", "POST"), b"4a\x1e" + broken + b"\x1e4b")
    assert received == ["a"]
    assert post.error == (400, 3)
    assert not engine.sockets
    assert engine.counters.refused.total() == 1


def test_packets_behind_the_good_bye_are_not_read(engine: Engine, ask: Ask, received: list[Any]) -> None:
    sid = handshake(engine, ask)
    post = ask(engine, request(f"EIO=4&transport=polling&sid={sid}", "POST"), b"4a\x1e1\x1e9")
    assert received == ["a"]
    assert (post.status, post.answers) == (200, 1)


# -- turns of the loop -------------------------------------------------------------------------------------------


def post_of(*packets: bytes) -> bytes:
    return b"\x1e".join(packets)


def test_others_have_their_turn_between_portions_of_a_post(
    engine: Engine, ask: Ask, loop: FakeLoop, received: list[Any]
) -> None:
    first = handshake(engine, ask)
    ask(engine, "EIO=4&transport=polling")
    other = next(sid for sid in engine.sockets if sid != first)
    count = 3 * TURN_PACKETS + 1
    long = FakeExchange(request(f"EIO=4&transport=polling&sid={first}", "POST"), post_of(*[b"4long"] * count))
    short = FakeExchange(request(f"EIO=4&transport=polling&sid={other}", "POST"), post_of(b"4short"))
    engine.handle(long)
    assert received == ["long"] * TURN_PACKETS
    engine.handle(short)
    assert (short.status, long.answers) == (200, 0)
    loop.turn()
    assert received.count("long") == 2 * TURN_PACKETS
    loop.settle()
    assert received.count("long") == count
    assert (long.status, long.answers) == (200, 1)


def test_post_that_is_not_through_waits_for_an_upgrade_in_between(
    engine: Engine, ask: Ask, loop: FakeLoop, received: list[Any]
) -> None:
    sid = handshake(engine, ask)
    session = engine.sockets[sid]
    numbers = [str(number) for number in range(2 * TURN_PACKETS)]
    post = FakeExchange(
        request(f"EIO=4&transport=polling&sid={sid}", "POST"), post_of(*[b"4" + number.encode() for number in numbers])
    )
    candidate = FakePort("websocket")
    session.begin_upgrade(candidate)  # type: ignore[arg-type]
    session.receive(candidate, Packet(PacketType.PING, "probe"))  # type: ignore[arg-type]
    engine.handle(post)
    session.receive(candidate, Packet(PacketType.UPGRADE, ""))  # type: ignore[arg-type]
    assert candidate.calls == ["pause"], "what the WebSocket brings comes after the POST"
    assert len(received) < len(numbers)
    loop.settle()
    assert received == numbers
    assert (candidate.calls.count("resume"), candidate.calls[-1]) == (1, "resume")
    assert post.status == 200


def test_session_that_ends_between_portions_takes_no_more_and_answers(
    engine: Engine, ask: Ask, loop: FakeLoop, received: list[Any]
) -> None:
    sid = handshake(engine, ask)
    post = FakeExchange(request(f"EIO=4&transport=polling&sid={sid}", "POST"), post_of(*[b"4a"] * (2 * TURN_PACKETS)))
    engine.handle(post)
    engine.sockets[sid].close(reasons.SERVER_DISCONNECT)
    loop.settle()
    assert len(received) == TURN_PACKETS
    assert post.answers == 1


@pytest.mark.parametrize(("packets", "nbytes"), [(TURN_PACKETS, 1), (1, TURN_BYTES)])
def test_client_that_has_sent_much_at_once_is_read_again_in_the_next_turn(
    engine: Engine, open_session: OpenSession, loop: FakeLoop, packets: int, nbytes: int
) -> None:
    session, port = open_session(engine)
    session.intake.spend(packets - 1, nbytes - 1)
    assert port.calls == []
    session.intake.spend(packets, nbytes)
    session.intake.spend(packets, nbytes)
    assert port.calls == ["pause"]
    loop.turn()
    assert port.calls == ["pause", "resume"]
    assert engine.counters.throttled == 0


def test_client_held_for_more_than_its_turn_is_not_read_in_the_next(
    engine: Engine, open_session: OpenSession, loop: FakeLoop
) -> None:
    session, port = open_session(engine)
    session.intake.spend(TURN_PACKETS, 1)
    session.intake.hold(Hold.HANDLERS)
    loop.settle()
    assert port.calls == ["pause"]
    session.intake.let_go(Hold.HANDLERS)
    loop.settle()
    assert port.calls == ["pause", "resume"]


# -- all buffers together ----------------------------------------------------------------------------------------


def test_those_with_most_waiting_go_first_when_all_buffers_are_full(
    make_engine: Callable[..., Engine], open_session: OpenSession, loop: FakeLoop
) -> None:
    engine = make_engine(max_total_buffered_bytes=1_000_000, max_buffered_bytes=900_000)
    sessions = [open_session(engine, FakePort(writable=False))[0] for _ in range(10)]
    bystander, port = open_session(engine)
    for size, session in enumerate(sessions):
        engine.post(session, text("4" + "x" * (15_000 * (size + 1))))
        loop.settle()
    assert all(session.connected for session in sessions), "in all there is room"
    engine.broadcast([bystander], text("4" + "y" * 1000))
    for session in sessions[1:6]:
        engine.post(session, text("4" + "x" * 30_000))
        loop.settle()
    shed = [session for session in sessions if not session.connected]
    assert shed, "the bound was passed"
    assert {session.close_reason for session in shed} == {reasons.MEMORY_SHED}
    assert shed == sessions[-len(shed) :], "the fullest"
    assert sum(session.held_bytes() for session in sessions) <= 1_000_000
    assert bystander.connected
    assert engine.counters.refused["memory_shed"] == len(shed)
    assert port.written


def test_total_without_a_bound_is_never_looked_at(
    make_engine: Callable[..., Engine], open_session: OpenSession, loop: FakeLoop
) -> None:
    engine = make_engine(max_total_buffered_bytes=0)
    session, _ = open_session(engine, FakePort(writable=False))
    for _ in range(3):
        engine.post(session, text("4" + "x" * 1_000_000))
        loop.settle()
    assert session.connected


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 200_000)), max_size=80))
def test_total_stays_below_its_bound_whatever_is_sent(steps: list[tuple[int, int]]) -> None:
    with running_loop() as loop:
        engine = Engine(max_total_buffered_bytes=1_000_000, max_buffered_bytes=10_000_000)
        sessions = []
        for _ in range(10):
            session = engine.create_session(request("EIO=4&transport=polling"))
            session.open(FakePort(writable=False))
            sessions.append(session)
        for number, size in steps:
            engine.post(sessions[number], text("4" + "x" * size))
            loop.settle()
            assert sum(session.held_bytes() for session in sessions) <= 1_000_000


def test_post_whose_session_is_closed_while_it_is_over_its_rates_is_answered(
    make_engine: Callable[..., Engine], ask: Ask, loop: FakeLoop
) -> None:
    """The client has no request open for the good-bye, so the session waits for one; its POST does not."""
    engine = make_engine(packets_per_second=1)
    engine.on("message", lambda sid, _: engine.sockets[sid].close(reasons.HANDLER_FAILED))
    sid = handshake(engine, ask)
    post = ask(engine, request(f"EIO=4&transport=polling&sid={sid}", "POST"), b"4a" + b"\x1e4b" * 10)
    assert engine.sockets[sid].closing
    assert post.answers == 1


def test_rest_of_a_held_post_is_taken_when_the_session_goes_on_elsewhere(
    engine: Engine, ask: Ask, loop: FakeLoop, received: list[Any]
) -> None:
    sid = handshake(engine, ask)
    session = engine.sockets[sid]
    post = ask(engine, request(f"EIO=4&transport=polling&sid={sid}", "POST"), b"4stop\x1e4a\x1e4b")
    candidate = FakePort("websocket")
    session.begin_upgrade(candidate)  # type: ignore[arg-type]
    session.receive(candidate, Packet(PacketType.PING, "probe"))  # type: ignore[arg-type]
    session.receive(candidate, Packet(PacketType.UPGRADE, ""))  # type: ignore[arg-type]
    session.intake.let_go(Hold.HANDLERS)
    loop.settle()
    assert received == ["stop", "a", "b"], "or it must not be answered with ok"
    assert (post.status, post.body) == (200, b"ok")
    assert candidate.calls == ["pause", "resume"]


def test_ended_session_is_freed_also_where_its_handlers_end_later(
    engine: Engine, open_session: OpenSession, loop: FakeLoop
) -> None:
    """By reference counts alone: the collector runs rarely."""
    session, _ = open_session(engine)
    session.intake.hold(Hold.HANDLERS)
    session.close(reasons.TRANSPORT_CLOSE)
    assert session.closed
    session.intake.let_go(Hold.HANDLERS)
    session.intake.hold(Hold.ALL_HANDLERS)
    loop.settle()
    last = weakref.ref(session)
    gc.disable()
    try:
        del session
        assert last() is None
    finally:
        gc.enable()


def test_bodies_that_are_arriving_count_and_are_dropped_with_their_sessions(
    make_engine: Callable[..., Engine], ask: Ask
) -> None:
    engine = make_engine(max_total_buffered_bytes=1_000_000)
    posts = []
    for _ in range(12):
        before = set(engine.sockets)
        ask(engine, "EIO=4&transport=polling")
        [sid] = set(engine.sockets) - before
        post = ask(engine, request(f"EIO=4&transport=polling&sid={sid}", "POST"), None)
        posts.append(post)
        post.arriving(100_000)
        assert sum(session.held_bytes() for session in engine.sockets.values()) <= 1_000_000
    shed = [post for post in posts if post.answers]
    assert shed
    assert {post.error for post in shed} == {(400, 1)}
    assert engine.counters.closed == {reasons.MEMORY_SHED: len(shed)}


def test_packets_of_a_held_post_cost_no_more_than_its_body(make_engine: Callable[..., Engine], ask: Ask) -> None:
    """They are decoded as they are taken: objects for packets of two bytes would take seventy times as much."""
    engine = make_engine(packets_per_second=10)
    sid = handshake(engine, ask)
    body = b"\x1e".join([b"6"] * 40_000)
    post = ask(engine, request(f"EIO=4&transport=polling&sid={sid}", "POST"), body)
    assert engine.sockets[sid].held_bytes() == len(body)
    assert post.answers == 0
