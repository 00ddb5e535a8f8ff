"""What a client has missed goes in front of everything else, however much it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.transports.engine_doubles import FakeLoop, FakePort, text
from transports import reasons
from transports.engine import Engine
from transports.outbound import Run
from transports.replay import PORTION_BYTES, Replay

OpenSession = Callable[..., Any]


class NarrowPort(FakePort):
    """Takes one message at a time, and no more than it is told to."""

    def __init__(self, takes: int = 0) -> None:
        super().__init__("websocket", writable=takes > 0)
        self.takes = takes
        self.largest = 0

    def write(self, run: Run) -> Run | None:
        messages = run.messages()
        self.largest = max(self.largest, run.nbytes)
        self.takes -= 1
        self.writable = self.takes > 0
        self.written.append(messages[0].text or b"")
        return Run.of(messages[1:])


def test_portions_are_taken_and_put_back_in_order() -> None:
    replay = Replay()
    messages = [text(f"4{n}" + "x" * (PORTION_BYTES // 3)) for n in range(7)]
    replay.add(messages)
    total = replay.nbytes
    first = replay.take()
    assert first is not None
    assert first.messages() == messages[:3]
    replay.put_back(Run.of(messages[1:3]))  # type: ignore[arg-type]
    assert (len(replay), replay.nbytes) == (6, total - messages[0].nbytes)
    second = replay.take()
    assert second is not None
    assert second.messages() == messages[1:4]
    replay.clear()
    assert (len(replay), replay.nbytes, replay.take()) == (0, 0, None)


@pytest.fixture
def session(engine: Engine, open_session: OpenSession, loop: FakeLoop) -> Any:
    return open_session(engine, NarrowPort())[0]


def test_what_is_sent_again_comes_behind_what_waits_and_before_what_follows(session: Any, loop: FakeLoop) -> None:
    session.send(text("4hello"))
    session.send_again([text("4missed1"), text("4missed2")])
    session.send(text("4new"))
    session.conflate("key", text("4price1"))
    session.send_again([text("4missed3")])
    session.conflate("key", text("4price2"))
    loop.settle()
    assert session.port.written == []
    for _ in range(6):
        session.port.takes = 1
        session.port.writable = True
        session.port_resumed(session.port)
    assert session.port.written == [b"4hello", b"4missed1", b"4missed2", b"4new", b"4missed3", b"4price2"]
    assert session.is_plain()


def test_more_than_may_wait_is_sent_again_in_portions(
    engine: Engine, open_session: OpenSession, loop: FakeLoop
) -> None:
    session = open_session(engine, NarrowPort())[0]
    count = 20
    size = engine.max_buffered_bytes // 10
    session.send_again([text(f"4{n:02}" + "x" * size) for n in range(count)])
    loop.settle()
    assert not session.closing
    assert session.held_bytes() > 2 * engine.max_buffered_bytes
    assert session.backlog() == 0
    session.port.takes = count
    session.port.writable = True
    session.port_resumed(session.port)
    assert [written[1:3] for written in session.port.written] == [b"%02d" % n for n in range(count)]
    assert session.port.largest < PORTION_BYTES + size + 1000


def test_what_follows_is_bounded_as_ever(engine: Engine, open_session: OpenSession, loop: FakeLoop) -> None:
    session = open_session(engine, NarrowPort())[0]
    session.send_again([text("4missed")])
    for _ in range(20):
        session.send(text("4" + "x" * (engine.max_buffered_bytes // 10)))
    assert session.close_reason == reasons.SLOW_CLIENT


def test_session_that_ends_keeps_none_of_it(session: Any, engine: Engine, loop: FakeLoop) -> None:
    session.send_again([text("4missed")])
    session.send(text("4new"))
    session.close(reasons.SERVER_DISCONNECT)
    assert session.port is None or session.port.written == []
    assert not session.replay
    session.send_again([text("4missed")])
    assert engine.counters.dropped_closed == 1
    assert not session.replay
