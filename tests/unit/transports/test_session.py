"""A session: heartbeat, upgrade, bounds and every way it can end."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.transports.engine_doubles import WEBSOCKET_HEADERS, FakeExchange, FakeLoop, FakePort, request, text
from transports import catalogue, reasons
from transports.engine import Engine
from transports.errors import RemoteProtocolError, RequestRefused
from transports.protocol.lifecycle import State
from transports.protocol.packets import Packet, PacketType
from transports.session import GOODBYE_TIMEOUT_S, STALL_S, Session

OpenSession = Callable[..., tuple[Session, FakePort]]

PROBE = Packet(PacketType.PING, "probe")
UPGRADE = Packet(PacketType.UPGRADE, "")
PONG = Packet(PacketType.PONG, "")


# -- heartbeat -----------------------------------------------------------------------------------------------


def test_ping_comes_after_the_interval_and_again(engine: Engine, open_session: OpenSession, loop: FakeLoop) -> None:
    session, port = open_session(engine)
    loop.advance(24.9)
    assert port.written == []
    loop.advance(0.5)
    assert port.written == [b"2"]
    session.receive(port, PONG)  # type: ignore[arg-type]
    loop.advance(24)
    assert port.written == [b"2"]
    loop.advance(1)
    assert port.written == [b"2", b"2"]


def test_missing_pong_ends_the_session_after_the_timeout(
    engine: Engine, open_session: OpenSession, loop: FakeLoop
) -> None:
    session, port = open_session(engine)
    loop.advance(44.9)
    assert session.state is State.OPEN
    loop.advance(0.5)
    assert session.closed
    assert session.close_reason == reasons.PING_TIMEOUT
    assert port.closed_with is not None
    assert port.closed_with[1] == 1001


def test_pong_with_data_and_pongs_unasked_for_are_accepted(
    engine: Engine, open_session: OpenSession, loop: FakeLoop
) -> None:
    session, port = open_session(engine)
    session.receive(port, PONG)  # type: ignore[arg-type]
    loop.advance(25.3)
    assert port.written == [b"2"], "a pong before its ping does not put the ping off"
    session.receive(port, Packet(PacketType.PONG, "x"))  # type: ignore[arg-type]
    loop.advance(20)
    assert session.state is State.OPEN


def test_late_client_is_found_out_when_it_asks(engine: Engine, open_session: OpenSession, loop: FakeLoop) -> None:
    session, port = open_session(engine)
    loop.advance(25.3)
    assert not session.expire(loop.time())
    assert session.expire(loop.time() + 20)
    assert session.close_reason == reasons.PING_TIMEOUT
    assert port.calls
    assert not session.expire(loop.time() + 99), "once only"


def test_session_without_a_ping_outstanding_does_not_expire(engine: Engine, open_session: OpenSession) -> None:
    session, _ = open_session(engine)
    assert not session.expire(engine.now() + 1e6)


def test_other_messages_are_no_substitute_for_a_pong(engine: Engine, open_session: OpenSession, loop: FakeLoop) -> None:
    session, port = open_session(engine)
    for _ in range(46):
        session.receive_message(port, "x")  # type: ignore[arg-type]
        loop.advance(1)
    assert session.close_reason == reasons.PING_TIMEOUT


# -- sending -------------------------------------------------------------------------------------------------


def test_messages_of_one_turn_leave_together(engine: Engine, open_session: OpenSession, loop: FakeLoop) -> None:
    session, port = open_session(engine)
    session.send(text("4a"))
    session.send(text("4b"))
    assert port.written == []
    loop.turn()
    assert port.written == [b"4a", b"4b"]


def test_long_run_is_written_at_once(engine: Engine, open_session: OpenSession) -> None:
    session, port = open_session(engine)
    session.send(text("4" + "x" * 70_000))
    assert len(port.written) == 1
    assert session.run is None


def test_messages_wait_while_the_port_cannot_take_them(
    engine: Engine, open_session: OpenSession, loop: FakeLoop
) -> None:
    session, port = open_session(engine, FakePort(writable=False))
    session.send(text("4a"))
    loop.settle()
    assert not session.is_ready()
    port.writable = True
    session.port_resumed(port)  # type: ignore[arg-type]
    assert port.written == [b"4a"]
    assert session.is_ready()


def test_message_for_a_closed_session_is_counted_as_dropped(engine: Engine, open_session: OpenSession) -> None:
    session, port = open_session(engine)
    session.close(reasons.SERVER_DISCONNECT)
    session.send(text("4a"))
    assert engine.counters.dropped_closed == 1
    assert session.run is None
    assert port.written == []


def test_slow_client_is_dropped_at_the_bound(
    make_engine: Callable[..., Engine], open_session: OpenSession, loop: FakeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine(max_buffered_bytes=100_000)
    session, port = open_session(engine, FakePort(writable=False))
    for _ in range(9):
        session.send(text("4" + "x" * 10_000))
        loop.settle()
    assert session.state is State.OPEN
    with caplog.at_level(logging.WARNING, "tidegate.refusals"):
        session.send(text("4" + "x" * 10_000))
    assert session.close_reason == reasons.SLOW_CLIENT
    assert port.calls == ["abort"], "no good-bye to somebody who does not read"
    assert "max_buffered_bytes is 100000" in caplog.text
    assert engine.counters.closed[reasons.SLOW_CLIENT] == 1


def test_bytes_that_the_kernel_has_not_taken_count_too(
    make_engine: Callable[..., Engine], open_session: OpenSession
) -> None:
    engine = make_engine(max_buffered_bytes=100_000)
    session, port = open_session(engine)
    port.writable, port.buffered = False, 95_000
    session.port_paused(port)  # type: ignore[arg-type]
    session.send(text("4" + "x" * 1000))
    assert session.state is State.OPEN
    session.send(text("4" + "x" * 6000))
    assert session.close_reason == reasons.SLOW_CLIENT


def test_bytes_that_left_meanwhile_do_not_count(make_engine: Callable[..., Engine], open_session: OpenSession) -> None:
    engine = make_engine(max_buffered_bytes=100_000)
    session, port = open_session(engine)
    port.writable, port.buffered = False, 95_000
    session.port_paused(port)  # type: ignore[arg-type]
    port.buffered = 70_000
    session.send(text("4" + "x" * 10_000))
    assert session.state is State.OPEN


def test_single_message_over_the_bound_is_still_carried(
    make_engine: Callable[..., Engine], open_session: OpenSession
) -> None:
    engine = make_engine(max_buffered_bytes=100_000)
    session, _ = open_session(engine, FakePort(writable=False))
    session.send(text("4" + "x" * 200_000))
    assert session.state is State.OPEN


def test_sender_waits_while_the_client_makes_progress(
    make_engine: Callable[..., Engine], open_session: OpenSession, loop: FakeLoop
) -> None:
    engine = make_engine(max_buffered_bytes=100_000)
    session, port = open_session(engine)
    port.writable, port.buffered = False, 80_000
    session.port_paused(port)  # type: ignore[arg-type]
    task = loop.create_task(session.wait_for_room())
    loop.advance(STALL_S / 2)
    assert not task.done()
    port.buffered = 70_000
    loop.advance(STALL_S)
    assert not task.done()
    port.buffered, port.writable = 10_000, True
    session.port_resumed(port)  # type: ignore[arg-type]
    loop.settle()
    assert task.done()


def test_sender_does_not_wait_for_a_client_that_takes_nothing(
    make_engine: Callable[..., Engine], open_session: OpenSession, loop: FakeLoop
) -> None:
    engine = make_engine(max_buffered_bytes=100_000)
    session, port = open_session(engine)
    port.writable, port.buffered = False, 80_000
    session.port_paused(port)  # type: ignore[arg-type]
    loop.run(session.wait_for_room())
    before = loop.time()
    loop.run(session.wait_for_room())
    assert loop.time() == before, "it was found out once"


def test_sender_does_not_wait_for_a_session_that_ends(
    make_engine: Callable[..., Engine], open_session: OpenSession, loop: FakeLoop
) -> None:
    engine = make_engine(max_buffered_bytes=100_000)
    session, port = open_session(engine)
    port.writable, port.buffered = False, 80_000
    session.port_paused(port)  # type: ignore[arg-type]
    task = loop.create_task(session.wait_for_room())
    loop.settle()
    session.close(reasons.TRANSPORT_CLOSE)
    loop.settle()
    assert task.done()


# -- receiving -----------------------------------------------------------------------------------------------


def test_messages_are_delivered_and_noops_are_not(engine: Engine, open_session: OpenSession) -> None:
    got: list[Any] = []
    engine.on("message", lambda sid, data: got.append((sid, data)))
    session, port = open_session(engine)
    session.receive(port, Packet(PacketType.MESSAGE, "a"))  # type: ignore[arg-type]
    session.receive(port, Packet(PacketType.NOOP, ""))  # type: ignore[arg-type]
    session.receive(port, Packet(PacketType.MESSAGE, b"b"))  # type: ignore[arg-type]
    assert got == [(session.id, "a"), (session.id, b"b")]
    assert engine.counters.messages_in == 2


def test_nothing_is_delivered_once_closing(engine: Engine, open_session: OpenSession) -> None:
    got: list[Any] = []
    engine.on("message", lambda sid, data: got.append(data))
    session, port = open_session(engine)
    session.receive(port, Packet(PacketType.CLOSE, ""))  # type: ignore[arg-type]
    session.receive_message(port, "late")  # type: ignore[arg-type]
    session.receive(port, Packet(PacketType.MESSAGE, "late"))  # type: ignore[arg-type]
    assert got == []
    assert session.close_reason == reasons.CLIENT_DISCONNECT
    assert port.closed_with is not None
    assert port.closed_with[3], "the client itself said good-bye"


@pytest.mark.parametrize("packet_type", [PacketType.OPEN, PacketType.PING, PacketType.UPGRADE])
def test_packets_that_clients_do_not_send_end_the_session(
    engine: Engine, open_session: OpenSession, packet_type: PacketType
) -> None:
    session, port = open_session(engine)
    session.receive(port, Packet(packet_type, ""))  # type: ignore[arg-type]
    assert session.close_reason == reasons.PARSE_ERROR


def test_packets_of_a_port_of_the_past_are_ignored(engine: Engine, open_session: OpenSession) -> None:
    got: list[Any] = []
    engine.on("message", lambda sid, data: got.append(data))
    session, _ = open_session(engine)
    stranger: Any = FakePort("websocket")
    session.receive(stranger, Packet(PacketType.CLOSE, ""))
    session.receive_message(stranger, "x")
    session.port_lost(stranger, reasons.TRANSPORT_CLOSE)
    session.port_failed(stranger, RemoteProtocolError(catalogue.EMPTY_PACKET))
    session.port_paused(stranger)
    session.port_resumed(stranger)
    assert got == []
    assert session.state is State.OPEN


def test_two_posts_at_once_end_the_session(engine: Engine, open_session: OpenSession) -> None:
    session, port = open_session(engine)
    shed: list[int] = []
    session.intake.begin_post(port, lambda: shed.append(1))  # type: ignore[arg-type]
    session.intake.end_post(port)  # type: ignore[arg-type]
    session.intake.begin_post(port, lambda: shed.append(2))  # type: ignore[arg-type]
    with pytest.raises(RequestRefused):
        session.intake.begin_post(port, lambda: shed.append(3))  # type: ignore[arg-type]
    assert shed == [], "it is received to its end"
    assert session.close_reason == reasons.PARSE_ERROR


# -- upgrade -------------------------------------------------------------------------------------------------


@pytest.fixture
def upgrading(engine: Engine, open_session: OpenSession) -> tuple[Any, Any, Any]:
    session, old = open_session(engine)
    candidate = FakePort("websocket")
    session.begin_upgrade(candidate)  # type: ignore[arg-type]
    return session, old, candidate


def test_upgrade_goes_step_by_step(upgrading: tuple[Any, Any, Any], loop: FakeLoop) -> None:
    session, old, candidate = upgrading
    assert session.state is State.UPGRADING
    assert session.http_port("websocket") is candidate
    assert not session.is_releasing
    session.send(text("4before the probe"))
    loop.settle()
    assert old.written == [b"4before the probe"]

    session.receive(candidate, PROBE)
    assert candidate.written == [b"3probe"]
    assert old.calls == ["release"]
    assert session.is_releasing
    assert session.transport == "polling"
    old.writable = False
    session.send(text("4during the probe"))
    loop.settle()
    assert candidate.written == [b"3probe"], "until the client says so, everything takes the old way"

    session.receive(candidate, UPGRADE)
    assert session.state is State.OPEN
    assert session.transport == "websocket"
    assert old.calls == ["release", "detach"]
    assert candidate.written == [b"3probe", b"4during the probe"]
    assert session.engine.counters.upgrades == 1
    session.receive_message(old, "late")
    loop.advance(11)
    assert session.transport == "websocket", "the upgrade's time limit has gone with it"


def test_probe_flushes_the_old_port_before_it_is_released(upgrading: tuple[Any, Any, Any]) -> None:
    session, old, candidate = upgrading
    session.send(text("4a"))
    session.receive(candidate, PROBE)
    assert old.written == [b"4a"]


def test_messages_of_the_old_port_are_delivered_during_the_upgrade(upgrading: tuple[Any, Any, Any]) -> None:
    session, old, candidate = upgrading
    got: list[Any] = []
    session.engine.on("message", lambda sid, data: got.append(data))
    session.receive_message(old, "a")
    session.receive(candidate, PROBE)
    session.receive_message(old, "b")
    assert got == ["a", "b"]


WRONG_FROM_CANDIDATE = [
    Packet(PacketType.PING, ""),
    Packet(PacketType.PING, "other"),
    Packet(PacketType.PONG, "probe"),
    Packet(PacketType.MESSAGE, "x"),
    Packet(PacketType.MESSAGE, b"x"),
    Packet(PacketType.UPGRADE, ""),
    Packet(PacketType.NOOP, ""),
    Packet(PacketType.CLOSE, ""),
    Packet(PacketType.OPEN, ""),
]


@pytest.mark.parametrize("packet", WRONG_FROM_CANDIDATE, ids=lambda packet: f"{packet.type.name} {packet.data!r}")
def test_anything_but_a_probe_drops_the_candidate(upgrading: tuple[Any, Any, Any], packet: Packet) -> None:
    session, old, candidate = upgrading
    session.receive(candidate, packet)
    assert session.state is State.OPEN
    assert session.transport == "polling"
    assert candidate.calls == ["close"]
    assert old.calls == []
    session.receive(candidate, PROBE)
    assert candidate.written == []


@pytest.mark.parametrize("packet", [PROBE, Packet(PacketType.MESSAGE, "x"), Packet(PacketType.CLOSE, "")])
def test_anything_but_an_upgrade_after_the_probe_drops_the_candidate(
    upgrading: tuple[Any, Any, Any], packet: Packet
) -> None:
    session, _, candidate = upgrading
    session.receive(candidate, PROBE)
    session.receive(candidate, packet)
    assert session.state is State.OPEN
    assert session.transport == "polling"
    assert candidate.calls == ["close"]


def test_upgrade_that_takes_too_long_is_dropped(upgrading: tuple[Any, Any, Any], loop: FakeLoop) -> None:
    session, _, candidate = upgrading
    loop.advance(9.5)
    assert session.state is State.UPGRADING
    loop.advance(1)
    assert session.state is State.OPEN
    assert candidate.calls == ["close"]


def test_candidate_that_cannot_say_goodbye_is_aborted(upgrading: tuple[Any, Any, Any], loop: FakeLoop) -> None:
    _, _, candidate = upgrading
    candidate.can_say_goodbye = False
    loop.advance(11)
    assert candidate.calls == ["close", "abort"]


def test_lost_candidate_leaves_the_session_where_it_was(upgrading: tuple[Any, Any, Any]) -> None:
    session, _, candidate = upgrading
    session.port_lost(candidate, reasons.TRANSPORT_CLOSE)
    assert session.state is State.OPEN
    assert session.may_upgrade_to("websocket"), "and may try again"


def test_broken_candidate_leaves_the_session_where_it_was(upgrading: tuple[Any, Any, Any]) -> None:
    session, _, candidate = upgrading
    session.port_failed(candidate, RemoteProtocolError(catalogue.EMPTY_PACKET))
    assert session.state is State.OPEN
    assert candidate.calls == ["close"]


def test_lost_port_during_an_upgrade_ends_the_session_and_the_candidate(upgrading: tuple[Any, Any, Any]) -> None:
    session, old, candidate = upgrading
    session.port_lost(old, reasons.TRANSPORT_CLOSE)
    assert session.closed
    assert candidate.calls == ["close"]


def test_second_candidate_is_refused(upgrading: tuple[Any, Any, Any]) -> None:
    session, _, candidate = upgrading
    with pytest.raises(RequestRefused):
        session.begin_upgrade(FakePort("websocket"))
    session.receive(candidate, PROBE)
    session.receive(candidate, UPGRADE)
    assert session.transport == "websocket"


@pytest.mark.parametrize(
    ("current", "to", "allowed"),
    [
        ("polling", "websocket", True),
        ("polling", "xhr-streaming", True),
        ("xhr-streaming", "websocket", True),
        ("xhr-streaming", "polling", False),
        ("xhr-streaming", "xhr-streaming", False),
        ("websocket", "polling", False),
        ("websocket", "websocket", False),
        ("websocket", "xhr-streaming", False),
    ],
)
def test_upgrades_lead_upwards_only(
    engine: Engine, open_session: OpenSession, current: str, to: str, allowed: bool
) -> None:
    session, _ = open_session(engine, FakePort(current))
    assert session.may_upgrade_to(to) is allowed
    if not allowed:
        with pytest.raises(RequestRefused):
            session.begin_upgrade(FakePort(to))  # type: ignore[arg-type]
        assert session.state is State.OPEN


def test_upgrades_can_be_turned_off(make_engine: Callable[..., Engine], open_session: OpenSession) -> None:
    session, _ = open_session(make_engine(allow_upgrades=False))
    assert not session.may_upgrade_to("websocket")
    session, _ = open_session(make_engine(transports=["polling"]))
    assert not session.may_upgrade_to("websocket")


def test_heartbeat_goes_on_through_an_upgrade(upgrading: tuple[Any, Any, Any], loop: FakeLoop) -> None:
    session, old, candidate = upgrading
    session.receive(candidate, PROBE)
    session.receive(candidate, UPGRADE)
    loop.advance(25.5)
    assert candidate.written == [b"3probe", b"2"]
    assert old.written == []


# -- end -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (reasons.SERVER_DISCONNECT, 1000),
        (reasons.SERVER_SHUTDOWN, 1012),
        (reasons.PARSE_ERROR, 1002),
        (reasons.CONNECT_TIMEOUT, 1008),
        (reasons.CLIENT_DISCONNECT, 1000),
    ],
)
def test_goodbye_carries_what_waits_and_the_code_of_its_reason(
    engine: Engine, open_session: OpenSession, reason: str, code: int
) -> None:
    seen: list[Any] = []
    engine.on("disconnect", lambda sid, why: seen.append((sid, why)))
    session, port = open_session(engine)
    session.send(text("4last"))
    session.close(reason)
    assert session.closed
    assert port.closed_with == (b"4last", code, reason, reason == reasons.CLIENT_DISCONNECT)
    assert seen == [(session.id, reason)]
    assert engine.counters.closed == {reason: 1}
    assert session.id not in engine.sockets


@pytest.mark.parametrize("reason", [reasons.SLOW_CLIENT, reasons.TRANSPORT_CLOSE, reasons.TRANSPORT_ERROR])
def test_no_goodbye_where_nobody_would_read_it(engine: Engine, open_session: OpenSession, reason: str) -> None:
    session, port = open_session(engine)
    session.close(reason)
    assert port.calls == ["abort"]
    assert session.closed


def test_ping_timeout_of_a_jammed_client_aborts(engine: Engine, open_session: OpenSession) -> None:
    session, port = open_session(engine, FakePort(writable=False))
    session.close(reasons.PING_TIMEOUT)
    assert port.calls == ["abort"]


def test_given_close_code_wins(engine: Engine, open_session: OpenSession) -> None:
    session, port = open_session(engine)
    session.port_failed(port, RemoteProtocolError(catalogue.MESSAGE_TOO_BIG))  # type: ignore[arg-type]
    assert port.closed_with is not None
    assert port.closed_with[1] == 1009


def test_session_closes_once(engine: Engine, open_session: OpenSession) -> None:
    seen: list[Any] = []
    engine.on("disconnect", lambda sid, why: seen.append(why))
    session, port = open_session(engine)
    session.close(reasons.SERVER_DISCONNECT)
    session.close(reasons.TRANSPORT_CLOSE)
    session.port_lost(port, reasons.TRANSPORT_CLOSE)  # type: ignore[arg-type]
    session.give_up()
    assert seen == [reasons.SERVER_DISCONNECT]
    assert session.close_reason == reasons.SERVER_DISCONNECT


def test_closed_session_leaves_no_timer(engine: Engine, open_session: OpenSession, loop: FakeLoop) -> None:
    session, port = open_session(engine)
    session.close(reasons.SERVER_DISCONNECT)
    loop.advance(100)
    assert port.written == []
    assert not session.is_queued


def test_polling_client_without_a_request_is_told_by_its_next(engine: Engine, ask: Callable[..., FakeExchange]) -> None:
    opening = ask(engine, "EIO=4&transport=polling")
    [session] = engine.sockets.values()
    assert opening.packets[0].startswith("0{")
    session.send(text("4last"))
    session.close(reasons.SERVER_DISCONNECT)
    assert session.state is State.CLOSING
    post = ask(engine, f"EIO=4&transport=polling&sid={session.id}", b"4x", method="POST")
    assert post.error == (400, 1)
    assert ask(engine, f"EIO=4&transport=polling&sid={session.id}").packets == ["4last", "1"]
    assert session.closed
    assert ask(engine, f"EIO=4&transport=polling&sid={session.id}").error == (400, 1)


def test_polling_client_that_does_not_come_is_given_up(
    engine: Engine, ask: Callable[..., FakeExchange], loop: FakeLoop
) -> None:
    ask(engine, "EIO=4&transport=polling")
    [session] = engine.sockets.values()
    session.close(reasons.SERVER_DISCONNECT)
    loop.advance(GOODBYE_TIMEOUT_S - 0.5)
    assert session.state is State.CLOSING
    loop.advance(1)
    assert session.closed
    assert not engine.sockets


def test_application_may_set_a_deadline(engine: Engine, open_session: OpenSession, loop: FakeLoop) -> None:
    passed: list[Any] = []

    class Application:
        def deadline_passed(self, session: Session) -> None:
            passed.append(session)

    session, _ = open_session(engine)
    engine.application = Application()  # type: ignore[assignment]
    session.application_deadline = engine.now() + 5
    session.arm()
    loop.advance(4.5)
    assert passed == []
    loop.advance(1)
    assert passed == [session]
    loop.advance(10)
    assert passed == [session]


def test_user_session_is_made_when_it_is_asked_for(engine: Engine, open_session: OpenSession, loop: FakeLoop) -> None:
    session, _ = open_session(engine)
    assert session.user_session is None
    loop.run(engine.save_session(session.id, {"name": "x"}))
    assert loop.run(engine.get_session(session.id)) == {"name": "x"}
    assert session.session == {"name": "x"}


def test_waiting_sender_can_be_cancelled_without_harm_to_the_others(
    make_engine: Callable[..., Engine], open_session: OpenSession, loop: FakeLoop
) -> None:
    engine = make_engine(max_buffered_bytes=100_000)
    session, port = open_session(engine)
    port.writable, port.buffered = False, 80_000
    session.port_paused(port)  # type: ignore[arg-type]
    first, second = (loop.create_task(session.wait_for_room()) for _ in range(2))
    loop.settle()
    first.cancel()
    loop.settle()
    assert first.cancelled()
    assert not second.done()
    port.buffered, port.writable = 0, True
    session.port_resumed(port)  # type: ignore[arg-type]
    loop.settle()
    assert second.done()
    assert not second.cancelled()
    with pytest.raises(asyncio.CancelledError):
        first.result()


@pytest.mark.parametrize("transport", ["websocket", "xhr-streaming"])
def test_what_is_unsent_of_an_earlier_answer_counts_from_the_start(
    loop: FakeLoop, make_engine: Callable[..., Engine], transport: str
) -> None:
    """Sent ahead of the handshake, a request whose answer is not read leaves the connection full already."""
    engine = make_engine(max_buffered_bytes=100_000)
    headers = WEBSOCKET_HEADERS if transport == "websocket" else {}
    exchange = FakeExchange(request(f"EIO=4&transport={transport}", headers=headers))
    exchange.unsent_before = 60_000
    engine.handle(exchange)
    loop.settle()
    [session] = engine.sockets.values()
    for _ in range(10):
        session.send(text("4" + "x" * 20_000))
        loop.settle()
    assert session.closed
    assert session.close_reason == reasons.SLOW_CLIENT
    assert exchange.transport is not None
    assert len(exchange.transport.written) < 100_000
