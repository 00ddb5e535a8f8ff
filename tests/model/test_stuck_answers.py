"""Answers that their peer does not take are not kept for ever."""

from tests.model.network import Network
from tests.model.wire_format import Answer, get_head
from tests.unit.transports.engine_doubles import running_loop
from transports.engine import Engine
from transports.hosts.listener import KEEPALIVE_TIMEOUT_S, STUCK_S, Listener


def test_answer_that_its_peer_does_not_take_is_dropped_in_the_end() -> None:
    with running_loop() as loop:
        wire = Network(loop, Listener({"/engine.io/": Engine()}, None)).connect()
        wire.expect(Answer())
        wire.jam()
        wire.send(get_head("transport=polling"))
        # Closed as idle; what it holds may still leave.
        loop.advance(KEEPALIVE_TIMEOUT_S + 1)
        assert wire.backlog
        assert not wire.is_dead
        loop.advance(STUCK_S)
        assert wire.is_dead
